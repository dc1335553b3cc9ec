"""What `fuzz.py` damages: each kind of file that the commands read, and what reads it."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))  # for the small environments of the tests

from agentgym_rft.agents.card import load_card
from agentgym_rft.cli import main as cli
from agentgym_rft.cli.settings import fresh_config, resumed_config, resumed_sft_config
from agentgym_rft.cli.stages import read_stages
from agentgym_rft.config.load import load_sft_config, read_yaml, shipped_dir
from agentgym_rft.config.run import AgentSection
from agentgym_rft.envs.alfworld import tasks as alfworld_tasks
from agentgym_rft.envs.alfworld.export import export_games
from agentgym_rft.envs.ended import close_env
from agentgym_rft.envs.making import make_env
from agentgym_rft.envs.panels import checked_panel, panel_text, read_panel
from agentgym_rft.envs.text_search import index_files
from agentgym_rft.envs.webshop.records import RecordStore, write_records
from agentgym_rft.envs.webshop.synth import export
from agentgym_rft.envs.webshop.synth.store import SyntheticStore
from agentgym_rft.evaluation.partial import PartialEvaluation
from agentgym_rft.report.published import read_published
from agentgym_rft.report.team_pages import crossplay_tables, read_crossplay
from agentgym_rft.store.experience import ExperienceStore
from agentgym_rft.store.journal import Journal
from agentgym_rft.store.stored_groups import open_groups
from agentgym_rft.store.trajectories import read_trajectories, write_trajectories
from agentgym_rft.trainers.algorithms import build_algorithm
from agentgym_rft.trainers.algorithms.operators import build_operators
from tests.cli.bad_inputs import ENV, QUICK, TEAM

Read = Callable[[Path], object]  # reads a file that was changed, in its place


class Foreign(Exception):
    """A command ended with an exception that is none of ours."""


@dataclass(frozen=True)
class Target:
    """A kind of file.

    `make` fills an empty folder and returns what reads a file there; `files` are patterns with the form of each;
    `weight` is the share of the mutations; `sign` is called after a file was changed.
    """

    name: str
    make: Callable[[Path], Read]
    files: tuple[tuple[str, str], ...]
    weight: int
    sign: Read | None = None


def command(*args: object) -> None:
    """Run a command. Raises `Foreign` where a user would be told to look for a traceback."""
    errors = io.StringIO()
    with redirect_stdout(io.StringIO()), redirect_stderr(errors):
        code = cli.run([str(arg) for arg in args])
    if "AGENTGYM_DEBUG" in errors.getvalue():
        raise Foreign(errors.getvalue())
    if code and errors.getvalue():  # `replay` says on stdout that an episode differs
        raise Refused(errors.getvalue())


class Refused(Exception):
    """A command ended with one of our sentences."""


def a_run(folder: Path, *more: str) -> Path:
    """A policy and a run of two steps."""
    from tests.light_switch import make_policy

    policy = make_policy(folder / "policy")
    made = ["train", "--env", ENV, "--policy", policy, "--out", folder / "run", "--steps", "2", *QUICK]
    command(*made, "--run.checkpoint_every=1", *more)
    return folder / "run"


def recipes(folder: Path) -> Read:
    for path in shipped_dir("trainers").glob("*.yaml"):
        shutil.copy(path, folder)

    def read(path: Path) -> None:
        data = read_yaml(path)
        if "stages" in data:
            read_stages(data)
        elif "sft" in data:
            load_card(load_sft_config(str(path)).agent)
        else:
            config = fresh_config(None, str(path), ())
            build_algorithm(config.algorithm)
            build_operators(config.rollout.operators)
            load_card(config.agent)

    return read


def cards(folder: Path) -> Read:
    for path in shipped_dir("agents").glob("*.yaml"):
        shutil.copy(path, folder)
    return lambda path: load_card(AgentSection(card=str(path)))


def run_configurations(folder: Path) -> Read:
    run = a_run(folder)
    (folder / "sft").mkdir()
    config = load_sft_config(str(shipped_dir("trainers") / "seed.yaml"))
    (folder / "sft" / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    return lambda path: (resumed_config if path.parent == run else resumed_sft_config)(path.parent, ())


def panels(folder: Path) -> Read:
    out = folder / "panel.json"
    command("panel", "freeze", "--env", "arithmetic", "--split", "test", "--tasks", "3", "--out", out)

    def read(path: Path) -> None:
        panel = read_panel(path)
        panel_text(panel)
        env = make_env(panel.env_id, panel.options)
        try:
            checked_panel(env, panel)
        finally:
            close_env(env)

    return read


def trajectories(folder: Path) -> Read:
    run = a_run(folder)

    def read(path: Path) -> None:
        stored = open_groups(run)
        stored.groups(stored.keys)
        command("view", run)
        command("replay", path)

    return read


def team_trajectories(folder: Path) -> Read:
    from tests.light_switch import make_policy

    policy = make_policy(folder / "policy")
    made = ["train", "--env", TEAM, "--policy", policy, "--out", folder / "run", "--steps", "1", *QUICK]
    command(*made)
    return lambda path: command("replay", path)


def stores(folder: Path) -> Read:
    run = a_run(folder)
    stored = open_groups(run)
    store = ExperienceStore(folder / "s.db", "words")
    for number, group in enumerate(stored.groups(stored.keys)):
        store.write(group, number, {"begun": number, "sampler": {}})
    store.take(3, 1)
    store.finish()
    store.close()

    def read(path: Path) -> None:
        for left in folder.glob("s.db-*"):
            left.unlink()
        opened = ExperienceStore(path, "words")
        try:
            opened.groups(opened.keys)
            opened.take(4, 2)
            opened.accounting()
            opened.state  # noqa: B018
        finally:
            opened.close()

    return read


def results(folder: Path) -> Read:
    for name, policy, more in (("a", "oracle", ()), ("b", "expert", ()), ("c", "random", ("--samples", "2"))):
        made = ["eval", "--env", "arithmetic", "--policy", policy, "--tasks", "3", "--out", folder / f"{name}.json"]
        command(*made, *more)
    run = folder / "run"
    (run / "evaluations").mkdir(parents=True)
    (run / "config.yaml").write_text("env: {}\n")
    (run / "metrics.jsonl").write_text('{"step":1,"episode/success":0.5}\n')
    shutil.copy(folder / "a.json", run / "evaluations" / "step_000001_test.json")

    def read(path: Path) -> None:
        if path.parent != folder:
            command("view", run)
            command("report", run, "--out", folder / "c.html")
            return
        command("leaderboard", *sorted(folder.glob("?.json")), "--out", folder / "board")
        command("leaderboard", "--compare", folder / "a.json", folder / "b.json")

    return read


def metrics(folder: Path) -> Read:
    run = a_run(folder)

    def read(_: Path) -> None:
        command("view", run)
        command("report", run, "--out", folder / "c.html")

    return read


def journals(folder: Path) -> Read:
    a_run(folder)

    def read(path: Path) -> None:
        Journal(path.parent).close()

    return read


def partials(folder: Path) -> Read:
    run = a_run(folder)
    partial = PartialEvaluation(folder / "out.json.partial.jsonl", {"seed": 1, "options": {}})
    for number, trajectory in enumerate(read_trajectories(run / "trajectories")):
        partial.append(trajectory, 0.5 * number)
    partial.close()
    return lambda path: PartialEvaluation(path, {"seed": 1, "options": {}}).close()


def published(folder: Path) -> Read:
    (folder / "published.yaml").write_text(yaml.safe_dump({"rows": _published_rows()}))
    return lambda path: read_published(path, ["agentgym/ALFWorld-v0"])


def _published_rows() -> list[object]:
    content = yaml.safe_load((Path(__file__).parent / "published.yaml").read_text())
    rows: list[object] = content["rows"][:6]
    return rows


def crossplays(folder: Path) -> Read:
    made = ["crossplay", "--env", "kuhnpoker", "--policy", "random", "--policy", "oracle", "--tasks", "2"]
    command(*made, "--out", folder / "cross.json")
    return lambda path: crossplay_tables(read_crossplay(path))


def games(folder: Path) -> Read:
    for split in ("train", "valid_unseen"):
        export_games(folder, split, 2)

    def read(path: Path) -> None:
        for cached in (alfworld_tasks.compiled, alfworld_tasks._official_ids):
            cached.cache_clear()
        env = make_env("alfworld", {"data": str(folder)})
        split = path.parts[-4]
        for task_id in env.task_ids(split):
            env.task_content(task_id)
            env.reset(seed=1, options={"task_id": task_id})
            env.step("look")
            env.step("inventory")

    return read


def shops(folder: Path) -> Read:
    export(folder, 8, 0)

    def read(_: Path) -> None:
        shutil.rmtree(folder / "cache", ignore_errors=True)
        env = make_env("webshop", {"data": str(folder), "cache_dir": str(folder / "cache"), "human_goals": True})
        try:
            task = env.task_ids(env.splits[0])[0]
            env.task_content(task)
            env.reset(seed=1, options={"task_id": task})
            env.step("search[red]")
        finally:
            close_env(env)

    return read


def products(folder: Path) -> Read:
    synthetic = SyntheticStore(8, 0)
    list(write_records(folder, ((synthetic[row], synthetic.wishes(row)) for row in range(8))))

    def read(_: Path) -> None:
        store = RecordStore(folder)
        for row in range(len(store)):
            store.wishes(row)
            store[row].title.lower()
        with suppress(KeyError, IndexError):  # as for a product that is not there
            store[store.row_of("B0M7945CRZ")]

    return read


def indices(folder: Path) -> Read:
    index_files.save(folder, {"a": np.arange(20), "b": np.linspace(0, 1, 5)})
    return lambda _: index_files.load(folder, ("a", "b"))


def sft_episodes(folder: Path) -> Read:
    run = a_run(folder)
    write_trajectories(folder / "episodes.jsonl.zst", list(read_trajectories(run / "trajectories")))
    return lambda path: list(read_trajectories(path))


def changed_json(path: Path, **values: object) -> None:
    """Write new values into a JSON file."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


TARGETS = (
    Target("recipes", recipes, (("*.yaml", "yaml"),), 12),
    Target("agent cards", cards, (("*.yaml", "yaml"),), 6),
    Target("configurations of runs", run_configurations, (("*/config.yaml", "yaml"),), 6),
    Target("panels", panels, (("panel.json", "json"),), 10),
    Target("trajectory files", trajectories, (("run/trajectories/*.zst", "zst"),), 6),
    Target("trajectory files of teams", team_trajectories, (("run/trajectories/*.zst", "zst"),), 3),
    Target("episodes of imitation", sft_episodes, (("episodes.jsonl.zst", "zst"),), 6),
    Target("experience stores", stores, (("s.db", ""),), 8),
    Target("results and evaluations", results, (("?.json", "json"), ("run/evaluations/*.json", "json")), 6),
    Target("metrics", metrics, (("run/metrics.jsonl", "jsonl"),), 4),
    Target("journals", journals, (("run/journal/*.jsonl", "jsonl"),), 10),
    Target("evaluations under way", partials, (("*.partial.jsonl", "jsonl"),), 10),
    Target("published results", published, (("published.yaml", "yaml"),), 5),
    Target("cross-plays", crossplays, (("cross.json", "json"),), 6),
    Target("games", games, (("**/game.tw-pddl", "json"),), 4),
    Target("shop files", shops, (("*.json", "json"),), 3),
    Target("products of a shop's cache", products, (("*.npy", ""), ("*.jsonl", "jsonl")), 6),
    Target("search indices", indices, (("*.npy", ""), ("header.json", "json")), 6),
)
