"""Several agents in one episode, measured: as Markdown tables and pictures.

    python benchmarks/multi_agent.py kuhn|household|bargain --out runs/multi_agent [--seeds 0 1] [--jobs 2] [--plot PNG]
    python benchmarks/multi_agent.py overhead [--repeats 5] [--against CHECKOUT]

- kuhn: self-play from a policy that bets at random, with and without a pool of past opponents; exploitability, exactly,
  over training (team_kuhn.py).
- household: one worker, two workers, planner and worker, at equal numbers of turns of all agents and of sampled tokens;
  shared and separate weights; counterfactual credit (team_household.py).
- bargain: shares of the team's reward; joint score, Pareto efficiency, and how agents talk (team_bargain.py).
- overhead: what a turn costs beside the environment with one agent and several, against PettingZoo's bare loop, or
  against another checkout in processes that take turns (team_overhead.py).

Each cell is `agentgym sft` (once) and `agentgym train` with a shipped recipe; runs that are there already are not
repeated. `--print` prints what is there.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from machine import describe
from team_bargain import bargain
from team_household import household
from team_kuhn import kuhn
from team_overhead import compared, overhead, show_overhead

PARTS = {"kuhn": kuhn, "household": household, "bargain": bargain}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=[*PARTS, "overhead"])
    parser.add_argument("--out", type=Path, default=Path("runs/multi_agent"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--against", type=Path, help="for overhead: another checkout")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--print", dest="print_only", action="store_true")
    parser.add_argument("--only", nargs="+", help="labels of cells")
    args = parser.parse_args()
    if args.part == "overhead":
        if args.against is not None:
            print(f"{describe()}; {args.repeats} processes each\n\n{compared(args.against, args.repeats)}")
        else:
            print(f"{describe()}; one process\n\n{show_overhead(overhead(args.repeats))}")
        return
    share = max(len(os.sched_getaffinity(0)) // args.jobs, 1)
    print(f"{describe()}; {share} core(s) a run\n")
    PARTS[args.part](args)


if __name__ == "__main__":
    main()
