"""`agentgym replay`: plays stored episodes again from their action logs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from agentgym_rft.cli.settings import read_run_config, with_full_names
from agentgym_rft.cli.trust import Trust, check_trust
from agentgym_rft.config.load import merge, validate_config
from agentgym_rft.config.run import Config
from agentgym_rft.core import Trajectory
from agentgym_rft.errors import ConfigError, DataError
from agentgym_rft.report.terminal import say

DIFFERS = 1


def replay_command(
    file: Annotated[Path, typer.Argument(help="Trajectory file of a run, trajectories/step_000001.jsonl.zst say.")],
    episode: Annotated[str | None, typer.Option(help="Id of one episode; default: all of the file.")] = None,
    env: Annotated[str | None, typer.Option(help="Environment; default: that of the run the file lies in.")] = None,
    data: Annotated[str | None, typer.Option(help="Data directory, for environments that take one.")] = None,
    tokens: Annotated[bool, typer.Option("--tokens", help="Compare the token ids of the prompts, too.")] = False,
    trust: Trust = False,
) -> None:
    """Play stored episodes again from their action logs, and name the first difference of each.

    Exit code 0: all are identical; 1: one differs; 2: they cannot be replayed.
    """
    from agentgym_rft.rollouts.replay.run import replay

    config = _config(file, env, data)
    check_trust(config, file, env, trust, trains=False)
    chosen, num_left_out = _chosen(file, episode)
    setting = _setting(config, tokens)
    num_different = 0
    episodes = _episodes(chosen)
    for trajectories in episodes:
        result = replay(trajectories, setting)
        num_different += result.difference is not None
        if result.difference is not None:
            say(f"{trajectories[0].episode_id}: {result.difference}")
        if result.note:
            say(f"{trajectories[0].episode_id}: {result.note}")
    left_out = f", {num_left_out} that cannot be replayed" if num_left_out else ""
    num_turns, num_same = sum(len(trajectory.turns) for trajectory in chosen), len(episodes) - num_different
    say(f"{len(episodes)} episodes, {num_turns} turns: {num_same} identical, {num_different} differ{left_out}")
    if num_different:
        raise typer.Exit(DIFFERS)


def _config(file: Path, env: str | None, data: str | None) -> Config:
    """Return the configuration of the run that the file lies in, with the environment that was given."""
    run_dir = next((folder for folder in (file.parent, file.parent.parent) if (folder / "config.yaml").is_file()), None)
    if run_dir is None and env is None:
        raise ConfigError(f"'{file}' lies in no run directory: name the environment with --env.")
    stored: Any = {} if run_dir is None else read_run_config(run_dir)
    if env is not None:
        stored = merge(stored, {"env": {"id": env}})
    if data is not None:
        stored = merge(stored, {"env": {"options": {"data": data}}})
    return with_full_names(validate_config(stored))


def _chosen(file: Path, episode: str | None) -> tuple[Sequence[Trajectory], int]:
    """Return the episodes to replay, and how many others of the file cannot be."""
    from agentgym_rft.rollouts.replay.run import why_not_replayable
    from agentgym_rft.store.trajectories import read_trajectories

    stored = [each for each in read_trajectories(file) if episode is None or each.episode_id == episode]
    if not stored:
        what = "no episodes" if episode is None else f"no episode '{episode}'"
        raise DataError(f"'{file}' holds {what}.")
    fit = [each for each in stored if why_not_replayable(each) is None]
    if not fit:
        raise DataError(str(why_not_replayable(stored[0])))
    return fit, len(stored) - len(fit)


def _episodes(trajectories: Sequence[Trajectory]) -> list[list[Trajectory]]:
    """Return the trajectories by episode: one each, or those of all its agents."""
    episodes: dict[object, list[Trajectory]] = {}
    for number, each in enumerate(trajectories):
        episodes.setdefault(each.episode_id if "role" in each.info else number, []).append(each)
    return list(episodes.values())


def _setting(config: Config, tokens: bool) -> Any:
    from agentgym_rft.agents.agent import chat_format
    from agentgym_rft.agents.card import load_card
    from agentgym_rft.agents.policies.loading import load_tokenizer
    from agentgym_rft.rollouts.policies import policy_dir
    from agentgym_rft.rollouts.replay.run import Setting
    from agentgym_rft.rollouts.workers.env_maker import env_maker

    card = load_card(config.agent)
    return Setting(
        make_env=env_maker(config),
        card=card,
        invalid_penalty=config.rollout.invalid_penalty,
        timeout_s=config.rollout.step_timeout_s,
        chat=chat_format(load_tokenizer(policy_dir(config.policy.path)), card) if tokens else None,
    )
