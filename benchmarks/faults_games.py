"""Games that are played otherwise than they are meant: several sentences at once, and data with one split alone."""

from __future__ import annotations

import json
from pathlib import Path

from fault_case import Case, agentgym, python

KIND = "games"

# Plays the actions that the oracle finds, but looks around first and gives the last two as one command.
PLAY = """
import json, sys
from agentgym_rft.envs.making import make_env

env = make_env("textworld", {"games": sys.argv[1].rsplit("-s", 1)[0], "cache_dir": sys.argv[2]})
try:
    observation, info = env.reset(options={"task_id": sys.argv[1]})
    oracle, total, is_over = env.oracle(), 0.0, False
    while not is_over:
        actions = [oracle.act(observation)]
        if env.remaining() == 2:
            last = {"coin_collector": "take coin", "cooking": "eat meal"}[info["task_type"]]
            actions.append(last)
        observation, reward, is_over, _, info = env.step(". ".join(["look", *actions]))
        total += reward
    print(json.dumps({"total": total, "won": info["won"], "score": info["score"], "text": observation}))
finally:
    env.close()
"""


def several_sentences(folder: Path) -> None:
    """Commands of several sentences win with reward 1, and their whole text is there."""
    for task, words in (("coin_collector-l1-s1-g1", "pick up the coin"), ("cooking-l3-s2-g1", "eat the meal")):
        ended = python("-c", PLAY, task, folder / "games", cwd=folder)
        ended.ended(0)
        seen = json.loads(ended.out)
        assert abs(seen["total"] - 1.0) < 1e-9, f"{task}: rewards add up to {seen['total']}"
        assert (seen["won"], seen["score"]) == (True, 1.0), seen
        assert words in seen["text"], f"{task}: {seen['text']!r}"


def data_with_one_split(folder: Path) -> None:
    """A folder with the evaluated split alone is played; a panel frozen with all of them is, too."""
    export = "import sys; from agentgym_rft.envs.alfworld.export import export_games as e; e(*sys.argv[1:3], 4)"
    for place, split in (("all", "train"), ("all", "valid_unseen"), ("alone", "valid_unseen")):
        code = f"from pathlib import Path; {export.replace('*sys.argv[1:3]', 'Path(sys.argv[1]), sys.argv[2]')}"
        python("-c", code, folder / place, split, cwd=folder).ended(0)
    agentgym("panel", "freeze", "--data=all", "--out=p.json", cwd=folder).ended(0)
    for panel in ((), ("--panel=p.json",)):
        given = ("eval", "--policy=oracle", "--data=alone", "--out=r.json", *panel)
        ended = agentgym(*given, cwd=folder)
        ended.ended(0, "held out of 'train' could not be checked")
        result = json.loads((folder / "r.json").read_text())
        assert (result["num_tasks"], result["held_out_of"]) == (4, None), result["held_out_of"]
        assert "could not be checked" in result["notes"][0], result["notes"]
    agentgym("train", "--env.options.data=alone", "--steps=1", cwd=folder).refused("No playable games in")


CASES = (
    Case(KIND, "TextWorld commands of several sentences", several_sentences),
    Case(KIND, "data with the evaluated split alone", data_with_one_split),
)
