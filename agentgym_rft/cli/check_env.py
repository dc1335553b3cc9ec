"""`agentgym check-env`: checks that an environment keeps the contract."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

import typer

from agentgym_rft import registry
from agentgym_rft.errors import AgentGymError, ConfigError, EnvContractError
from agentgym_rft.report.terminal import say


def check_env_command(
    name: Annotated[str | None, typer.Argument(help="Environment: id, short name, or module:Class.")] = None,
    split: Annotated[str | None, typer.Option(help="Split that tasks are taken from; default: its first.")] = None,
    data: Annotated[str | None, typer.Option(help="Data directory, for environments that take one.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="50 episodes for leaks instead of 1,000.")] = False,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds before a rule is stopped as broken.")] = 60.0,
    all_envs: Annotated[bool, typer.Option("--all", help="Every registered environment; a line for each.")] = False,
) -> None:
    """Check that an environment keeps the contract.

    Every rule is printed with its time. A broken one is explained in a sentence, and the exit code is 1.
    The environment runs in a process of its own, which is stopped if it hangs.
    """
    from agentgym_rft.envs.check.subject import QUICK, THOROUGH

    settings = replace(QUICK if quick else THOROUGH, timeout_s=timeout)
    if all_envs == (name is not None):
        raise ConfigError("Give check-env the name of one environment, or --all.")
    if name is None:
        _check_all(settings)
        return
    env_id = registry.resolve_env_id(name)
    num_rules, broken = _check(env_id, {} if data is None else {"data": data}, split, settings)
    if broken:
        raise EnvContractError(f"{env_id} breaks {broken} of {num_rules} rules.")
    say(f"{env_id} keeps all {num_rules} rules.")


def _check(env_id: str, options: Mapping[str, Any], split: str | None, settings: Any) -> tuple[int, int]:
    """Print every rule as it was checked. Returns how many there are, and how many are broken."""
    from agentgym_rft.envs.check.contained import check_report

    outcomes = []
    for result in check_report(env_id, options, split=split, settings=settings):
        outcomes.append(result.outcome)
        line = f"{result.outcome:<8}{result.name.replace('_', ' '):<42}{result.time_s:6.2f} s"
        is_note = result.outcome == "ok" and result.sentence
        say(f"{line}  {result.sentence}" if is_note else line)
        if result.outcome == "failed":
            say(f"        {result.sentence}")
    return len(outcomes), outcomes.count("failed")


def _check_all(settings: Any) -> None:
    """A line for each registered environment, and a sentence for each broken rule."""
    from agentgym_rft.envs.check.contained import check_report

    broken = []
    for spec in registry.env_specs():
        try:
            results = list(check_report(spec.id, settings=settings))
        except AgentGymError as error:
            say(f"skipped {spec.id}: {error}")
            continue
        failed = [result for result in results if result.outcome == "failed"]
        say(f"{'failed' if failed else 'ok':<8}{spec.id:<32}{sum(result.time_s for result in results):6.1f} s")
        for result in failed:
            say(f"        {result.name.replace('_', ' ')}: {result.sentence}")
        broken += [spec.id] if failed else []
    if broken:
        raise EnvContractError(f"{len(broken)} environments break rules: {', '.join(broken)}.")
