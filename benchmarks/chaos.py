"""The chaos matrix: faults x modes, what was injected against what the run accounted for.

    python benchmarks/chaos.py --out runs/chaos [--modes local ray ...] [--faults raise kill ...]

Every cell is a whole `agentgym train` in a process of its own on a tiny environment that breaks for real
(`chaos_env.py`), or whose policy, driver or workers do. Afterwards the run directory is checked:

- every injected fault is on record: as an errored trajectory, as a counted fault of the machinery, or it belongs to a
  group that was still under way when the run ended;
- no group was trained twice, and every step has all its groups; no errored trajectory has a reward;
- the exit code is right, the resumed run finished, and no process is left.

A cell that breaks one of these is marked and the script ends with exit code 1. Needs a source checkout.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from machine import describe

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT)]

from agentgym_rft.core import Trajectory  # noqa: E402
from agentgym_rft.report.metrics import read_metrics  # noqa: E402
from agentgym_rft.store.trajectories import read_trajectories  # noqa: E402

MARK = "CHAOS_CELL"  # in the environment of every process of a cell
NUM_TASKS, GROUP_SIZE = 4, 4
RAY = ["--workers", "ray", "--rollout.ray.num_workers=2", "--rollout.ray.episodes_per_worker=8",
       "--rollout.ray.num_cpus=0.5", "--rollout.ray.max_worker_restarts=60", "--rollout.ray.max_replays=8"]  # fmt: skip
MODES: dict[str, list[str]] = {
    "local": [],
    "local, one step off": ["--trainer.mode=one_step_off"],
    "local, async": ["--trainer.mode=async"],
    "local, partial": ["--rollout.overprovision=0.5"],
    "processes": ["--workers", "processes", "--rollout.processes.num_processes=2"],
    "processes, async": ["--workers", "processes", "--rollout.processes.num_processes=2", "--trainer.mode=async"],
    "ray": RAY,
    "ray, async": [*RAY, "--trainer.mode=async"],
}
ENV_FAULTS = ("none", "raise", "nan", "hang", "kill")
POLICY_FAULTS = ("malformed", "nan log-prob")
DRIVER_FAULTS = ("driver -9", "driver Ctrl-C", "worker -9")
SHORT, LONG = 6, 30  # steps of a run; those in which something is killed from outside must not end before that


@dataclass
class Cell:
    """What one run did, counted from outside."""

    injected: int = 0
    errors: Counter[str] = field(default_factory=Counter)  # errored trajectories by stop reason
    faults: Counter[str] = field(default_factory=Counter)  # what the machinery counted
    pending: int = 0  # episodes of groups that were drawn and not trained when the run ended
    trained: int = 0  # groups
    exits: list[int] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/chaos"))
    parser.add_argument("--modes", nargs="+", default=list(MODES), choices=list(MODES))
    parser.add_argument("--faults", nargs="+", default=[*ENV_FAULTS, *POLICY_FAULTS, *DRIVER_FAULTS])
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    policy = make_policy(args.out / "policy")
    print(f"{describe()}; {SHORT} or {LONG} steps of {NUM_TASKS} groups of {GROUP_SIZE}\n")
    columns = (
        "fault",
        "mode",
        "injected",
        "errored episodes",
        "counted faults",
        "under way at the end",
        "groups trained",
    )
    print(f"| {' | '.join((*columns, 'exit', 'held'))} |\n|{'---|' * (len(columns) + 2)}")
    is_broken = False
    for fault in args.faults:
        for mode in (mode for mode in args.modes if applies(fault, mode)):
            folder = args.out / f"{fault}-{mode}".replace(" ", "_").replace(",", "")
            cell = play(folder.resolve(), fault, mode, policy.resolve(), args.seed)
            is_broken |= bool(cell.problems)
            counts = (cell.injected, shown(cell.errors), shown(cell.faults), cell.pending, cell.trained)
            ends = (", ".join(map(str, cell.exits)), "; ".join(cell.problems) or "yes")
            print(f"| {' | '.join(map(str, (fault, mode, *counts, *ends)))} |", flush=True)
    sys.exit(int(is_broken))


def applies(fault: str, mode: str) -> bool:
    """Killing the process of an environment needs one; a policy is made faulty in this process only."""
    is_local = mode.startswith("local")
    if fault == "kill":
        return not is_local
    if fault == "worker -9":
        return mode.startswith("ray")
    return fault not in POLICY_FAULTS or not mode.startswith("ray")


def make_policy(folder: Path) -> Path:
    from tests.light_switch import make_policy as made

    return folder if folder.is_dir() else made(folder)


def play(folder: Path, fault: str, mode: str, policy: Path, seed: int) -> Cell:
    """One cell, in a fresh directory."""
    subprocess.run(["rm", "-rf", str(folder)], check=True)
    (folder / "injected").mkdir(parents=True)
    run_dir = folder / "run"
    env_fault = fault if fault in ENV_FAULTS else "none"
    num_steps = LONG if fault in DRIVER_FAULTS else SHORT
    arguments = [
        "train", "--env", "chaos_env:Faulty", "--policy", str(policy), "--steps", str(num_steps), "--seed", str(seed),
        "--out", str(run_dir), f"--env.options.fault={env_fault}", f"--env.options.log={folder / 'injected'}",
        "--policy.max_context=64", "--policy.device=cpu", "--policy.num_threads=1", "--eval.num_tasks=0",
        f"--rollout.num_tasks={NUM_TASKS}", f"--rollout.group_size={GROUP_SIZE}", "--rollout.max_steps=4",
        "--rollout.step_timeout_s=2", "--rollout.max_retries=2", "--run.checkpoint_every=1",
        "--trainer.learning_rate=1e-3", *MODES[mode],
    ]  # fmt: skip
    cell = Cell()
    if fault in DRIVER_FAULTS:
        break_and_resume(arguments, run_dir, fault, cell, random.Random(f"{seed} {fault} {mode}"))
    else:
        patched = fault if fault in POLICY_FAULTS else ""
        cell.exits.append(start(arguments, folder, patched).wait())
    inspect(cell, run_dir, folder / "injected", fault, num_steps)
    if left := leftover(folder):
        cell.problems.append(f"{len(left)} processes left")
    return cell


def start(arguments: list[str], folder: Path, policy_fault: str = "") -> subprocess.Popen[bytes]:
    """`agentgym` in a process of its own, its policy made faulty first if asked for."""
    program = (
        "import sys, chaos\n"
        f"chaos.break_policy({policy_fault!r}, {str(folder / 'injected')!r})\n"
        "from agentgym_rft.cli.main import main\n"
        "sys.argv[0] = 'agentgym'; main()\n"
    )
    paths = os.pathsep.join([str(ROOT), str(ROOT / "benchmarks")])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_WAIT_POLICY": "PASSIVE", MARK: str(folder)}
    with (folder / "log").open("ab") as log:
        return subprocess.Popen([sys.executable, "-c", program, *arguments], stdout=log, stderr=log, env=environment)


def break_policy(fault: str, log: str) -> None:
    """Make every policy of this process answer one request in 40 with something that is no completion."""
    if not fault:
        return
    from dataclasses import replace

    from agentgym_rft.agents.policies.hf import HFPolicy

    whole = HFPolicy.sample

    async def sample(self, request):  # type: ignore[no-untyped-def]
        completion = await whole(self, request)
        if request.seed % 40:
            return completion
        (Path(log) / str(request.seed)).touch()
        if fault == "malformed":
            return replace(completion, logprobs=completion.logprobs[1:])
        return replace(completion, logprobs=(float("nan"), *completion.logprobs[1:]))

    HFPolicy.sample = sample  # type: ignore[method-assign]


def break_and_resume(arguments: list[str], run_dir: Path, fault: str, cell: Cell, rng: random.Random) -> None:
    """Three times into the run something is killed at a random moment; a driver is resumed each time."""
    folder = run_dir.parent
    process = start(arguments, folder)
    for number in range(1, 4):
        wait_for_step(process, run_dir, at_least=number)
        time.sleep(rng.random())
        if process.poll() is not None:
            break
        if fault == "worker -9":
            workers = [
                p for p in marked(folder) if "ray::" in " ".join(p.cmdline()) and "Worker" in " ".join(p.cmdline())
            ]
            if workers:
                rng.choice(workers).kill()
                cell.injected += 1
            continue
        process.send_signal(signal.SIGKILL if fault == "driver -9" else signal.SIGINT)
        cell.exits.append(process.wait())
        cell.injected += 1
        process = start(["train", "--resume", str(run_dir)], folder)
    cell.exits.append(process.wait())


def wait_for_step(process: subprocess.Popen[bytes], run_dir: Path, at_least: int) -> None:
    """Return when the run has done so many steps, or has ended."""
    metrics = run_dir / "metrics.jsonl"
    while process.poll() is None:
        if metrics.is_file() and len(metrics.read_text().splitlines()) >= at_least:
            return
        time.sleep(0.05)


def inspect(cell: Cell, run_dir: Path, injected: Path, fault: str, num_steps: int) -> None:
    """Count what the run says and look for what must not be."""
    keys = {path.name for path in injected.iterdir()}
    cell.injected += len(keys)
    rows = read_metrics(run_dir / "metrics.jsonl") if (run_dir / "metrics.jsonl").is_file() else []
    for row in rows:
        cell.faults.update({k.removeprefix("fault/"): int(v) for k, v in row.items() if k.startswith("fault/") and v})
    steps = [list(read_trajectories(path)) for path in sorted((run_dir / "trajectories").glob("step_*"))]
    groups = Counter(group for step in steps for group in {t.group_id for t in step})
    cell.trained = len(groups)
    cell.pending = int(rows[-1].get("queue/pending", 0)) * GROUP_SIZE if rows else 0
    trajectories = [t for step in steps for t in step]
    broken = [t for t in trajectories if t.is_error]
    cell.errors = Counter(t.stop_reason.value for t in broken)
    # Ctrl-C while Python itself starts ends it by the signal, which a shell shows as 130, too.
    expected = {"driver Ctrl-C": (130, -signal.SIGINT), "driver -9": (-signal.SIGKILL,)}.get(fault, ())
    if cell.exits[-1] != 0 or any(code not in expected for code in cell.exits[:-1]):
        cell.problems.append(f"exit codes {cell.exits}")
    if [row["step"] for row in rows] != list(range(1, num_steps + 1)):
        cell.problems.append(f"steps {[row['step'] for row in rows]}")
    if any(number > 1 for number in groups.values()):
        cell.problems.append("a group was trained twice")
    if any(len({t.group_id for t in step}) != NUM_TASKS for step in steps):
        cell.problems.append("a step lacks a group")
    if any(t.rewards for t in broken):
        cell.problems.append("an error has a reward")
    if any(valid_members(trajectories, group) < GROUP_SIZE for group in groups) and not cell.errors:
        cell.problems.append("a group lacks members without a reason")
    check_accounts(cell, keys, broken, fault)


def valid_members(trajectories: list[Trajectory], group_id: str) -> int:
    return sum(not t.is_error for t in trajectories if t.group_id == group_id)


def check_accounts(cell: Cell, keys: set[str], broken: list[Trajectory], fault: str) -> None:
    """Every injected fault is an errored trajectory, a counted fault, or of a group under way at the end."""
    if fault in ("raise", "nan", "hang"):
        found = {f"{t.task_id}-{t.info['reset_seed']}" for t in broken if not is_neighbour(t)}
        missing = keys - found
        if len(missing) > cell.pending:
            cell.problems.append(f"{len(missing)} injected faults are nowhere")
        if found - keys:
            cell.problems.append(f"{len(found - keys)} errors that nobody injected")
    elif fault == "kill":
        num_found = cell.faults["worker_lost"] + sum(not is_neighbour(t) for t in broken)
        if len(keys) - num_found > cell.pending or num_found > len(keys):
            cell.problems.append(f"{len(keys)} processes killed, {num_found} on record")
    elif fault in POLICY_FAULTS:
        if len(keys) - cell.errors["policy_error"] > cell.pending:
            cell.problems.append(f"{len(keys)} injected, {cell.errors['policy_error']} on record")
    elif fault == "worker -9":
        if cell.faults["worker_lost"] != cell.injected:
            cell.problems.append(f"{cell.injected} killed, {cell.faults['worker_lost']} on record")
    elif cell.errors or cell.faults:
        cell.problems.append("errors that nobody injected")


def is_neighbour(trajectory: Trajectory) -> bool:
    """Whether an episode broke only because another one took down the process that they shared; its error says so."""
    message = str(trajectory.info["error"]["message"])
    return message.startswith("Another episode in the process") or "of another episode" in message


def marked(folder: Path) -> list[psutil.Process]:
    """The processes that a cell started, and those that they did."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:  # it ended meanwhile, or is not ours
            continue
    return found


def leftover(folder: Path) -> list[psutil.Process]:
    """Processes of a cell that are still there ten seconds after its end; they are ended then."""
    deadline = time.monotonic() + 10.0
    while (left := marked(folder)) and time.monotonic() < deadline:
        time.sleep(0.2)
    for process in left:
        process.kill()
    return left


def shown(counts: Counter[str]) -> str:
    return json.dumps(dict(counts)).strip("{}").replace('"', "") or "0"


if __name__ == "__main__":
    main()
