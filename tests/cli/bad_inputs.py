"""Bad inputs of the command line, each with what it takes to give it. `docs/errors.md` lists them with their messages.

`python -m tests.cli.bad_inputs` writes the tables of that page from what the command line really says; the tests
compare.
"""

from __future__ import annotations

import io
import json
import re
import shutil
import signal
import sqlite3
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import zstandard

from agentgym_rft.agents.policies.loading import load_model, save_model
from agentgym_rft.cli import main as cli
from agentgym_rft.envs.alfworld.export import export_games
from agentgym_rft.envs.webshop.synth import export
from agentgym_rft.store.experience import ExperienceStore
from agentgym_rft.trainers.sft.model import build_model
from tests.agents.policies.tiny_gguf import write_gguf, write_part
from tests.light_switch import MODEL, LightSwitch, make_policy

PAGE = Path(__file__).parents[2] / "docs" / "errors.md"
ENV = "tests.light_switch:LightSwitch"
TEAM = "tests.team_switch:TeamSwitch"
QUICK = (
    "--rollout.num_tasks=2",
    "--rollout.group_size=2",
    "--rollout.max_retries=0",
    "--eval.num_tasks=2",
    "--policy.num_threads=1",
    "--policy.device=cpu",
    "--policy.max_context=64",
)
ROW = re.compile(r"^\| (?P<what>.+?) \| `` (?P<message>.+) `` \| (?P<code>\d+) \|$", re.MULTILINE)


class PressesCtrlC(LightSwitch):
    """A person who wants the run to end at once: Ctrl-C twice in a training episode."""

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        if self._task < 30:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        return super().step(action)


class Broken(LightSwitch):
    """Every task has the fault, not only some."""

    def _breaks(self, where: str) -> bool:
        return where == self._fault


class NotText:
    """No environment at all."""


@dataclass(frozen=True)
class Place:
    """A folder for one bad input, and a good policy and a good run of two steps to copy from."""

    folder: Path
    policy: Path
    run: Path


@dataclass(frozen=True)
class Case:
    """One bad input: its description in the table and its command line.

    `code` is the exit code. `quotes` is where the message goes on with the words of another library, which its next
    version may change.
    """

    what: str
    args: Callable[[Place], Sequence[str | Path]]
    code: int = 2
    quotes: str = ""


def train(*more: str, env: str = ENV, code: int = 2, what: str = "", quotes: str = "") -> Case:
    """A new run that differs from a good one in `more`."""
    return Case(
        what or f"`{' '.join(more)}`",
        lambda at: ["train", "--env", env, "--policy", at.policy, "--out", at.folder / "new", *QUICK, *more],
        code,
        quotes,
    )


def team_eval(*more: str) -> Case:
    """An evaluation of several agents."""
    return Case(f"`eval {' '.join(more)}`", lambda at: ["eval", "--env", TEAM, "--tasks", "2", *more])


def policy(what: str, change: Callable[[Path], object], quotes: str = "", more: Sequence[str] = ()) -> Case:
    """A new run from a changed copy of a good policy."""

    def args(at: Place) -> Sequence[str | Path]:
        shutil.copytree(at.policy, at.folder / "policy")
        change(at.folder / "policy")
        return ["train", "--env", ENV, "--policy", at.folder / "policy", "--out", at.folder / "new", *QUICK, *more]

    return Case(what, args, quotes=quotes)


def resume(what: str, change: Callable[[Path], object], *more: str) -> Case:
    """A changed copy of a good run, resumed."""

    def args(at: Place) -> Sequence[str | Path]:
        shutil.copytree(at.run, at.folder / "run")
        change(at.folder / "run")
        return ["train", "--resume", at.folder / "run", *more]

    return Case(what, args)


def viewed(what: str, change: Callable[[Path], object], quotes: str = "") -> Case:
    """The report of a changed copy of a good run."""

    def args(at: Place) -> Sequence[str | Path]:
        shutil.copytree(at.run, at.folder / "run")
        change(at.folder / "run")
        return ["view", at.folder / "run"]

    return Case(what, args, quotes=quotes)


def games(what: str, change: Callable[[Path], object], quotes: str = "") -> Case:
    """A new run on exported games whose files were changed."""

    def args(at: Place) -> Sequence[str | Path]:
        for split in ("train", "valid_unseen"):
            export_games(at.folder / "data", split, 1)
        for path in at.folder.rglob("game.tw-pddl"):
            change(path)
        out = at.folder / "new"
        return ["train", "--env", "alfworld", "--data", at.folder / "data", "--policy", at.policy, "--out", out, *QUICK]

    return Case(what, args, quotes=quotes)


def shop(what: str, change: Callable[[Path], object], *more: str, quotes: str = "") -> Case:
    """An evaluation in a small shop whose exported files were changed."""

    def args(at: Place) -> Sequence[str | Path]:
        export(at.folder / "data", 60, 0)
        change(at.folder / "data")
        return [*SHOP, "--data", at.folder / "data", *more]

    return Case(what, args, quotes=quotes)


def panel(what: str, change: Callable[[Path], object]) -> Case:
    """An evaluation on a panel file that was changed after it was frozen."""

    def args(at: Place) -> Sequence[str | Path]:
        path = at.folder / "panel.json"
        freeze = ["panel", "freeze", "--env", "arithmetic", "--split", "test", "--tasks", "2", "--out", path]
        assert call(freeze) == (0, "")
        change(path)
        return ["eval", "--panel", path, "--policy", "oracle"]

    return Case(what, args)


def in_attributes(asin: str) -> Callable[[Path], object]:
    """The attributes file asks for a product that the products file does not have."""
    wish = {"attributes": ["light weight"], "instruction": "Find me a lamp", "instruction_attributes": ["light weight"]}
    return lambda data: edit_json(data / "items_ins_v2_1000.json", **{asin: wish})


def of_another_task(path: Path) -> None:
    tasks = json.loads(path.read_text())["tasks"]
    edit_json(path, tasks=[{**tasks[0], "content": tasks[1]["content"]}, *tasks[1:]])


def results(what: str, *first: str, second: Sequence[str] = ()) -> Case:
    """Two results of arithmetic, made with other options, compared."""

    def args(at: Place) -> Sequence[str | Path]:
        paths = [at.folder / "a.json", at.folder / "b.json"]
        for path, options in zip(paths, (first, second), strict=True):
            made = ["eval", "--env", "arithmetic", "--policy", "oracle", "--out", path, *options]
            assert call(made)[0] == 0
        return ["leaderboard", "--compare", *paths]

    return Case(what, args)


def evaluate(*more: str, quotes: str = "") -> Case:
    """An evaluation of a good policy with one option more."""
    args = ["eval", "--env", ENV, "--device", "cpu", *more]
    return Case(f"`eval {' '.join(more)}`", lambda at: [*args, "--policy", at.policy], quotes=quotes)


BOUNDLESS = (
    "--sft.learning_rate=1e30",
    "--sft.matrix_learning_rate=1e30",
    "--sft.max_grad_norm=1e38",
    "--sft.batch_tokens=200",
    "--sft.tokenizer_episodes=2",
)


def sft(what: str, *more: str, env: str = ENV, code: int = 2) -> Case:
    """A supervised run."""
    return Case(what, lambda at: ["sft", "--env", env, "--out", at.folder / "new", "--device", "cpu", *more], code)


def in_folder(what: str, make: Callable[[Path], object], *args: str, quotes: str = "") -> Case:
    """A command line in which DIR is the case's folder, after `make` put something there; see also `Place`."""

    def build(at: Place) -> Sequence[str | Path]:
        make(at.folder)
        words = {"POLICY": str(at.policy), "RUN": str(at.run)}
        return [re.sub("POLICY|RUN", lambda m: words[m[0]], arg).replace("DIR", str(at.folder)) for arg in args]

    return Case(what, build, quotes=quotes)


def resume_with_another_model(at: Place) -> Sequence[str | Path]:
    """A run resumed on a policy whose model is wider."""
    _, tokenizer = load_model(at.policy, device="cpu")
    save_model(
        at.folder / "wide", build_model(MODEL.model_copy(update={"hidden_size": 32}), len(tokenizer), 0), tokenizer
    )
    shutil.copytree(at.run, at.folder / "run")
    return ["train", "--resume", at.folder / "run", "--policy", at.folder / "wide"]


def gguf(what: str, make: Callable[[Path], object], *more: str, quotes: str = "") -> Case:
    """An import of the file that `make` writes."""

    def change(folder: Path) -> None:
        make(folder / "m.gguf")
        (folder / "empty.jinja").write_text("Hello.")
        (folder / "thesis").mkdir()
        (folder / "thesis" / "one.txt").write_text("mine")

    return in_folder(what, change, "import-model", "DIR/m.gguf", "--out", "DIR/new", *more, quotes=quotes)


def nothing(_: Path) -> None: ...


LAST_TRAJECTORIES = "trajectories/step_000002.jsonl.zst"


def first(pattern: str, change: Callable[[Path], object]) -> Callable[[Path], object]:
    """A change of the first file of a folder that has this name."""
    return lambda folder: change(min(folder.glob(pattern)))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-8] ^= 1
    path.write_bytes(content)


def won_as_a_word(path: Path) -> None:
    text = zstandard.decompress(path.read_bytes()).decode()
    lines = (line.partition(" ")[2] for line in text.splitlines())  # without their checksums, as version 0.1 wrote them
    plain = re.sub(r'"won":\w+', '"won":"no"', "\n".join(lines))
    path.write_bytes(zstandard.compress(plain.encode()))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def remove(*names: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return change


def edit_json(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def each_checkpoint(change: Callable[[Path], object]) -> Callable[[Path], None]:
    def apply(run: Path) -> None:
        for path in (run / "checkpoints").iterdir():
            change(path)

    return apply


def other_vocabulary(folder: Path) -> None:
    ExperienceStore(folder / "s.db", "0123456789abcdef").close()


def changed_row(folder: Path) -> None:
    ExperienceStore(folder / "s.db", "words").close()
    with closing(sqlite3.connect(folder / "s.db", isolation_level=None)) as db:
        db.execute("UPDATE meta SET value = 'others' WHERE key = 'vocabulary'")


def one_shard_less(folder: Path) -> None:
    model, _ = load_model(folder, device="cpu")
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="10KB")
    max(folder.glob("model-*.safetensors")).unlink()


def more_tokens(folder: Path) -> None:
    _, tokenizer = load_model(folder, device="cpu")
    tokenizer.add_tokens([f"<{number}>" for number in range(50)])
    tokenizer.save_pretrained(folder)


def of_another_kind(folder: Path) -> None:
    path = folder / "tokenizer.json"
    path.write_text(path.read_text().replace('"type": "BPE"', '"type": "Other"'))


def without_its_merge(path: Path) -> None:
    data = write_gguf(path).read_bytes()
    first = data.index(b"tokenizer.ggml.merges") + len(b"tokenizer.ggml.merges") + 24  # kinds, number, length
    path.write_bytes(data[:first] + b"~" + data[first + 1 :])


def as_tools_only(folder: Path) -> None:
    (folder / "additional_chat_templates").mkdir()
    (folder / "chat_template.jinja").rename(folder / "additional_chat_templates" / "tool_use.jinja")


def as_endless(folder: Path) -> None:
    (folder / "generation_config.json").unlink()
    text("chat_template.jinja", "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:")(folder)


def as_damaged_pickle(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"x" * 100)


def as_adapter(folder: Path) -> None:
    remove("config.json", "model.safetensors")(folder)
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')


def as_gguf(folder: Path) -> None:
    remove("config.json", "model.safetensors")(folder)
    (folder / "model-q8_0.gguf").write_bytes(b"GGUF")


def make_nested(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")


def text(name: str, content: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(content)


LFS_POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 4096\n"
SHOP = ("eval", "--env", "webshop", "--policy", "expert", "--tasks", "2")
SERVE = ("serve", "--policy", "POLICY", "--store", "DIR/s.db", "--max-context", "64", "--device", "cpu")
TRAIN_BASE = ("train", "--env", ENV, "--policy", "POLICY", *QUICK)

CASES: dict[str, tuple[Case, ...]] = {
    "Names and options": (
        train(env="alfwrld", what="`--env alfwrld`"),
        train(env="no_such:Env", what="`--env no_such:Env`"),
        train(env="tests.light_switch:LightSwich", what="`--env tests.light_switch:LightSwich`"),
        train(env="tests.cli.bad_inputs:NotText", what="an environment that is no `TextEnv`"),
        train("--recipe", "alfworl"),
        train("--recipe", "none.yaml"),
        train("--stepz", "3"),
        train("--trainer.stepz=3"),
        train("--env.options.falt=reset"),
        train("--steps=2", "--trainer.steps=3"),
        train("--algorithm.name=grop"),
        train("--algorithm.name=my_algorithm:mine"),
        train("--algorithm.name=tests.light_switch:LightSwitch"),
        train("--algorithm.controls=[clip_bb]"),
        train("--rollout.operators=[drop_truncate]"),
        train("--algorithm.options.scal=std"),
        train("--algorithm.options.scale=sd"),
        train("--algorithm.name=opd"),
        train("--algorithm.teacher=seed"),
        train("--policy.num_threads=1000000000"),
        train("--rollout.num_tasks=1000", "--rollout.group_size=10000"),
        train("--rollout.strategy=plian"),
        train("--rollout.reflect.reflector=me"),
        train("--rollout.stored=runs/none"),
        train("--workers", "slurm"),
        train("--policy.device=gpu"),
        train("--policy.device=cuda:99", quotes="this machine has"),
        in_folder(
            "`--policy vllm:DIR --policy.dtype=bfloat16`",
            nothing,
            "train",
            "--policy",
            "vllm:DIR",
            "--policy.dtype=bfloat16",
        ),
        train("--env.options.preset=princton", env="webshop", what="`--env webshop --env.options.preset=princton`"),
        train("--env.split=trian"),
        train("--eval.split=valid"),
        train("--agent.card=plian"),
        train("--agent.overrides.context.strategy=ful"),
        train("--agent.overrides.chat_template_kwargs={tokenize: true}"),
        train("--agent.date=tomorrow"),
        train("--agent.overrides.contxt.strategy=full"),
        in_folder("`agentgym trian`", nothing, "trian", quotes="No such command"),
    ),
    "Values": (
        train("--steps", "0"),
        train("--steps", "-1"),
        train("--steps", "many", quotes="Invalid value"),
        train("--trainer.learning_rate=0"),
        train("--trainer.learning_rate=.nan"),
        train("--trainer.learning_rate=.inf"),
        train("--trainer.learning_rate=1e308"),
        train("--trainer.learning_rate=1e30", "--trainer.weight_decay=1e30", code=1),
        train("--trainer.betas=[0.9, 1]"),
        train("--trainer.steps=[1"),
        train("--rollout.temperature=0"),
        train("--rollout.group_size=1"),
        train("--policy.max_context=4096"),
        train("--policy.max_context=24"),
        evaluate("--max-context", "24"),
        sft("`sft --model.max_context=16`", "--model.max_context=16", "--agent.card=think"),
        in_folder(
            "a recipe that is not YAML", text("r.yaml", "trainer: [1"), "train", "--recipe", "DIR/r.yaml", *QUICK
        ),
        in_folder(
            "a recipe with a wrong key", text("r.yaml", "trainer: {stepz: 3}"), "train", "--recipe", "DIR/r.yaml"
        ),
        in_folder("a recipe with a wrong section", text("r.yaml", "trainer: 3"), "train", "--recipe", "DIR/r.yaml"),
        evaluate("--tasks", "0", quotes="Invalid value"),
        evaluate("--temperature", "-1", quotes="Invalid value"),
        in_folder(
            "`sft --init DIR --model.max_context=4096`",
            nothing,
            *("sft", "--env", ENV, "--init", "POLICY", "--out", "DIR/new", "--model.max_context=4096"),
        ),
        sft("`sft --model.num_heads=3 --model.num_kv_heads=2`", "--model.num_heads=3", "--model.num_kv_heads=2"),
        sft("`sft --sft.tokens=0`", "--sft.tokens=0"),
        sft("`sft --sft.optimizer=sgd`", "--sft.optimizer=sgd"),
        sft("`sft --sft.learning_rate=nan`", "--sft.learning_rate=.nan"),
        sft("`sft --sft.learning_rate=1e308`", "--sft.learning_rate=1e308"),
        sft("`sft --sft.gradient_checkpointing=true`", "--sft.gradient_checkpointing=true"),
        in_folder(
            "`sft --sft.lora.targets` that is not there",
            nothing,
            *("sft", "--env", ENV, "--init", "POLICY", "--out", "DIR/new", "--device", "cpu"),
            *("--model.max_context=64", "--sft.lora.rank=2", "--sft.lora.targets=[nope]"),
        ),
    ),
    "Several agents": (
        train("--team.seats.c.policy=random", env=TEAM),
        train("--team.seats.a.policy=random", "--team.seats.switcher.policy=oracle", env=TEAM),
        train("--team.seats.a.policy=random", "--team.seats.b.policy=random", env=TEAM),
        train("--team.seats.a.polcy=random", env=TEAM),
        train("--team.seats.a.policy=runs/none", env=TEAM),
        train("--team.pool.share=0.5"),
        train("--team.seats.a.policy=random"),
        train("--rollout.strategy=counterfactual"),
        train("--env.options.fault=step", env=TEAM, code=1),
        train("--env.options.fault=stranger", env=TEAM, code=1),
        team_eval("--seat", "a=random", "--seat", "a=oracle", "--seat", "b=random"),
        team_eval("--seat", "a=random"),
        team_eval("--seat", "c=random", "--policy", "random"),
    ),
    "Games": (
        in_folder("a data directory that is not there", nothing, "train", "--data", "DIR/none"),
        in_folder(
            "a data directory without games",
            lambda at: (at / "json_2.1.1" / "train").mkdir(parents=True),
            *("train", "--data", "DIR"),
        ),
        games("a game file that is cut off", cut),
        games("a game file that is not JSON", lambda path: path.write_text('{"solvable": true, }'), quotes="(Exp"),
        games("a game of an unknown domain", lambda path: edit_json(path, pddl_domain="(define (domain other))")),
        games("a game whose problem is damaged", lambda path: edit_json(path, pddl_problem="(define (problem")),
    ),
    "The shop": (
        in_folder("a folder of the shop's files that is not there", nothing, *SHOP, "--data", "DIR/none"),
        in_folder("a folder without products", nothing, *SHOP, "--data", "DIR"),
        shop("no attributes file", remove("items_ins_v2_1000.json")),
        shop("a products file that is cut off", lambda data: cut(data / "items_shuffle_1000.json")),
        shop("an attributes file that is cut off", lambda data: cut(data / "items_ins_v2_1000.json")),
        shop("a goal without its product", in_attributes("B000000000")),
    ),
    "Evaluation": (
        panel("a panel with the content of another task", of_another_task),
        panel("a panel file that is cut off", cut),
        in_folder("a panel file that is not there", nothing, "eval", "--panel", "DIR/none.json", "--policy", "oracle"),
        results("results of two panels", "--tasks", "2", second=("--tasks", "3")),
        results("results of two step limits", "--tasks", "2", second=("--tasks", "2", "--max-steps", "7")),
        in_folder("a leaderboard of no results", text("a.json", "{}"), "leaderboard", "DIR/a.json"),
    ),
    "Policies": (
        in_folder("a policy directory that is not there", nothing, *TRAIN_BASE[:3], "--policy", "DIR/none"),
        in_folder("the name of a model on a hub", nothing, *TRAIN_BASE[:3], "--policy", "Qwen/Qwen3-0.6B"),
        policy("no `config.json`", remove("config.json")),
        policy("no weights", remove("model.safetensors")),
        policy("no tokenizer", remove("tokenizer.json", "tokenizer_config.json")),
        policy("weights that are cut off", lambda path: cut(path / "model.safetensors"), "read: "),
        policy("a tokenizer that is cut off", lambda path: cut(path / "tokenizer.json"), "read: "),
        policy("a tokenizer of another kind", of_another_kind, "read: "),
        policy("a model of unknown type", lambda path: edit_json(path / "config.json", model_type="other"), "read: "),
        policy("weights of another shape", lambda path: edit_json(path / "config.json", hidden_size=32)),
        policy("a missing shard of the weights", one_shard_less),
        policy("a pointer of Git LFS in place of the weights", text("model.safetensors", LFS_POINTER)),
        policy("a `config.json` that is not JSON", text("config.json", "{")),
        policy("a `dtype` that is none", lambda path: edit_json(path / "config.json", dtype="bf16")),
        policy("a tokenizer larger than the embeddings", more_tokens),
        policy(
            "an encoder",
            lambda path: edit_json(path / "config.json", model_type="bert", architectures=["BertForMaskedLM"]),
        ),
        policy(
            "a classifier",
            lambda path: edit_json(path / "config.json", architectures=["Qwen3ForSequenceClassification"]),
        ),
        policy(
            "a vision model",
            lambda path: edit_json(path / "config.json", model_type="vit", architectures=["ViTModel"]),
        ),
        policy(
            "a model with code of its own",
            lambda path: edit_json(path / "config.json", model_type="mine", auto_map={"AutoModel": "mine.Model"}),
        ),
        policy(
            "quantised weights without their library",
            lambda path: edit_json(path / "config.json", quantization_config={"quant_method": "gptq", "bits": 4}),
            "read: ",
        ),
        policy("a pickle that is damaged", as_damaged_pickle),
        policy("an adapter alone", as_adapter),
        policy("a GGUF file alone", as_gguf),
        in_folder("a GGUF file", text("m.gguf", "GGUF"), *TRAIN_BASE[:3], "--policy", "DIR/m.gguf"),
        in_folder(
            "the folder above a policy",
            lambda at: make_nested(at / "snapshots" / "1a2b"),
            *(*TRAIN_BASE[:3], "--policy", "DIR"),
        ),
        policy("no chat template", remove("chat_template.jinja")),
        policy("a chat template that fails", text("chat_template.jinja", "{% for m in messages %}"), "rendered: "),
        policy(
            "a chat template that adds a number to a text",
            text("chat_template.jinja", "{{ 1 + messages[0]['content'] }}"),
            "rendered: ",
        ),
        policy("a chat template that shows nothing", text("chat_template.jinja", "Hello.")),
        policy("a chat template for tools only", as_tools_only),
        policy("a chat template that ends no reply", as_endless),
        policy(
            "a chat template that drops the card's tags, `--agent.card=think`",
            text("chat_template.jinja", "{% for m in messages %}{{ m.content | striptags }}<|end|>{% endfor %}"),
            more=["--agent.card=think"],
        ),
    ),
    "Models in GGUF": (
        gguf("a file that is not there", nothing),
        gguf("a directory", lambda path: path.mkdir()),
        gguf("a file of something else", lambda path: path.write_text("Dear diary")),
        gguf("a file that is cut off", lambda path: cut(write_gguf(path))),
        gguf(
            "a file that is cut off before its weights",
            lambda path: path.write_bytes(write_gguf(path).read_bytes()[:999]),
        ),
        gguf("one part of several", write_part),
        gguf("a projector of images", lambda path: write_gguf(path, architecture="clip", kind="mmproj")),
        gguf("a vocabulary without a model", lambda path: write_gguf(path, kind="vocab", skip=("weights",))),
        gguf("a model without a tokenizer", lambda path: write_gguf(path, skip=("tokenizer",))),
        gguf("a tokenizer that merges what it lacks", without_its_merge, quotes="Exception"),
        gguf(
            "an architecture that transformers does not read",
            lambda path: write_gguf(path, architecture="rwkv7"),
            quotes="ValueError",
        ),
        gguf("a model that lacks a tensor", lambda path: write_gguf(path, skip=("blk.1.ffn_up.weight",))),
        gguf("a model without a chat template", lambda path: write_gguf(path, template=None)),
        gguf("`--chat-template` is not there", write_gguf, "--chat-template", "DIR/none.jinja"),
        gguf("`--chat-template` shows nothing", write_gguf, "--chat-template", "DIR/empty.jinja"),
        gguf(
            "a model that is another when it is saved and read again",
            lambda path: write_gguf(path, architecture="qwen2"),
        ),
        gguf("`--out` holds something else", write_gguf, "--out", "DIR/thesis"),
        gguf("`--out` holds a policy", write_gguf, "--out", "POLICY"),
        gguf("`--out` is below a file", write_gguf, "--out", "DIR/m.gguf/policy"),
    ),
    "Run directories": (
        in_folder("`--out` below a file", text("file", ""), *TRAIN_BASE, "--out", "DIR/file/run"),
        in_folder("`--out` is a file", text("file", ""), *TRAIN_BASE, "--out", "DIR/file"),
        in_folder("`--out` in a read-only place", nothing, *TRAIN_BASE, "--out", "/proc/run"),
        in_folder("`--out` holds a run", nothing, *TRAIN_BASE, "--out", "RUN"),
        in_folder("`sft --out` holds a run", nothing, "sft", "--env", ENV, "--out", "RUN"),
        in_folder(
            "`eval --out` in a missing folder", nothing, "eval", "--policy", "POLICY", "--out", "DIR/none/x.json"
        ),
        in_folder("`eval --out` in a read-only place", nothing, "eval", "--policy", "POLICY", "--out", "/proc/x.json"),
        in_folder("`eval --out` is a folder", nothing, "eval", "--policy", "POLICY", "--out", "DIR"),
        in_folder(
            "`eval` of a run without checkpoint",
            text("config.yaml", f"env: {{id: '{ENV}'}}"),
            *("eval", "--policy", "DIR"),
        ),
        in_folder(
            "a run that names code of its own",
            text("config.yaml", "env: {id: 'given:Env'}"),
            *("eval", "--policy", "DIR"),
        ),
        in_folder("`view` of no run", nothing, "view", "DIR"),
        in_folder("`report` on no run", nothing, "report", "DIR"),
        viewed(
            "an evaluation whose success is a word", first("evaluations/*.json", lambda p: edit_json(p, success="no"))
        ),
        viewed("a trajectory file in which a bit changed", first(LAST_TRAJECTORIES, flip), quotes="zstd"),
        viewed("a trajectory whose `won` is a word", first(LAST_TRAJECTORIES, won_as_a_word)),
        viewed(
            "a small trajectory file that unpacks to 400 MB",
            first(LAST_TRAJECTORIES, lambda path: path.write_bytes(zstandard.compress(b"[" * 400_000_000))),
        ),
    ),
    "Resuming": (
        in_folder("no run there", nothing, "train", "--resume", "DIR"),
        resume("every checkpoint cut off", each_checkpoint(lambda path: cut(path / "model" / "model.safetensors"))),
        resume("every manifest missing", each_checkpoint(remove("manifest.json"))),
        Case("a policy of another shape", resume_with_another_model),
        resume("`config.yaml` empty", text("config.yaml", "")),
        resume("a damaged `metrics.jsonl`", text("metrics.jsonl", "?\n"), "--steps", "3"),
        resume("`--env alfworld`", nothing, "--env", "alfworld"),
        resume("`--env.id=alfworld`", nothing, "--env.id=alfworld"),
        resume("`--out` elsewhere", nothing, "--out", "elsewhere"),
        in_folder("`sft` with the run of `train`", nothing, "sft", "--resume", "RUN"),
        in_folder("`sft` with `--env`", nothing, "sft", "--resume", "RUN", "--env", "alfworld"),
    ),
    "Environments that fail": (
        train("--env.options.fault=reset", env="tests.cli.bad_inputs:Broken", code=1, what="`reset` always raises"),
        train("--env.options.fault=step", env="tests.cli.bad_inputs:Broken", code=1, what="`step` always raises"),
        train("--env.options.fault=nan", env="tests.cli.bad_inputs:Broken", code=1, what="the reward is always NaN"),
        train("--env.options.fault=score", env="tests.cli.bad_inputs:Broken", code=1, what="the score is always 7"),
        in_folder(
            "an environment without an oracle", nothing, "eval", "--env", ENV, "--policy", "oracle", "--tasks", "2"
        ),
        sft("`sft` without a scripted expert", env="tests.envs.counter_env:CounterEnv"),
        sft("`sft` whose weights grow beyond all bounds", *BOUNDLESS, code=1),
    ),
    "Serving": (
        in_folder("`serve --host 0.0.0.0`", nothing, *SERVE, "--host", "0.0.0.0"),
        in_folder("`serve --token ''`, an empty `AGENTGYM_SERVE_TOKEN`", nothing, *SERVE, "--token", ""),
        in_folder("a token with an accent or a line end in it", nothing, *SERVE, "--token", "clé"),
        in_folder(
            "an address of another machine", nothing, *SERVE, "--host", "192.0.2.1", "--token", "t", quotes="Cannot ass"
        ),
        in_folder("`serve --port 70000`", nothing, *SERVE, "--port", "70000", quotes="Invalid value"),
        in_folder("`serve --max-context 4096`", nothing, *SERVE, "--max-context", "4096"),
        in_folder("`serve --store` in a missing folder", nothing, *SERVE, "--store", "DIR/none/s.db"),
        in_folder("`serve --store` is no store", text("s.db", "x" * 999), *SERVE, quotes="file is not"),
        in_folder("a store of another tokenizer", other_vocabulary, *SERVE),
        in_folder("a store in which a row changed", changed_row, *SERVE),
    ),
}


def make_place(folder: Path) -> Place:
    """A good policy and a good run."""
    torch.set_num_threads(1)
    good = make_policy(folder / "policy")
    args = ["train", "--env", ENV, "--policy", good, "--out", folder / "run", "--steps", "2", *QUICK]
    code, error = call([*args, "--run.checkpoint_every=1"])
    assert (code, error) == (0, "")
    return Place(folder, good, folder / "run")


def call(args: Sequence[str | Path]) -> tuple[int, str]:
    """Exit code of a command line and what it wrote to stderr."""
    errors = io.StringIO()
    with redirect_stdout(io.StringIO()), redirect_stderr(errors):
        code = cli.run([str(arg) for arg in args])
    return code, errors.getvalue()


def message_of(case: Case, good: Place, folder: Path) -> tuple[int, str]:
    """Exit code and message of a bad input, with the folders of the test written as DIR."""
    folder.mkdir()
    code, error = call(case.args(Place(folder, good.policy, good.run)))
    for path in (folder, good.folder):
        error = error.replace(str(path), "DIR")
    return code, error


def rows(page: str) -> dict[str, tuple[int, str]]:
    """The tables of the page: description -> exit code and message."""
    return {match["what"]: (int(match["code"]), match["message"]) for match in ROW.finditer(page)}


def tables(folder: Path) -> str:
    """The tables of the page, from what the command line says now."""
    good = make_place(folder)
    lines = []
    for number, (title, cases) in enumerate(CASES.items()):
        lines += ["", f"## {title}", "", "| Given | Message | Exit code |", "|---|---|---|"]
        for index, case in enumerate(cases):
            code, error = message_of(case, good, folder / f"{number}.{index}")
            lines.append(f"| {case.what} | `` {error.strip()} `` | {code} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        head, mark, _ = PAGE.read_text(encoding="utf-8").partition("<!-- tables -->\n")
        PAGE.write_text(head + mark + tables(Path(name)), encoding="utf-8")
