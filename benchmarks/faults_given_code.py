"""Files that were given must run no code."""

from __future__ import annotations

from pathlib import Path

from fault_case import Case, agentgym

KIND = "code in files"


def called_from_a_configuration(folder: Path) -> None:
    """A configuration names a function of the standard library as its environment."""
    target = folder / "made"
    (folder / "config.yaml").write_text(f"env:\n  id: os:mkdir\n  options: {{path: {target}}}\n")
    agentgym("train", "--recipe", "config.yaml", "--out", "run", cwd=folder).refused("class of environments")
    assert not target.exists(), "the function was called"


CASES = (Case(KIND, "`env.id: os:mkdir` in a configuration", called_from_a_configuration),)
