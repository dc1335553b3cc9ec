"""The ALFWorld leaderboard: shipped baselines and trained runs on the frozen panel of generated valid_unseen games.

    python benchmarks/leaderboard_alfworld.py --out runs/leaderboard [--run r3l=runs/r3l --run grpo=runs/grpo]

Writes the tables into docs/leaderboard.md.
"""

from __future__ import annotations

from leaderboards import Field, arguments, panel_options, write_section

BASELINES = {"oracle": "oracle", "expert": "expert", "seed policy": "seed", "random": "random"}

if __name__ == "__main__":
    options = arguments(__doc__)
    tasks = panel_options("alfworld", "valid_unseen")
    write_section(options.page, "alfworld", [Field("alfworld", tasks, BASELINES | options.runs)], options.out)
