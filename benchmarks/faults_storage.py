"""Disks that are full, folders that may only be read, several writers and links in the way."""

from __future__ import annotations

import os
from pathlib import Path

from fault_case import Case, Finished, agentgym, python
from fault_runs import QUICK, SWITCH, small_policy, train

KIND = "storage"

_AGENTGYM = "from agentgym_rft.cli.main import run; sys.exit(run(sys.argv[2:]))"
# No file grows beyond so many bytes: as a disk that is full, without the rights that a small one would take.
_FULL = f"import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2); {_AGENTGYM}"
# The superuser may write where nobody may, so a folder is mounted once more, to be read only.
_READ_ONLY = f"""
import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
folder = sys.argv[1].encode()
for call in (
    lambda: libc.unshare(0x20000),
    lambda: libc.mount(None, b"/", None, 0x4000 | 0x40000, None),
    lambda: libc.mount(folder, folder, None, 0x1000, None),
    lambda: libc.mount(None, folder, None, 0x1000 | 0x20 | 0x1, None),
):
    assert call() == 0, ctypes.get_errno()
{_AGENTGYM}
"""

_WRITERS = """
import json, pathlib, threading
from agentgym_rft.store.files import write_atomically
path = pathlib.Path("result.json")
write_atomically(path, b"[0]")
wrong = []
def write(number):
    for _ in range(100):
        try:
            write_atomically(path, json.dumps([number] * 5000).encode())
            json.loads(path.read_bytes())
        except Exception as error:
            wrong.append(repr(error))
threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert not wrong, f"{len(wrong)} of 800: {wrong[0]}"
"""


def full(size: int, *arguments: object, cwd: Path) -> Finished:
    """Run the command line where files grow up to `size` bytes."""
    return python("-P", "-c", _FULL, size, *arguments, cwd=cwd)


def journal_on_a_full_disk(folder: Path) -> None:
    """The journal is what grows beyond the disk first."""
    given = ("train", "--env", SWITCH, "--policy", small_policy(), "--steps=1", "--out=run", *QUICK)
    many = ("--rollout.num_tasks=40", "--eval.num_tasks=0", "--run.save_trajectories=false")
    full(4000, *given, *many, cwd=folder).ended(1, "Cannot write the journal", "File too large", "--resume")
    agentgym("train", "--resume", "run", cwd=folder).ended(0)


def trajectories_on_a_full_disk(folder: Path) -> None:
    """The trajectories of the first step do not fit any more."""
    given = ("train", "--env", SWITCH, "--policy", small_policy(), "--steps=1", "--out=run", *QUICK)
    many = ("--rollout.num_tasks=40", "--eval.num_tasks=0", "--run.journal=false")
    full(4000, *given, *many, cwd=folder).ended(1, "run': File too large. Make room and go on with:")
    agentgym("train", "--resume", "run", cwd=folder).ended(0)


def result_on_a_full_disk(folder: Path) -> None:
    """The episodes of an evaluation fill the disk."""
    given = ("eval", "--env", SWITCH, "--policy", "expert", "--tasks=30", "--out", "r.json")
    full(4000, *given, cwd=folder).ended(1, "r.json.partial.jsonl': File too large", "the same command goes on")
    agentgym(*given, cwd=folder).ended(0, "going on:")


def run_to_be_read_only(folder: Path) -> None:
    """Everything that looks at a run works on one that may only be read."""
    train(folder, "--eval.split=valid_seen")
    run = folder / "run"
    names = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    for command in (
        f"view {run}",
        f"report {run}",
        f"bench {run} --tasks=2 --samples=2",
        f"eval --policy {run} --tasks=2",
        f"replay {run}/trajectories/step_000001.jsonl.zst",
        f"leaderboard {run}",
    ):
        if os.geteuid() == 0:
            ended = python("-P", "-c", _READ_ONLY, run, *command.split(), cwd=folder)
        else:
            for path in (run, *run.rglob("*")):
                path.chmod(path.stat().st_mode & ~0o222)
            ended = agentgym(*command.split(), cwd=folder)
        ended.ended(0)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == names, "something was written into the run"
    for name in ("run-report.html", "run-comparison.html", "run-bench/curve.json"):
        assert (folder / name).is_file(), sorted(path.name for path in folder.iterdir())


def several_writers(folder: Path) -> None:
    """Eight writers write one file, and read it."""
    python("-c", _WRITERS, cwd=folder).ended(0)


def links_in_the_way(folder: Path) -> None:
    """A run that was given has links to files of the user, where files are written and where they grow."""
    train(folder)
    letter = folder / "letter"
    letter.write_text("a letter without an end of line")
    links = [folder / "run" / name for name in ("config.yaml", "metrics.jsonl", "report.html")]
    links += [*(folder / "run" / "trajectories").iterdir(), folder / "r.json.partial.jsonl", folder / "r.json"]
    for link in links[1:]:
        link.unlink(missing_ok=True)
        link.symlink_to(letter)
    agentgym("view", "run", cwd=folder)
    agentgym("eval", "--env", SWITCH, "--policy=expert", "--tasks=1", "--out=r.json", cwd=folder).refused("symbolic")
    agentgym("train", "--resume", "run", "--steps=2", cwd=folder)
    journal = next((folder / "run" / "journal").glob("*.jsonl"))
    journal.unlink()
    journal.symlink_to(letter)
    agentgym("train", "--resume", "run", "--steps=3", cwd=folder)
    assert letter.read_text() == "a letter without an end of line", "a file of the user was written"


def failure_in_mid_run(folder: Path) -> None:
    """A store runs dry after the run has trained: what would be refused at first is a failure then."""
    options = ("--store.path=s.db", "--env", SWITCH, "--policy", small_policy(), *QUICK)
    agentgym("explore", *options, "--groups=4", cwd=folder).ended(0)
    opened = "import pathlib; from agentgym_rft.store.experience import ExperienceStore as S; "
    python("-c", f"{opened}S(pathlib.Path('s.db')).fill()", cwd=folder).ended(0)
    given = ("--store.path=s.db", "--store.replay_share=1", "--store.wait_s=0.2", "--trainer.steps=9")
    train(folder, *given, code=1)


CASES = (
    Case(KIND, "the journal on a full disk", journal_on_a_full_disk),
    Case(KIND, "trajectories on a full disk", trajectories_on_a_full_disk),
    Case(KIND, "an evaluation on a full disk", result_on_a_full_disk),
    Case(KIND, "six commands on a run that may only be read", run_to_be_read_only),
    Case(KIND, "eight writers of one file, 800 writes", several_writers),
    Case(KIND, "links to the user's files in a given run", links_in_the_way),
    Case(KIND, "a failure in mid-run exits with 1", failure_in_mid_run),
)
