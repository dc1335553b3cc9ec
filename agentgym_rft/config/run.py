"""The sections of a training run's configuration, and the whole of it."""

from __future__ import annotations

from datetime import date as day
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from agentgym_rft.config.base import MAIN, MAX_PROCESSES, MAX_RATE, Section
from agentgym_rft.config.policy import PolicySection
from agentgym_rft.config.team import TeamSection

MAX_EPISODES = 1_000_000  # a step, all of which are in memory


class EnvSection(Section):
    id: str = Field("agentgym/ALFWorld-v0", description="environment id, short name, or module:Class")
    split: str = Field("train", description="split that training tasks are drawn from", json_schema_extra=MAIN)
    options: dict[str, Any] = Field(
        default_factory=dict, description="keyword arguments of the environment, e.g. data", json_schema_extra=MAIN
    )


class AgentSection(Section):
    card: str = Field("plain", description="agent card: a shipped name or a YAML file", json_schema_extra=MAIN)
    overrides: dict[str, Any] = Field(default_factory=dict, description="card fields to replace, e.g. context.strategy")
    date: str = Field("", description="day that chat templates are told, YYYY-MM-DD; a run keeps that of its beginning")

    @field_validator("date", mode="before")
    @classmethod
    def _is_day(cls, given: object) -> str:
        text = str(given)  # YAML reads an unquoted day as a date
        try:
            return day.fromisoformat(text).isoformat() if text else ""
        except ValueError:
            raise ValueError("expected a day as YYYY-MM-DD") from None


class ReflectSection(Section):
    """Reflect-then-retry; only the strategy `reflect_retry` reads it."""

    reflector: str = Field("self", description="self, hindsight, policy:DIR or openai:MODEL@URL")
    restart: Literal["pivot", "start"] = Field("pivot", description="turn that a retry starts from")
    trigger: Literal["report", "always"] = Field("report", description="report: retry if it names a pivot; always: all")
    distill: bool = Field(True, description="train retries without the guidance in their context")
    num_joined: int | None = Field(None, ge=0, description="best retries that join the group; default: all")
    auxiliary: bool = Field(True, description="keep verified reflections and guided retries for imitation")
    verified_rule: Literal["paper", "code"] = Field("paper", description="when a retry is a verified correction")
    measure_pivots: bool = Field(False, description="compare pivots with the environment's own (costs a search a turn)")

    @model_validator(mode="after")
    def _check_reflector(self) -> Self:
        kind, mark, rest = self.reflector.partition(":")
        if self.reflector in ("self", "hindsight") or (kind == "policy" and rest):
            return self
        if kind == "openai" and mark and all(rest.partition("@")):
            return self
        raise ValueError(f"reflector '{self.reflector}' is none of self, hindsight, policy:DIR, openai:MODEL@URL")


class TasksSection(Section):
    """Which training tasks are played next; the rates are those of the policy in training, task by task."""

    order: Literal["shuffled", "sequential", "easy_to_hard", "frontier"] = Field(
        "shuffled", description="order of a pass; frontier: no passes, draws by rate (1 - rate)"
    )
    skip_solved: float | None = Field(
        None, gt=0, le=1, description="success rate from which a task is left out, four times of five"
    )


class ExpertsSection(Section):
    """Demonstrations of the environment's expert beside each batch, for algorithms that imitate (mix)."""

    num: int = Field(0, ge=0, description="demonstrations a step, imitated where the algorithm asks for it")


class RaySection(Section):
    """Workers on Ray, see docs/ray.md; only `rollout.workers=ray` reads it."""

    address: str | None = Field(None, description="auto, HOST:PORT or ray://HOST:PORT; default: Ray on this machine")
    num_workers: int = Field(2, ge=1, le=MAX_PROCESSES, description="worker processes; each hosts many environments")
    episodes_per_worker: int = Field(32, ge=1, le=MAX_EPISODES, description="episodes at once in one worker")
    policy_replicas: int = Field(
        0, ge=0, le=MAX_PROCESSES, description="policies that all workers share; 0: one in each worker"
    )
    num_cpus: float = Field(1.0, ge=0, description="CPUs, and torch threads, of each worker and replica")
    num_gpus: float = Field(
        0.0, ge=0, description="GPUs of each process that has a policy; 0: device auto means the CPU there"
    )
    max_worker_restarts: int = Field(8, ge=0, description="lost workers and replicas replaced in the whole run")
    max_replays: int = Field(2, ge=0, description="times an episode or request is begun again, its process being lost")
    start_timeout_s: float = Field(300.0, gt=0, description="seconds in which workers and their models must be there")


class ProcessSection(Section):
    """Environments in worker processes: `rollout.workers=processes`, or those of a worker on Ray."""

    num_processes: int | None = Field(
        None,
        ge=1,
        le=MAX_PROCESSES,
        description="processes that environments share; default: as many as cores; on Ray: none",
    )
    recycle_after: int | None = Field(None, ge=1, description="episodes after which a process is replaced; null: never")
    timeout_s: float | None = Field(
        60.0, gt=0, description="deadline of one call; its process is replaced, rollout.step_timeout_s may be shorter"
    )


class RolloutSection(Section):
    strategy: str = Field("plain", description="rollout strategy, or module:name", json_schema_extra=MAIN)
    num_tasks: int = Field(8, ge=1, le=MAX_EPISODES, description="tasks (groups) a step", json_schema_extra=MAIN)
    group_size: int = Field(8, ge=1, le=MAX_EPISODES, description="trajectories a group", json_schema_extra=MAIN)
    temperature: float = Field(1.0, gt=0, description="sampling temperature", json_schema_extra=MAIN)
    max_steps: int = Field(50, ge=1, description="environment steps before an episode is cut", json_schema_extra=MAIN)
    invalid_penalty: float = Field(0.0, ge=0, description="taken off the reward for each invalid action")
    stop_invalid: bool = Field(False, description="an invalid action ends the episode as a failure")
    stop_repeated: int = Field(0, ge=0, description="the same action so many times in a row ends it, too; 0: never")
    step_timeout_s: float | None = Field(
        None, gt=0, description="deadline of one environment call; default: none", json_schema_extra=MAIN
    )
    max_retries: int = Field(1, ge=0, description="repeats of an errored trajectory before it is counted as lost")
    overprovision: float = Field(
        0.0, ge=0, description="share of more groups begun than a step needs; the rest goes on in the next one"
    )
    max_resample: int = Field(0, ge=0, description="extra rounds that replace groups without signal")
    workers: Literal["local", "processes", "ray"] = Field("local", description="where episodes run")
    stored: str | None = Field(None, description="train on the trajectories of this run instead of playing")
    operators: tuple[str | dict[str, Any], ...] = Field(
        (), description="filters and rewards of groups before training, e.g. [{name: length_penalty, coef: 0.01}]"
    )
    reflect: ReflectSection = ReflectSection()
    processes: ProcessSection = ProcessSection()
    ray: RaySection = RaySection()
    tasks: TasksSection = TasksSection()
    experts: ExpertsSection = ExpertsSection()

    @model_validator(mode="after")
    def _check_size(self) -> Self:
        if (size := self.num_tasks * self.group_size) > MAX_EPISODES:
            raise ValueError(f"num_tasks times group_size is {size}; expected at most {MAX_EPISODES} episodes a step")
        return self


Unit = Literal["token", "turn", "trajectory"]


Place = Literal["advantage", "ratio", "clip", "entropy"]


class AlgorithmSection(Section):
    name: str = Field("grpo", description="registered algorithm, or module:name", json_schema_extra=MAIN)
    options: dict[str, Any] = Field(
        default_factory=dict, description="options of the composition, e.g. scale", json_schema_extra=MAIN
    )
    controls: tuple[str | dict[str, Any], ...] = Field(
        (), description="entropy controls, e.g. [{name: clip_b, mu: 2}]", json_schema_extra=MAIN
    )
    granularity: Unit | None = Field(None, description="unit of advantage, ratio, clipping and entropy control at once")
    units: dict[Place, Unit | None] = Field(
        default_factory=dict, description="the same for single places: advantage, ratio, clip or entropy"
    )
    gamma: float = Field(0.95, ge=0, le=1, description="discount from turn to turn, of turn-level advantages")
    negative_weight: float = Field(1.0, ge=0, description="factor on negative advantages; below 1 favours what worked")
    clip_low: float = Field(0.2, ge=0, description="the ratio is bounded below by 1 - clip_low", json_schema_extra=MAIN)
    clip_high: float = Field(
        0.2, ge=0, description="the ratio is bounded above by 1 + clip_high", json_schema_extra=MAIN
    )
    behaviour_cap: float | None = Field(
        None, gt=0, description="losses times the ratio of the old policy to the sampler, up to this; null: not"
    )
    kl_coef: float = Field(
        0.0,
        ge=0,
        description="weight of the KL penalty to the reference policy; 0: no reference",
        json_schema_extra=MAIN,
    )
    kl_estimator: Literal["k1", "k2", "k3"] = Field("k3", description="estimator of that KL")
    teacher: str | None = Field(None, description="policy that opd, kdrl and trrd learn from, named as policy.path")
    entropy_coef: float = Field(0.0, description="weight of the entropy bonus", json_schema_extra=MAIN)
    aggregation: Literal["token_mean", "sequence_mean", "fixed_length"] = Field("token_mean", description="loss mean")
    fixed_length: int = Field(256, ge=1, description="divisor of aggregation=fixed_length, tokens a trajectory")


class ParallelSection(Section):
    """Training by several processes, which torchrun starts."""

    strategy: Literal["auto", "none", "ddp", "fsdp2"] = Field(
        "auto", description="auto (ddp under torchrun), none, ddp (each process has all weights), fsdp2 (a share)"
    )
    timeout_s: float = Field(600.0, gt=0, description="how long a process waits for the others within a step")


class LoraSection(Section):
    """Low-rank adapters by peft; the policy's own weights stay as they are."""

    rank: int = Field(
        0, ge=0, le=2**16, description="rank of the adapters; 0: train all weights", json_schema_extra=MAIN
    )
    alpha: float = Field(16.0, gt=0, description="the adapters' product counts alpha / rank times")
    targets: tuple[str, ...] = Field((), description="linear layers, such as q_proj; default: all but the head")


class TrainerSection(Section):
    steps: int = Field(60, ge=1, description="training steps (one batch of rollouts each)")
    max_generated_tokens: int | None = Field(
        None, ge=1, description="stop after the step that samples this many in all"
    )
    mode: Literal["sync", "one_step_off", "async"] = Field(
        "sync", description="when episodes are played, see docs/modes.md", json_schema_extra=MAIN
    )
    sync_interval: int = Field(1, ge=1, description="steps between hand-overs of new weights to the sampling policy")
    sync_offset: int = Field(1, ge=1, description="mode=one_step_off: batches played ahead of the trainer")
    max_staleness: int = Field(2, ge=0, description="versions that a group may lag behind (async, overprovision)")
    learning_rate: float = Field(
        1e-4, gt=0, le=MAX_RATE, description="peak learning rate of AdamW", json_schema_extra=MAIN
    )
    warmup_steps: int = Field(2, ge=0, description="steps of linear warm-up")
    weight_decay: float = Field(0.0, ge=0, description="of AdamW, on matrices alone")
    max_grad_norm: float = Field(1.0, gt=0, description="gradient clipping")
    num_minibatches: int = Field(
        1, ge=1, description="optimizer steps a batch, over whole groups", json_schema_extra=MAIN
    )
    num_epochs: int = Field(1, ge=1, le=1000, description="passes over a batch")
    micro_batch_tokens: int = Field(8192, ge=1, description="padded tokens in one forward pass", json_schema_extra=MAIN)
    bf16: bool | Literal["auto"] = Field(
        False,
        description="autocast passes to bfloat16; auto: where the device multiplies in it",
        json_schema_extra=MAIN,
    )
    packing: Literal["auto", "padded", "packed"] = Field(
        "auto", description="rows of a pass below each other, or packed, shared beginnings once; auto: if the model can"
    )
    gradient_checkpointing: bool = Field(False, description="recompute each layer in the backward pass: less memory")
    parallel: ParallelSection = ParallelSection()
    lora: LoraSection = LoraSection()
    logprob_tolerance: float = Field(0.05, gt=0, description="mean |re-scored - sampled| log-prob that stops the run")
    entropy_dynamics: bool = Field(False, description="metrics of where the entropy is and what the update does to it")
    entropy_probe: int = Field(0, ge=0, description="states on which the entropy's change is measured; 0: none")


class PanelSection(Section):
    """The panel that is played, and how."""

    split: str | None = Field(
        None, description="split of the panel; default: the last of the environment's splits", json_schema_extra=MAIN
    )
    temperature: float = Field(0.0, ge=0, description="0 is greedy")
    max_steps: int = Field(50, ge=1, description="environment steps before an episode is cut")


class EvalSection(PanelSection):
    at_start: bool = Field(True, description="evaluate before the first step, too")
    every: int = Field(
        0, ge=0, description="steps between evaluations; 0: only before and after", json_schema_extra=MAIN
    )
    num_tasks: int = Field(
        200, ge=0, description="first tasks of the frozen panel; 0: no evaluation", json_schema_extra=MAIN
    )


class RunSection(Section):
    seed: int = Field(0, ge=0, description="of the whole run: tasks, episodes, sampling, shuffling")
    out: str | None = Field(None, description="run directory; default: runs/<env>-<algorithm>-<time>")
    checkpoint_every: int = Field(10, ge=1, description="steps between checkpoints", json_schema_extra=MAIN)
    keep_checkpoints: int = Field(2, ge=1, description="newest checkpoints that are kept")
    save_trajectories: bool = Field(True, description="write the trajectories of every step")
    journal: bool = Field(True, description="record what is sampled, so that a killed run goes on in mid-batch")


class StoreSection(Section):
    """The experience store: a file that groups are written to, and that batches take groups from."""

    path: str | None = Field(None, description="SQLite file; default with a replay_share: experience.db of the run")
    replay_share: float = Field(0.0, ge=0, le=1, description="share of a batch from the store; 1: nothing is played")
    replay_as: Literal["groups", "imitation"] = Field("groups", description="imitation: their better half, as spear")
    rule: Literal["fifo", "uniform", "priority"] = Field("fifo", description="which groups are taken")
    max_uses: int | None = Field(1, ge=1, description="steps that may train on a group, its first included; null: any")
    max_staleness: int | None = Field(None, ge=0, description="versions that a group may lag behind; null: any")
    capacity: int | None = Field(
        None, ge=1, description="waiting groups at which `agentgym explore` pauses; null: never"
    )
    wait_s: float = Field(600.0, gt=0, description="seconds without a new group after which a waiting run fails")


class Config(Section):
    """A whole run, fully resolved."""

    env: EnvSection = EnvSection()
    agent: AgentSection = AgentSection()
    policy: PolicySection = PolicySection()
    rollout: RolloutSection = RolloutSection()
    team: TeamSection = TeamSection()
    algorithm: AlgorithmSection = AlgorithmSection()
    trainer: TrainerSection = TrainerSection()
    store: StoreSection = StoreSection()
    eval: EvalSection = EvalSection()
    run: RunSection = RunSection()


def plays_nothing(config: Config) -> bool:
    """Return whether every batch comes from a store that others fill."""
    return config.store.replay_share == 1 and config.store.replay_as == "groups"


def num_replayed(config: Config) -> int:
    """Return groups of a batch that come from the store."""
    return round(config.store.replay_share * config.rollout.num_tasks)


def num_fresh(config: Config) -> int:
    """Return groups of a batch that are played; what is replayed for imitation comes on top."""
    replayed = num_replayed(config) if config.store.replay_as == "groups" else 0
    return config.rollout.num_tasks - replayed
