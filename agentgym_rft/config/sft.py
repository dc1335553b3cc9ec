"""The configuration of a supervised run, and of a model built from scratch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from agentgym_rft.config.base import MAIN, MAX_RATE, MAX_THREADS, Section
from agentgym_rft.config.run import AgentSection, EnvSection, LoraSection, PanelSection
from agentgym_rft.config.team import SeatSection


class ModelSection(Section):
    """A small decoder built from scratch."""

    vocab_size: int = Field(
        1024, ge=300, le=2**24, description="byte-level BPE tokens, special ones included", json_schema_extra=MAIN
    )
    hidden_size: int = Field(128, ge=8, le=2**16, description="width of the decoder", json_schema_extra=MAIN)
    intermediate_size: int = Field(384, ge=8, le=2**18, description="width of its feed-forward layers")
    num_layers: int = Field(4, ge=1, le=1024, description="decoder layers", json_schema_extra=MAIN)
    num_heads: int = Field(4, ge=1, le=1024, description="query heads")
    num_kv_heads: int = Field(1, ge=1, le=1024, description="key-value heads")
    head_dim: int = Field(32, ge=2, le=1024, description="width of a head")
    rope_theta: float = Field(10_000.0, gt=0, description="base of the rotary positions; more reaches further back")
    max_context: int = Field(2048, ge=16, description="longest row, tokens", json_schema_extra=MAIN)

    @model_validator(mode="after")
    def _check_heads(self) -> Self:
        if self.num_heads % self.num_kv_heads:
            raise ValueError(f"num_heads {self.num_heads} is not a multiple of num_kv_heads {self.num_kv_heads}")
        if self.head_dim % 2:
            raise ValueError(f"head_dim {self.head_dim} is odd; rotary positions need an even one")
        return self


class SftSection(Section):
    """Supervised fine-tuning on demonstrations of an environment's expert."""

    tokens: int = Field(
        20_000_000, ge=1, description="trained tokens in all, those that weigh something", json_schema_extra=MAIN
    )
    max_minutes: float | None = Field(
        None, gt=0, description="minutes of steps after which training ends, too; learning rates fall to it"
    )
    batch_tokens: int = Field(
        10_000, ge=1, description="tokens an optimizer step, padding included", json_schema_extra=MAIN
    )
    micro_batch_tokens: int | None = Field(
        None, ge=1, description="tokens in one forward pass; null: those of the step; with init 256"
    )
    packing: Literal["auto", "padded", "packed"] = Field(
        "padded", description="as trainer.packing; auto: packed where the model can; with init auto"
    )
    optimizer: Literal["muon", "adamw"] = Field(
        "muon", description="muon: with AdamW for all but matrices; with init adamw", json_schema_extra=MAIN
    )
    player: Literal["expert", "random"] = Field(
        "expert", description="who demonstrates; random: any action, which teaches the grammar alone, lost or not"
    )
    noise: float = Field(
        0.1, ge=0, lt=1, description="rate of other plausible actions in demonstrations", json_schema_extra=MAIN
    )
    lost: bool = Field(False, description="learn from lost demonstrations, too: in games that somebody has to lose")
    context_weight: float = Field(
        0.3,
        ge=0,
        description="loss weight of context tokens, action tokens weigh 1; with init 0",
        json_schema_extra=MAIN,
    )
    disguise: float = Field(
        0.0, ge=0, le=1, description="share of words replaced, alike in a whole demonstration", json_schema_extra=MAIN
    )
    renumber: float = Field(
        0.0, ge=0, le=1, description="share of demonstrations in which numbers after a word, as in mug 2, are others"
    )
    keep_words: tuple[str, ...] = Field((), description="words that are not: those of actions and fixed texts")
    tokenizer_episodes: int = Field(400, ge=1, description="demonstrations that the tokenizer is trained on")
    learning_rate: float = Field(
        3e-3,
        gt=0,
        le=MAX_RATE,
        description="of AdamW; with init 1e-4, with adapters 1e-3, with Muon 3e-3",
        json_schema_extra=MAIN,
    )
    matrix_learning_rate: float = Field(
        2e-2, gt=0, le=MAX_RATE, description="of Muon, for hidden matrices", json_schema_extra=MAIN
    )
    warmup_fraction: float = Field(0.02, ge=0, le=1, description="first part of the steps, linearly up")
    cooldown_fraction: float = Field(0.4, ge=0, le=1, description="last part of the steps, linearly to zero")
    max_grad_norm: float = Field(1.0, gt=0, description="gradient clipping")
    bf16: bool | Literal["auto"] = Field(
        False, description="autocast passes to bfloat16; auto: where the device multiplies in it; with init auto"
    )
    gradient_checkpointing: Literal["never", "long_rows", "always"] = Field(
        "never",
        description="recompute layers; long_rows: some, for rows beyond micro_batch_tokens; with init long_rows",
    )
    lora: LoraSection = LoraSection()
    reflection_share: float = Field(
        0.0, ge=0, le=1, description="share of rows that are an episode and a report on it", json_schema_extra=MAIN
    )
    guided_share: float = Field(0.0, ge=0, le=1, description="share of rows that are a retry guided by such a report")
    episodes: int = Field(1800, ge=1, description="episodes of the starting policy that are reported on")
    episode_steps: int = Field(30, ge=1, description="environment steps before such an episode is cut")
    labelled_turns: int = Field(50, ge=1, description="turns whose numbers in reports become single tokens")
    questions: int = Field(10, ge=0, description="questions on the episode after each report, where the env has some")
    transcript_weight: float = Field(0.05, ge=0, description="loss weight of the episode before a report")
    report_tokens: bool = Field(
        True, description="fixed pieces of reports become single tokens; false for a model that writes JSON well"
    )
    phrases: tuple[str, ...] = Field((), description="further words of reports that become single tokens")

    @model_validator(mode="after")
    def _check_shares(self) -> Self:
        if self.reflection_share + self.guided_share > 1:
            raise ValueError("reflection_share and guided_share add up to more than 1")
        return self


class SftTeamSection(Section):
    """Environments with several agents; one agent has no use for it."""

    seats: dict[str, SeatSection] = Field(
        default_factory=dict, description="by agent or role; a seat whose policy is not trained is not learnt from"
    )


class SftEvalSection(PanelSection):
    """The evaluation of what came out, as `agentgym eval` does it."""

    at_start: bool = Field(False, description="evaluate the policy of init, too")
    num_tasks: int = Field(
        0, ge=0, description="first tasks of the frozen panel; 0: no evaluation; with init 100", json_schema_extra=MAIN
    )


class SftRunSection(Section):
    seed: int = Field(0, ge=0, description="of the whole run")
    out: str | None = Field(None, description="directory for the model; default: runs/sft-<env>-<time>")
    checkpoint_every: int = Field(
        20, ge=1, description="steps between checkpoints, which the model replaces in the end"
    )
    keep_checkpoints: int = Field(2, ge=1, description="newest checkpoints that are kept")


class SftConfig(Section):
    """A supervised run, fully resolved."""

    env: EnvSection = EnvSection()
    agent: AgentSection = AgentSection()
    init: str = Field(
        "scratch", description="'scratch', or a directory in Hugging Face format to go on from", json_schema_extra=MAIN
    )
    device: str = Field("auto", description="auto (CUDA if present), cpu, cuda, cuda:0 ...", json_schema_extra=MAIN)
    num_threads: int | None = Field(None, ge=1, le=MAX_THREADS, description="torch threads; default: all cores")
    model: ModelSection = ModelSection()
    sft: SftSection = SftSection()
    team: SftTeamSection = SftTeamSection()
    eval: SftEvalSection = SftEvalSection()
    run: SftRunSection = SftRunSection()

    @model_validator(mode="before")
    @classmethod
    def _fit_pretrained(cls, data: Any) -> Any:
        """Lay the defaults of a pretrained model below what is given."""
        if not isinstance(data, Mapping) or data.get("init", "scratch") == "scratch":
            return data
        sft, evaluation = (_given(data.get(name, {})) for name in ("sft", "eval"))
        if not isinstance(sft, Mapping) or not isinstance(evaluation, Mapping):
            return data  # refused where the sections are read
        return {**data, "sft": {**pretrained_defaults(sft), **sft}, "eval": {"num_tasks": 100, **evaluation}}


def _given(section: Any) -> Any:
    """Return what is said in a section, without its defaults."""
    return section.model_dump(exclude_unset=True) if isinstance(section, Section) else section


def pretrained_defaults(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the defaults of `sft` that differ where a pretrained model is trained; `given` is what was set."""
    defaults = {
        "packing": "auto",
        "micro_batch_tokens": 256,
        "gradient_checkpointing": "long_rows",
        "bf16": "auto",
        "context_weight": 0.0,
    }
    if given.get("optimizer", "adamw") == "muon":
        return defaults
    lora = given.get("lora")
    has_adapters = isinstance(lora, Mapping) and bool(lora.get("rank"))
    return {**defaults, "optimizer": "adamw", "learning_rate": 1e-3 if has_adapters else 1e-4}
