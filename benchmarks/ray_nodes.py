"""Training over three Ray nodes, each in a network namespace of its own, while nodes are killed and cables pulled.

    python benchmarks/ray_nodes.py --out runs/ray-nodes        (as root; needs `ip` from iproute2, and the extra `ray`)

The head and two nodes are joined by a bridge and have no other network. The driver runs on the head, which has no CPU
to offer, so every episode crosses the bridge. Three runs of the same seed, on a tiny environment
whose steps take 20 ms:

- nothing happens to the first;
- in the second, all processes of one node are killed with -9;
- in the third, the link of one node is taken down: its processes live on and cannot be reached.

Each is compared with a run in one process, episode by episode. The script ends with exit code 1 if one of them
failed, or played other episodes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from machine import describe

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT)]

from agentgym_rft.report.metrics import read_metrics  # noqa: E402
from agentgym_rft.store.trajectories import read_trajectories  # noqa: E402
from tests.light_switch import make_policy  # noqa: E402

BRIDGE, NETWORK, PORT = "agtbr", "10.77.0", 6379
HEAD, NODES = "agt0", ("agt1", "agt2")
STEPS = 12
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": f"{ROOT}:{ROOT / 'benchmarks'}",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",  # nobody else is on this network
    # A node that cannot be reached counts as lost after about five seconds; Ray's own patience is half a minute.
    "RAY_health_check_initial_delay_ms": "0",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "5",
}
TRAIN = (
    "train --env ray_nodes_env:SlowSwitch --policy.max_context=64 --policy.num_threads=1 --policy.device=cpu"
    f" --rollout.num_tasks=8 --rollout.group_size=4 --rollout.max_steps=4 --steps {STEPS}"
    " --trainer.learning_rate=0.003 --trainer.warmup_steps=0 --eval.num_tasks=0 --run.checkpoint_every=1000"
).split()
ON_RAY = (
    f"--workers ray --rollout.ray.address={NETWORK}.1:{PORT} --rollout.ray.num_workers=2"
    " --rollout.ray.episodes_per_worker=8"
).split()


@dataclass(frozen=True)
class Row:
    """What is printed of one run."""

    case: str
    exit_code: int
    num_steps: int
    num_episodes: int
    faults: str
    is_same: bool
    wall_s: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs; what is in it is replaced")
    args = parser.parse_args()
    if os.geteuid() != 0 or shutil.which("ip") is None:
        sys.exit("Network namespaces need root and the command `ip` (iproute2).")
    shutil.rmtree(args.out, ignore_errors=True)
    policy = make_policy(args.out / "policy")
    rows = [measure("one process", args.out / "local", policy, [], None)]
    for case, hurt in (("three nodes", None), ("a node is killed", kill), ("a node is cut off", cut_off)):
        with network(), ray_cluster() as nodes:
            folder = args.out / case.replace(" ", "_")
            rows.append(measure(case, folder, policy, ON_RAY, (lambda h=hurt: h(nodes[NODES[1]])) if hurt else None))
    print(describe(), f"- {STEPS} steps of 32 episodes\n")
    print(
        "| run | exit | steps | episodes | counted faults | same episodes | wall time |\n|---|---|---|---|---|---|---|"
    )
    for row in rows:
        same = "yes" if row.is_same else "NO"
        cells = (row.case, row.exit_code, row.num_steps, row.num_episodes, row.faults, same, f"{row.wall_s:.0f} s")
        print("|", " | ".join(map(str, cells)), "|")
    sys.exit(any(row.exit_code or not row.is_same for row in rows))


def measure(case: str, out: Path, policy: Path, options: list[str], hurt: object) -> Row:
    """Train, and call `hurt` after the third step. The reference is the run in `local` beside it."""
    inside = ["ip", "netns", "exec", HEAD] if options else []
    command = [*inside, sys.executable, "-m", "agentgym_rft.cli.main", *TRAIN, *options]
    start = time.monotonic()
    with out.with_suffix(".log").open("w") as log:
        run = subprocess.Popen(
            [*command, "--policy", str(policy), "--out", str(out)], cwd=ROOT, env=ENVIRONMENT, stdout=log, stderr=log
        )
        if callable(hurt):
            while run.poll() is None and num_rows(out) < 3:
                time.sleep(0.02)
            hurt()
        exit_code = run.wait(600)
    rows = read_metrics(out / "metrics.jsonl") if num_rows(out) else []
    faults: Counter[str] = Counter()
    for row in rows:
        faults.update({k.removeprefix("fault/"): int(v) for k, v in row.items() if k.startswith("fault/") and v})
    played = episodes(out)
    shown = ", ".join(f"{name} {count}" for name, count in sorted(faults.items())) or "none"
    is_same = played == episodes(out.parent / "local")
    return Row(case, exit_code, len(rows), len(played), shown, is_same, time.monotonic() - start)


def num_rows(out: Path) -> int:
    path = out / "metrics.jsonl"
    return len(path.read_text().splitlines()) if path.is_file() else 0


def episodes(out: Path) -> dict[str, object]:
    """Sampled tokens of every episode, by its id; an id that was there before is an error."""
    found: dict[str, object] = {}
    for path in sorted((out / "trajectories").glob("*.zst")):
        for each in read_trajectories(path):
            assert each.episode_id not in found, f"{each.episode_id} was played twice"
            found[each.episode_id] = [tuple(turn.action_ids) for turn in each.turns]
    return found


@contextmanager
def network() -> Iterator[None]:
    """Three namespaces on one bridge."""
    namespaces = (HEAD, *NODES)
    remove_network()
    try:
        ip("link", "add", BRIDGE, "type", "bridge")
        ip("link", "set", BRIDGE, "up")
        for number, name in enumerate(namespaces, start=1):
            ip("netns", "add", name)
            ip("link", "add", f"{name}v", "type", "veth", "peer", "name", "eth0", "netns", name)
            ip("link", "set", f"{name}v", "master", BRIDGE, "up")
            ip("-n", name, "addr", "add", f"{NETWORK}.{number}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield
    finally:
        remove_network()


def remove_network() -> None:
    for name in (HEAD, *NODES):
        subprocess.run(["ip", "netns", "del", name], stderr=subprocess.DEVNULL)
    subprocess.run(["ip", "link", "del", BRIDGE], stderr=subprocess.DEVNULL)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@contextmanager
def ray_cluster() -> Iterator[dict[str, int]]:
    """Ray in every namespace, one CPU on each node but the head. Gives the process group of each."""
    ray = str(Path(sys.executable).with_name("ray"))
    store = f"--object-store-memory={100_000_000}"
    with tempfile.TemporaryDirectory(prefix="agt") as folder:
        head = ["--head", f"--port={PORT}", "--num-cpus=0", "--include-dashboard=false", f"--temp-dir={folder}"]
        groups: dict[str, subprocess.Popen[bytes]] = {}
        try:
            for number, name in enumerate((HEAD, *NODES), start=1):
                role = head if number == 1 else [f"--address={NETWORK}.1:{PORT}", "--num-cpus=1"]
                command = [ray, "start", "--block", f"--node-ip-address={NETWORK}.{number}", store, *role]
                groups[name] = begin(name, command, Path(folder) / f"{name}.log")
                await_node(name, Path(folder) / f"{name}.log")
            yield {name: process.pid for name, process in groups.items()}
        finally:
            for process in groups.values():
                kill_session(process.pid)
                process.wait()


def begin(namespace: str, command: list[str], log: Path) -> subprocess.Popen[bytes]:
    """A process in a namespace, in a session of its own."""
    inside = ["ip", "netns", "exec", namespace, *command]
    with log.open("w") as out:
        return subprocess.Popen(inside, env=ENVIRONMENT, stdout=out, stderr=out, start_new_session=True)


def await_node(name: str, log: Path) -> None:
    """Return when a node says that it is up. One after the other: they share a folder for their sockets."""
    deadline = time.monotonic() + 120
    while "Ray runtime started" not in log.read_text():
        if time.monotonic() > deadline:
            sys.exit(f"{name} did not start:\n{log.read_text()}")
        time.sleep(0.1)


def kill(session: int) -> None:
    """All processes of a node, at once."""
    kill_session(session)


def cut_off(session: int) -> None:
    """The cable of the second node is pulled."""
    ip("link", "set", f"{NODES[1]}v", "down")


def kill_session(session: int) -> None:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if int((folder / "stat").read_text().rpartition(")")[2].split()[3]) == session:
                os.kill(int(folder.name), signal.SIGKILL)
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended meanwhile


if __name__ == "__main__":
    main()
