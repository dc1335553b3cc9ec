"""Damage, other versions and foreign values in files: refused in one sentence, and never read as something else."""

from __future__ import annotations

import atexit
import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import zstandard
from fault_case import Case, agentgym, python

KIND = "damage"
ENV = "tests.light_switch:LightSwitch"
QUICK = (
    *("--rollout.num_tasks=2", "--rollout.group_size=2", "--eval.num_tasks=2"),
    *("--policy.num_threads=1", "--policy.device=cpu", "--policy.max_context=64"),
)

FLIPS = """
import sys
from pathlib import Path
from agentgym_rft.core import Group, StopReason, Trajectory, Turn
from agentgym_rft.errors import DataError
from agentgym_rft.store.experience import ExperienceStore
from agentgym_rft.store.trajectories import read_trajectories, write_trajectories

def trajectory(group, number):
    turns = tuple(Turn((1, 2, turn), (3, 4), (-0.5, -0.25), info={"action": "press"}) for turn in range(3))
    end = StopReason.SUCCESS if number else StopReason.FAILURE
    return Trajectory("t", group, f"{group}/{number}", turns, end, rewards={"env": float(number)})

def of_store(path):
    store = ExperienceStore(path, "words")
    try:
        counts = (store.accounting(), store.mean_returns(9), store.use_counts(store.keys), store.state)
        return store.keys, store.groups(store.keys), counts, store.is_finished, store.max_token_id
    finally:
        store.close()

path = Path(sys.argv[1])
every = int(sys.argv[2])
if path.suffix == ".db":
    store, read = ExperienceStore(path, "words"), of_store
    for name in "abc":
        store.write(Group(name, "t", (trajectory(name, 0), trajectory(name, 1))), 1, {"begun": 2})
    store.take(3, 2)
    store.finish()
    store.close()
else:
    write_trajectories(path, [trajectory("g", number) for number in range(2)])
    read = lambda path: list(read_trajectories(path))
content, good = path.read_bytes(), read(path)
counts = {"equal": 0, "refused": 0, "other": 0}
for bit in range(0, 8 * len(content), every):
    for left in path.parent.glob(f"{path.name}-*"):
        left.unlink()
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    path.write_bytes(changed)
    try:
        counts["equal" if read(path) == good else "other"] += 1
    except DataError as error:
        assert str(path) in str(error), error
        counts["refused"] += 1
print(counts)
"""


def flipped(name: str, every: int) -> Callable[[Path], None]:
    """Flip bits of a file, one at a time, and read each copy."""

    def check(folder: Path) -> None:
        done = python("-c", FLIPS, folder / name, every, cwd=folder)
        done.ended(0)
        assert "'other': 0" in done.out, done.out

    return check


@cache
def policy() -> Path:
    """A policy that all cases share."""
    folder = Path(mkdtemp(prefix="fault-"))
    atexit.register(shutil.rmtree, folder)
    code = "from pathlib import Path; from tests.light_switch import make_policy; make_policy(Path('policy'))"
    python("-c", code, cwd=folder).ended(0)
    return folder / "policy"


def made(folder: Path) -> Path:
    """A run of one step."""
    args = ("train", "--env", ENV, "--policy", policy(), "--out", "run", "--steps", 1, *QUICK)
    agentgym(*args, "--run.checkpoint_every=1", cwd=folder).ended(0)
    return folder / "run"


def in_manifest(change: Callable[[dict[str, object]], object]) -> Callable[[Path], None]:
    """Change what the manifests of a run's checkpoints say."""

    def apply(run: Path) -> None:
        for path in run.glob("checkpoints/*/manifest.json"):
            body = json.loads(path.read_text())
            change(body)
            path.write_text(json.dumps(body))

    return apply


def resumed(change: Callable[[Path], object], *words: str) -> Callable[[Path], None]:
    """Change a run and resume it: it is refused with these words, and its checkpoints are as they were."""

    def check(folder: Path) -> None:
        run = made(folder)
        change(run)
        before = {path: path.read_bytes() for path in run.glob("checkpoints/**/*") if path.is_file()}
        agentgym("train", "--resume", "run", "--steps", 2, cwd=folder).refused(*words)
        assert before == {path: path.read_bytes() for path in run.glob("checkpoints/**/*") if path.is_file()}

    return check


def in_lines(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """Change the text of a run's trajectory files, whose lines have no checksum then."""

    def apply(run: Path) -> None:
        for path in run.glob("trajectories/*.zst"):
            lines = [line[9:] for line in zstandard.decompress(path.read_bytes()).split(b"\n")]
            path.write_bytes(zstandard.compress(change(b"\n".join(lines))))

    return apply


def viewed(change: Callable[[Path], object], *words: str) -> Callable[[Path], None]:
    """Change a run and look at it: it is refused with these words."""

    def check(folder: Path) -> None:
        change(made(folder))
        agentgym("view", "run", cwd=folder).refused(*words)

    return check


def in_evaluations(**values: object) -> Callable[[Path], None]:
    """Put values into the evaluations of a run."""

    def apply(run: Path) -> None:
        for path in run.glob("evaluations/*.json"):
            path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    return apply


def won_is_a_word(folder: Path) -> None:
    """A trajectory says `won: "no"`."""
    run = made(folder)
    in_lines(lambda text: text.replace(b'"won":false', b'"won":"no"').replace(b'"won":true', b'"won":"no"'))(run)
    agentgym("view", "run", cwd=folder).refused("Line 1 of", "its 'info.won' is 'no'")
    agentgym("replay", "run/trajectories/step_000001.jsonl.zst", cwd=folder).refused("its 'info.won' is 'no'")


def rate_without_bounds(folder: Path) -> None:
    """An update that leaves no finite weights ends the run, and the last checkpoint is the one before."""
    run = made(folder)
    resume = ("train", "--resume", "run", "--steps", 2)
    agentgym(*resume, "--trainer.learning_rate=1e308", cwd=folder).refused("is 1e+308: input should be less than")
    rates = ("--trainer.learning_rate=1e30", "--trainer.weight_decay=1e30")
    agentgym(*resume, *rates, cwd=folder).ended(1, "After the update a weight is no finite number.")
    assert [path.name for path in run.glob("checkpoints/*")] == ["step-000001"]
    agentgym("eval", "--policy", "run", "--tasks", 2, cwd=folder).ended(0)


def imitation_without_bounds(folder: Path) -> None:
    """The same in imitation."""
    quick = ("--sft.tokens=400", "--sft.batch_tokens=200", "--sft.tokenizer_episodes=2", "--device", "cpu")
    command = ("sft", "--env", ENV, "--out", "run", *quick)
    agentgym(*command, "--sft.learning_rate=1e308", cwd=folder).refused("is 1e+308: input should be less than")
    rates = ("--sft.learning_rate=1e30", "--sft.matrix_learning_rate=1e30", "--sft.max_grad_norm=1e30")
    agentgym(*command, *rates, cwd=folder).ended(1, "Lower sft.learning_rate")
    assert not (folder / "run" / "model").exists()


def sections_twice(folder: Path) -> None:
    """A recipe has a section twice."""
    (folder / "r.yaml").write_text("trainer: {steps: 1}\ntrainer: {seed: 2}\n")
    agentgym("train", "--recipe", "r.yaml", cwd=folder).refused("line 2", "the key 'trainer' is given twice")


def exploding(folder: Path) -> None:
    """A trajectory file of 12 KB is 400 MB long when it is unpacked."""
    run = made(folder)
    for path in run.glob("trajectories/*.zst"):
        path.write_bytes(zstandard.compress(b"[" * 400_000_000))
    code = (
        "import resource, sys; from agentgym_rft.cli.main import run; code = run(['view', 'run']); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss); sys.exit(code)"
    )
    done = python("-c", code, cwd=folder)
    done.refused("grows to more than 1000 times its size")
    assert int(done.out) < 1_000_000, f"{done.out} kB of memory"


def deep(run: Path) -> None:
    (next(run.glob("evaluations/*.json"))).write_text("[" * 3000 + "]" * 3000)


def states_of_other_types(folder: Path) -> None:
    """A checkpoint's state and a journal hold other types, with checksums that are right."""
    run = made(folder)
    code = (
        "import json, sys; from pathlib import Path; from agentgym_rft.store.checkpoint import file_sums\n"
        "for path in Path('run').glob('checkpoints/*'):\n"
        "    (path / 'state.json').write_text(sys.argv[1])\n"
        "    manifest = json.loads((path / 'manifest.json').read_text())\n"
        "    (path / 'manifest.json').write_text(json.dumps({**manifest, 'files': file_sums(path)}))\n"
    )
    for path in run.glob("journal/*.jsonl"):
        path.write_text('["a", 3]\n[[[]]]\n"x"\nnull\n')
    for state, words in (('{"source": 3}', "The state in"), ("[]", "is no state of a checkpoint")):
        assert python("-c", code, state, cwd=folder).code == 0
        agentgym("train", "--resume", "run", "--steps", 2, cwd=folder).refused(words)


def journal_of_other_types(folder: Path) -> None:
    """A journal holds lines of other types: what they were is sampled again."""
    run = made(folder)
    for path in run.glob("journal/*.jsonl"):
        path.write_text('["a", 3]\n[[[]]]\n"x"\nnull\n' + "[" * 3000 + "\n")
    shutil.rmtree(run / "checkpoints")
    agentgym("train", "--resume", "run", "--steps", 1, cwd=folder).ended(0)


CASES = (
    Case(KIND, "every single bit of a trajectory file, flipped", flipped("a.jsonl.zst", 1)),
    Case(KIND, "every 101st bit of an experience store, flipped", flipped("s.db", 101)),
    Case(
        KIND,
        "`--resume` from a checkpoint of a newer format",
        resumed(in_manifest(lambda body: body.update(format=99)), "has format 99", "nothing was changed"),
    ),
    Case(
        KIND,
        "`--resume` from an emptied manifest",
        resumed(in_manifest(lambda body: body.update(files={})), "manifest.json does not name"),
    ),
    Case(KIND, 'a trajectory with `won: "no"`', won_is_a_word),
    Case(KIND, "a learning rate of 1e308", rate_without_bounds),
    Case(KIND, "a learning rate of 1e308 in imitation", imitation_without_bounds),
    Case(KIND, "a section of a recipe given twice", sections_twice),
    Case(
        KIND,
        'an evaluation whose success is "no"',
        viewed(in_evaluations(success="no"), "is no result", "its 'success' is 'no'"),
    ),
    Case(KIND, "an evaluation of 3,000 levels", viewed(deep, "is no result", "nests too many levels")),
    Case(
        KIND,
        "trajectories of 3,000 levels",
        viewed(in_lines(lambda text: b'{"a":' * 3000 + b"1" + b"}" * 3000), "Line 1 of", "nests too many levels"),
    ),
    Case(KIND, "a checkpoint's state of other types", states_of_other_types),
    Case(KIND, "a journal of other types", journal_of_other_types),
    Case(KIND, "12 KB that unpack to 400 MB", exploding),
)
