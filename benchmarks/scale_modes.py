"""What it costs to wait: turns and time against a lockstep loop, and the modes of training against each other.

    python benchmarks/scale_modes.py lockstep --policy RUN [--episodes 128]
    python benchmarks/scale_modes.py modes --out runs/modes [--steps 20] [--seeds 0]

`lockstep` plays the same episodes of ALFWorld twice, with the same policy and the same engine: each at its own pace,
and with a barrier after every turn, ended episodes going on until the slowest of their wave ends, as vectorised loops
do it. RUN is a finished training run, whose success rate says how mixed the lengths are.

`modes` trains the main job in every mode with the same number of samples, one run after the other on the whole machine.
Runs that are there already are not repeated.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from machine import describe
from runs import Run, train_all

from agentgym_rft.agents.policies.base import Completion, Policy, SampleRequest
from agentgym_rft.cli.settings import fresh_config
from agentgym_rft.config.run import Config
from agentgym_rft.core import Trajectory
from agentgym_rft.envs.making import make_env
from agentgym_rft.report.metrics import read_metrics
from agentgym_rft.rollouts.episode.spec import EpisodeSpec
from agentgym_rft.rollouts.make import make_workers
from agentgym_rft.rollouts.policies import load_policy_model, serve
from agentgym_rft.rollouts.seeds import derive_seed

MODES = {
    "sync": (),
    "one_step_off": ("--trainer.mode=one_step_off",),
    "async, staleness 1": ("--trainer.mode=async", "--trainer.max_staleness=1"),
    "async, staleness 3": ("--trainer.mode=async", "--trainer.max_staleness=3"),
    "partial rollouts, 50 % more": ("--rollout.overprovision=0.5", "--trainer.max_staleness=4"),
}


@dataclass(frozen=True, slots=True)
class Played:
    """What playing all episodes took."""

    trajectories: list[Trajectory]
    turns_generated: int
    wall_s: float


class Lockstep:
    """A policy for one wave of episodes that answers all of them at once, or nobody; ended ones ask on as ghosts."""

    def __init__(self, inner: Policy, num_episodes: int) -> None:
        self._inner = inner
        self._num_live = num_episodes
        self._waiting: dict[str, tuple[SampleRequest, asyncio.Future[Completion]]] = {}
        self._last: dict[str, SampleRequest] = {}  # of every episode; those of ended ones are asked again
        self._answering: asyncio.Future[None] | None = None
        self.num_turns = 0

    @property
    def version(self) -> int:
        return self._inner.version

    async def sample(self, request: SampleRequest) -> Completion:
        future: asyncio.Future[Completion] = asyncio.get_running_loop().create_future()
        # Copied, since the agent goes on writing to its row: a ghost asks what its episode asked last.
        self._last[request.cache_key] = replace(request, prompt_ids=tuple(request.prompt_ids))
        self._waiting[request.cache_key] = request, future
        self._answer_if_all_wait()
        return await future

    def release(self, cache_key: str) -> None:
        """An episode has ended; its key stays cached, for its ghost."""
        self._num_live -= 1
        self._answer_if_all_wait()

    def load(self, weights: object, version: int) -> None:
        raise AssertionError("a benchmark plays one version")

    def close(self) -> None:
        """Nothing is held."""

    def _answer_if_all_wait(self) -> None:
        if self._waiting and len(self._waiting) == self._num_live:
            asking, self._waiting = self._waiting, {}
            ghosts = [request for key, request in self._last.items() if key not in asking]
            self._answering = asyncio.ensure_future(self._answer(asking, ghosts))

    async def _answer(
        self, asking: dict[str, tuple[SampleRequest, asyncio.Future[Completion]]], ghosts: list[SampleRequest]
    ) -> None:
        requests = [request for request, _ in asking.values()]
        completions = await asyncio.gather(*map(self._inner.sample, [*requests, *ghosts]))
        self.num_turns += len(completions)
        for (_, future), completion in zip(asking.values(), completions, strict=False):
            future.set_result(completion)


def specs_of(config: Config, num_episodes: int, max_context: int) -> list[EpisodeSpec]:
    env = make_env(config.env.id, config.env.options)
    task_ids = env.task_ids("train")[:num_episodes]
    env.close()
    rollout = config.rollout
    return [
        EpisodeSpec(t, t, t, derive_seed(0, t), rollout.temperature, rollout.max_steps, max_context) for t in task_ids
    ]


def play(config: Config, num_episodes: int, *, lockstep: bool) -> Played:
    """All episodes, at most `policy.max_concurrency` at once."""
    model, tokenizer = load_policy_model(config.policy)
    inner = serve(model, config.policy)
    size = config.policy.max_concurrency
    start = time.perf_counter()
    if not lockstep:
        workers = make_workers(config, tokenizer, inner)
        specs = specs_of(config, num_episodes, workers.max_context)

        async def play_all() -> list[Trajectory]:
            return list(await asyncio.gather(*map(workers.play, specs)))

        trajectories = workers.run(play_all)
        workers.close()
        return Played(trajectories, sum(len(t.turns) for t in trajectories), time.perf_counter() - start)
    trajectories, num_turns = [], 0
    for first in range(0, num_episodes, size):
        count = min(size, num_episodes - first)
        policy = Lockstep(inner, count)
        workers = make_workers(config, tokenizer, policy)
        specs = specs_of(config, num_episodes, workers.max_context)[first : first + count]

        async def play_wave(workers=workers, specs=specs) -> list[Trajectory]:
            return list(await asyncio.gather(*map(workers.play, specs)))

        trajectories += workers.run(play_wave)
        num_turns += policy.num_turns
        for spec in specs:
            inner.release(spec.episode_id)
    return Played(trajectories, num_turns, time.perf_counter() - start)


def compare_lockstep(args: argparse.Namespace) -> None:
    overrides = [(["policy", "path"], args.policy), (["policy", "num_threads"], args.threads)]
    rollout = [(["rollout", "max_steps"], args.max_steps), (["rollout", "temperature"], args.temperature)]
    config = fresh_config("alfworld", None, [*overrides, *rollout])
    play(config, 8, lockstep=False)
    ours, theirs = play(config, args.episodes, lockstep=False), play(config, args.episodes, lockstep=True)
    same = sum(
        [u.info["action"] for u in a.turns] == [u.info["action"] for u in b.turns]
        for a, b in zip(ours.trajectories, theirs.trajectories, strict=True)
    )
    lengths = sorted(len(t.turns) for t in ours.trajectories)
    print(
        f"{describe()}, {args.threads} torch threads, ALFWorld train, {args.episodes} episodes of at most "
        f"{args.max_steps} turns, temperature {args.temperature:g}, {config.policy.max_concurrency} at once"
    )
    won = sum(t.won for t in ours.trajectories) / len(ours.trajectories)
    print(
        f"success {100 * won:.1f} %, turns an episode: median {lengths[len(lengths) // 2]}, longest {lengths[-1]}; "
        f"{same} of {len(lengths)} episodes have the same actions in both"
    )
    print("\n| loop | turns generated | used | wall s | ratio of turns | ratio of time |\n|---|---|---|---|---|---|")
    used = sum(lengths)
    for name, played in (("own pace", ours), ("lockstep", theirs)):
        print(
            f"| {name} | {played.turns_generated} | {used} | {played.wall_s:.1f} | "
            f"{played.turns_generated / ours.turns_generated:.2f} | {played.wall_s / ours.wall_s:.2f} |"
        )


def compare_modes(args: argparse.Namespace) -> None:
    runs = {
        (name, seed): Run(
            args.out / f"{name.replace(' ', '-').replace(',', '').replace('%', 'percent')}-{seed}",
            ("--env", "alfworld", "--seed", str(seed), "--steps", str(args.steps), *flags),
        )
        for name, flags in MODES.items()
        for seed in args.seeds
    }
    train_all(list(runs.values()), jobs=1)
    print(f"{describe()}; main job (`agentgym train --env alfworld --steps {args.steps}`), 64 episodes a step\n")
    print(
        "| mode | seed | success before | after | training s | rollout wait s | update s | turns | lag mean | lag max |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for (name, seed), run in runs.items():
        rows = read_metrics(run.run_dir / "metrics.jsonl")
        before, after = (json.loads(p.read_text()) for p in sorted((run.run_dir / "evaluations").iterdir()))
        lag = sum(row.get("staleness/mean", 0.0) for row in rows) / len(rows)
        print(
            f"| {name} | {seed} | {100 * before['success']:.1f} | {100 * after['success']:.1f} | "
            f"{rows[-1]['time_s']:.0f} | {sum(r['time/rollout_s'] for r in rows):.0f} | "
            f"{sum(r['time/update_s'] for r in rows):.0f} | {sum(r['rollout/turns'] for r in rows):.0f} | {lag:.2f} | "
            f"{max(r.get('staleness/max', 0.0) for r in rows):.0f} |"
        )
    print("\nSuccess of training episodes, mean of every five steps, %:\n")
    print("| mode | seed | " + " | ".join(f"{i + 1}-{i + 5}" for i in range(0, args.steps, 5)) + " |")
    print("|---|---|" + "---|" * len(range(0, args.steps, 5)))
    for (name, seed), run in runs.items():
        success = [row["episode/success"] for row in read_metrics(run.run_dir / "metrics.jsonl")]
        parts = [success[i : i + 5] for i in range(0, args.steps, 5)]
        print(f"| {name} | {seed} | " + " | ".join(f"{100 * sum(part) / len(part):.1f}" for part in parts) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(required=True)
    lockstep = parts.add_parser("lockstep")
    lockstep.add_argument("--policy", required=True, help="a finished training run, or a model directory")
    lockstep.add_argument("--episodes", type=int, default=128)
    lockstep.add_argument("--max-steps", type=int, default=50)
    lockstep.add_argument("--temperature", type=float, default=1.0)
    lockstep.add_argument("--threads", type=int, default=1)
    lockstep.set_defaults(run=compare_lockstep)
    modes = parts.add_parser("modes")
    modes.add_argument("--out", type=Path, default=Path("runs/modes"))
    modes.add_argument("--steps", type=int, default=20)
    modes.add_argument("--seeds", type=int, nargs="+", default=[0])
    modes.set_defaults(run=compare_modes)
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.run(args)


if __name__ == "__main__":
    main()
