"""The WebShop leaderboard: shipped baselines and trained runs on the frozen test panel of the synthetic catalogue.

    python benchmarks/leaderboard_webshop.py --out runs/leaderboard [--run grpo=runs/webshop-grpo]

Writes the tables into docs/leaderboard.md. The panel is made once:

    agentgym panel freeze --env webshop --split test --tasks 200 --out benchmarks/panels/webshop_test.json
"""

from __future__ import annotations

from leaderboards import Field, arguments, panel_options, write_section

BASELINES = {"oracle": "oracle", "expert": "expert", "seed policy": "seed", "random": "random"}

if __name__ == "__main__":
    options = arguments(__doc__)
    tasks = panel_options("webshop", "test")
    write_section(options.page, "webshop", [Field("webshop", tasks, BASELINES | options.runs)], options.out)
