"""Several stages in one recipe, such as imitation and then reinforcement: each starts from the last one's model.

    run: {seed: 0}                      # env, agent and run.seed apply to every stage
    stages:
      - name: imitate
        sft: {tokens: 2_000_000}        # a section of `agentgym sft`; other stages are of `agentgym train`
      - name: reinforce
        recipe: r3l                     # a stage may begin with another recipe, as --recipe does
        trainer: {steps: 40}

The stages of a run in OUT lie in OUT/1-imitate, OUT/2-reinforce, ...; OUT/stages.yaml is the recipe as it was resolved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from agentgym_rft import registry
from agentgym_rft.cli.options import Override
from agentgym_rft.cli.settings import fresh_config, resumed_sft_config, say_whose_seed
from agentgym_rft.cli.sft import run_sft
from agentgym_rft.cli.trust import check_trust
from agentgym_rft.config.load import find_yaml, load_sft_config, merge, merge_overrides, read_yaml, validate_sft_config
from agentgym_rft.config.run import Config
from agentgym_rft.config.sft import SftConfig
from agentgym_rft.errors import CheckpointError, ConfigError
from agentgym_rft.report.terminal import say, shown_path
from agentgym_rft.store.files import write_atomically
from agentgym_rft.store.under_way import under_way

FILE = "stages.yaml"
_SHARED = ("env", "agent", "run")
_SFT_ONLY = ("sft", "model", "init")


@dataclass(frozen=True, slots=True)
class Stage:
    """A named stage and its configuration, without its directory and the model it starts from."""

    folder: str
    config: Config | SftConfig
    starts_from_last: bool


def staged_recipe(recipe: str | None) -> dict[str, Any] | None:
    """Return the content of a recipe with stages; None for any other recipe."""
    data = {} if recipe is None else read_yaml(find_yaml("trainers", recipe))
    return data if "stages" in data else None


def is_staged_run(run_dir: Path) -> bool:
    """Return whether a directory holds a run with stages."""
    return (run_dir / FILE).is_file()


def read_stages(data: Mapping[str, Any]) -> list[Stage]:
    """Return the stages of a recipe. Raises `ConfigError` with the name of the stage that is wrong."""
    unknown = [key for key in data if key not in (*_SHARED, "stages")]
    if unknown:
        raise ConfigError(
            f"'{unknown[0]}' stands beside the stages of a recipe, where only {', '.join(_SHARED)} may. "
            "Put it into the stage that it is for."
        )
    parts = data["stages"]
    if not isinstance(parts, list) or not parts or not all(isinstance(part, dict) for part in parts):
        raise ConfigError("'stages' is not a list of mappings. Write one mapping for each stage, with its name.")
    shared = {key: data[key] for key in _SHARED if key in data}
    return [_stage(number, part, shared) for number, part in enumerate(parts, start=1)]


def _stage(number: int, part: Mapping[str, Any], shared: Mapping[str, Any]) -> Stage:
    name = part.get("name")
    if not isinstance(name, str) or not name.isidentifier():
        raise ConfigError(f"Stage {number} has the name {name!r}. Expected a word, which becomes part of its folder.")
    if not isinstance(part.get("recipe", ""), str):
        raise ConfigError(f"Stage '{name}' has the recipe {part['recipe']!r}. Expected a shipped name or a YAML file.")
    own = merge(shared, {key: value for key, value in part.items() if key not in ("name", "recipe")})
    is_sft = any(key in own for key in _SFT_ONLY)
    has_start = "init" in own if is_sft else "path" in _section(own, "policy")
    overrides = [([key], value) for key, value in own.items()]
    env = _section(own, "env").get("id")
    try:
        config = _sft_config(part, overrides) if is_sft else fresh_config(env, part.get("recipe"), overrides)
    except ConfigError as error:
        raise ConfigError(f"Stage '{name}': {error}") from error
    return Stage(f"{number}-{name}", config, starts_from_last=number > 1 and not has_start)


def _section(own: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a section of a stage, empty where it is none: that is refused with the whole."""
    section = own.get(name)
    return section if isinstance(section, Mapping) else {}


def _sft_config(part: Mapping[str, Any], overrides: Sequence[Override]) -> SftConfig:
    config = load_sft_config(part.get("recipe"), overrides)
    return config.model_copy(
        update={"env": config.env.model_copy(update={"id": registry.resolve_env_id(config.env.id)})}
    )


def begin_stages(data: Mapping[str, Any], out: Path, overrides: Sequence[Override], source: str, trust: bool) -> None:
    """Run the stages of a recipe one after the other. Raises `ConfigError` for what cannot work, before the first."""
    for path, _ in overrides:
        if path[0] not in _SHARED:
            raise ConfigError(f"A recipe with stages takes no --{'.'.join(path)}: set it in the stage that it is for.")
    data = merge_overrides(data, [(path, value) for path, value in overrides if tuple(path) != ("run", "out")])
    stages = read_stages(data)
    for stage in stages:
        check_trust(stage.config, source, overrides, trust)
    if is_staged_run(out):
        raise ConfigError(f"'{out}' holds a run already. Go on with --resume {out}, or choose another --out.")
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(out / FILE, yaml.safe_dump(data, sort_keys=False).encode())
    except OSError as error:
        raise ConfigError(f"Cannot write to '{out}': {error.strerror}. Choose another --out.") from error
    _run(stages, out, overrides, trust)


def resume_stages(out: Path, trust: bool) -> None:
    """Resume a run at its first stage that is not done, from that one's last checkpoint."""
    stages = read_stages(read_yaml(out / FILE))
    for stage in stages:
        check_trust(stage.config, out, (), trust)
    _run(stages, out, (), trust)


def _run(stages: Sequence[Stage], out: Path, overrides: Sequence[Override], trust: bool) -> None:
    last: Path | None = None
    go_on = f"agentgym train --resume {shown_path(out)}"
    with under_way(out, f"Make room and go on with: {go_on}", lambda: last is not None):
        for stage in stages:
            folder = out / stage.folder
            config = _placed(stage, folder, last)
            say(f"stage {stage.folder}")
            if isinstance(config, Config):
                _reinforce(config, folder, go_on)
            elif not (folder / "model").is_dir():
                _imitate(config, folder, go_on, overrides, trust)
            last = folder
    say(f"run {shown_path(out)}")


def _reinforce(config: Config, folder: Path, go_on: str) -> None:
    from agentgym_rft.cli.training import run_train

    say_whose_seed(config)
    run_train(config, folder if (folder / "checkpoints").is_dir() else None, go_on)


def _imitate(config: SftConfig, folder: Path, go_on: str, overrides: Sequence[Override], trust: bool) -> None:
    if not (folder / "config.yaml").is_file():
        run_sft(config, None, go_on)
        return
    begun = resumed_sft_config(folder, ())
    check_trust(begun, folder, overrides, trust)  # a file of its own, which may name something else than the recipe
    run_sft(begun, folder, go_on)


def _placed(stage: Stage, folder: Path, last: Path | None) -> Config | SftConfig:
    """Return the stage's configuration with its directory and, unless it names a model, the model of the stage
    before.
    """
    config = stage.config
    start = str(last) if stage.starts_from_last and last is not None else None
    if isinstance(config, SftConfig):
        given = merge(config.model_dump(exclude_unset=True), {"run": {"out": str(folder)}})
        return validate_sft_config(given if start is None else given | {"init": _model_of(start)})
    update: dict[str, object] = {"run": config.run.model_copy(update={"out": str(folder)})}
    if start is not None:
        update["policy"] = config.policy.model_copy(update={"path": start})
    return config.model_copy(update=update)


def _model_of(run: str) -> str:
    from agentgym_rft.rollouts.policies import policy_dir

    folder = policy_dir(run)
    if not folder.is_dir():
        raise CheckpointError(f"The stage before left no model in '{run}'.")
    return str(folder)
