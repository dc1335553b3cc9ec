"""`agentgym sft`: supervised fine-tuning on demonstrations of an environment's expert."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from agentgym_rft import registry
from agentgym_rft.cli.options import Override, accepts_config
from agentgym_rft.cli.settings import with_shorthands
from agentgym_rft.config.load import load_sft_config
from agentgym_rft.config.sft import SftConfig

_SHORT = {"env": ("env", "id"), "data": ("env", "options", "data"), "seed": ("run", "seed"), "out": ("run", "out")}


@accepts_config(SftConfig)
def sft_command(
    *,
    env: Annotated[str | None, typer.Option(help="Environment: id, short name, or module:Class.")] = None,
    recipe: Annotated[str | None, typer.Option(help="Shipped recipe or YAML file.")] = None,
    seed: Annotated[int | None, typer.Option(help="Short for --run.seed.")] = None,
    out: Annotated[
        str | None, typer.Option(help="Short for --run.out; the model is saved in its folder model.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="Short for --env.options.data.")] = None,
    overrides: Sequence[Override] = (),
) -> None:
    """Train a model on an expert's demonstrations, from scratch or from --init, and save it in Hugging Face format."""
    given = {"env": env, "data": data, "seed": seed, "out": out}
    config = load_sft_config(recipe, with_shorthands(_SHORT, given, overrides))
    env_section = config.env.model_copy(update={"id": registry.resolve_env_id(config.env.id)})
    run_sft(config.model_copy(update={"env": env_section}))


def run_sft(config: SftConfig) -> None:
    """A supervised run, shown on the terminal."""
    import torch

    from agentgym_rft.agents.card import load_card
    from agentgym_rft.agents.policies.loading import save_model
    from agentgym_rft.envs.making import make_env
    from agentgym_rft.evaluation.players import check_script
    from agentgym_rft.report.metrics import MetricsWriter
    from agentgym_rft.rollouts.policies import find_device
    from agentgym_rft.store.run_dir import opened
    from agentgym_rft.trainers.checks import check_sft
    from agentgym_rft.trainers.sft.train import start_policy, train_sft

    check_sft(config)
    device = find_device(config.device)
    if config.num_threads is not None:
        torch.set_num_threads(config.num_threads)
    card = load_card(config.agent)
    env = make_env(config.env.id, config.env.options)
    if config.sft.player == "expert":
        check_script("expert", env, config.env.id)
    with opened(_out(config), config, is_new=True) as out:
        model, tokenizer = start_policy(config, env, card)
        metrics = MetricsWriter(out / "metrics.jsonl")
        lines = _Lines(config.sft.tokens)

        def report(row: Mapping[str, float]) -> None:
            metrics.write(row)
            lines.show(row)

        train_sft(config, env, card, model.to(device), tokenizer, report, typer.echo)
        metrics.close()
        env.close()
        save_model(out / "model", model, tokenizer)
    typer.echo(f"model {out / 'model'}")


def _out(config: SftConfig) -> Path:
    """Return the output directory: the given one, or a new one named after environment and time."""
    name = f"sft-{config.env.id.rpartition('/')[2].rpartition(':')[2].lower()}-{time.strftime('%Y%m%d-%H%M%S')}"
    return Path(config.run.out or f"runs/{name}")


class _Lines:
    """A line for every step."""

    def __init__(self, num_tokens: int) -> None:
        self._num_tokens = num_tokens

    def show(self, row: Mapping[str, float]) -> None:
        from agentgym_rft.report.progress import format_duration

        share = min(1.0, row["tokens/total"] / self._num_tokens)
        left = row["time_s"] * (1 - share) / share
        typer.echo(
            f"step {row['step']:.0f}  {100 * share:.1f} % of {self._num_tokens:,} tokens  "
            f"loss {row['loss/all']:.3f}  action loss {row['loss/action']:.3f}  "
            f"{row['speed/tokens_per_s']:,.0f} tokens/s  left {format_duration(left)}"
        )
