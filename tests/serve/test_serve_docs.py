"""`docs/serve.md` says what the server does."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from itertools import cycle
from pathlib import Path

import typer

from agentgym_rft.agents.policies.scripted import ScriptedPolicy
from agentgym_rft.cli.main import make_app
from agentgym_rft.serve.gateway import Gateway
from agentgym_rft.serve.settings import ServeSettings
from agentgym_rft.trainers.sft.model import train_tokenizer
from tests.serve.gateways import Kept, answering

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/serve.md").read_text(encoding="utf-8")


def test_the_external_agent_of_the_page_plays_and_its_groups_are_complete():
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert len([line for line in code.splitlines() if line]) <= 40
    tokenizer = train_tokenizer(["down", "right", "You are in row 1, column 2."] * 3, 300)
    moves = cycle(
        [[*tokenizer.encode(word, add_special_tokens=False), tokenizer.eos_token_id] for word in ("down", "right")]
    )
    kept = Kept()
    settings = ServeSettings(port=0, max_context=20_000, group_size=8)
    with answering(gateway := Gateway(ScriptedPolicy(lambda _: next(moves)), tokenizer, kept, settings)):
        env = {**os.environ, "AGENTGYM_URL": gateway.url, "PYTHONPATH": str(ROOT)}
        ended = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert ended.stdout.count("'num_members': 8, 'is_written': True") == 2
    assert [len(group.trajectories) for group in kept.groups] == [8, 8]
    assert all(group.task_id.startswith("v1/4x4-0.8/train/") for group in kept.groups)
    turns = [turn for group in kept.groups for t in group.trajectories for turn in t.turns]
    assert len(turns) > 16
    assert not any(turn.restart for turn in turns)


def test_the_table_of_options_has_every_option_with_its_default():
    command = typer.main.get_command(make_app("serve")).commands["serve"]
    table = PAGE.partition("\n## Options\n")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| `(--[a-z-]+)` \| `?([^`|]*)`? ", table, re.MULTILINE))
    assert set(rows) == {option for parameter in command.params for option in parameter.opts} - {"--help"}
    for parameter in command.params:
        if parameter.default is not None and not parameter.required and parameter.opts != ["--help"]:
            assert rows[parameter.opts[0]].strip() == str(parameter.default)


def test_the_table_of_endpoints_is_complete():
    from agentgym_rft.serve.app import make_app as make_server

    gateway = Gateway(ScriptedPolicy(lambda _: []), train_tokenizer(["x"] * 3, 300), Kept(), ServeSettings())
    routes = {f"{method} {route.path}" for route in make_server(gateway).routes for method in route.methods - {"HEAD"}}
    assert set(re.findall(r"^\| `([A-Z]+ [^`]+)` \|", PAGE, re.MULTILINE)) == routes
