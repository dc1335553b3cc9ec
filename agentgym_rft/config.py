"""The configuration of a run: pydantic models <- YAML recipe <- `--section.key=value`.

`load_config` is the only way in. It names the wrong key, the expected type and the closest known key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from agentgym_rft.errors import ConfigError, did_you_mean

S = TypeVar("S", bound="Section")
Beta = Annotated[float, Field(ge=0, lt=1)]


class Section(BaseModel):
    """Base of all sections: unknown keys are refused, values are fixed after loading, numbers are finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class EnvSection(Section):
    id: str = Field("agentgym/ALFWorld-v0", description="environment id, short name, or module:Class")
    split: str = Field("train", description="split that training tasks are drawn from")
    options: dict[str, Any] = Field(default_factory=dict, description="keyword arguments of the environment, e.g. data")


class AgentSection(Section):
    card: str = Field("plain", description="agent card: a shipped name or a YAML file")
    overrides: dict[str, Any] = Field(default_factory=dict, description="card fields to replace, e.g. context.strategy")


class PolicySection(Section):
    path: str = Field("seed", description="'seed' (embedded), seed:NAME, a model directory, or a run")
    device: str = Field("auto", description="auto (CUDA if present), cpu, cuda, cuda:0 ...")
    max_concurrency: int = Field(64, ge=1, description="episodes that share one forward pass")
    max_context: int = Field(2048, ge=16, description="tokens in one row before the episode ends with token_limit")
    num_threads: int | None = Field(None, ge=1, description="torch threads; default: all cores")
    sampling_threads: int | None = Field(None, ge=1, description="torch threads while sampling; default: num_threads")


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


class RolloutSection(Section):
    strategy: str = Field("plain", description="rollout strategy")
    num_tasks: int = Field(8, ge=1, description="tasks (groups) a step")
    group_size: int = Field(8, ge=1, description="trajectories a group")
    temperature: float = Field(1.0, gt=0, description="sampling temperature")
    max_steps: int = Field(50, ge=1, description="environment steps before an episode is cut")
    invalid_penalty: float = Field(0.0, ge=0, description="taken off the reward for each invalid action")
    stop_invalid: bool = Field(False, description="an invalid action ends the episode as a failure")
    stop_repeated: int = Field(0, ge=0, description="the same action so many times in a row does; 0: never")
    step_timeout_s: float | None = Field(None, gt=0, description="deadline of one environment call; default: none")
    max_retries: int = Field(1, ge=0, description="repeats of an errored trajectory before it is counted as lost")
    max_resample: int = Field(0, ge=0, description="extra rounds that replace groups without signal")
    workers: Literal["local", "ray"] = Field("local", description="where episodes run")
    stored: str | None = Field(None, description="train on the trajectories of this run instead of playing")
    reflect: ReflectSection = ReflectSection()


Unit = Literal["token", "turn", "trajectory"]


class UnitsSection(Section):
    """Granularity of single places; each stands over `algorithm.granularity`."""

    advantage: Unit | None = Field(None, description="what a return and its group statistics are of")
    ratio: Unit | None = Field(None, description="over what the importance ratio's geometric mean is taken")
    clip: Unit | None = Field(None, description="what the ratio's bounds cut off as a whole; default: as ratio")
    entropy: Unit | None = Field(None, description="what entropy controls judge")


class AlgorithmSection(Section):
    name: str = Field("grpo", description="registered algorithm")
    options: dict[str, Any] = Field(default_factory=dict, description="options of the composition, e.g. scale")
    controls: tuple[str | dict[str, Any], ...] = Field((), description="entropy controls, e.g. [{name: clip_b, mu: 2}]")
    granularity: Unit | None = Field(None, description="unit of advantage, ratio, clipping and entropy control at once")
    units: UnitsSection = UnitsSection()
    gamma: float = Field(0.95, ge=0, le=1, description="discount from turn to turn, of turn-level advantages")
    negative_weight: float = Field(1.0, ge=0, description="factor on negative advantages; below 1 favours what worked")
    clip_low: float = Field(0.2, ge=0, description="the ratio is bounded below by 1 - clip_low")
    clip_high: float = Field(0.2, ge=0, description="the ratio is bounded above by 1 + clip_high")
    behaviour_cap: float | None = Field(
        None, gt=0, description="losses times the ratio of the old policy to the sampler, up to this; null: not"
    )
    kl_coef: float = Field(0.0, ge=0, description="weight of the KL penalty to the reference policy; 0: no reference")
    kl_estimator: Literal["k1", "k2", "k3"] = Field("k3", description="estimator of that KL")
    entropy_coef: float = Field(0.0, description="weight of the entropy bonus")
    aggregation: Literal["token_mean", "sequence_mean", "fixed_length"] = Field("token_mean", description="loss mean")
    fixed_length: int = Field(256, ge=1, description="divisor of aggregation=fixed_length, tokens a trajectory")


class TrainerSection(Section):
    steps: int = Field(60, ge=1, description="training steps (one batch of rollouts each)")
    max_generated_tokens: int | None = Field(
        None, ge=1, description="stop after the step that samples this many in all"
    )
    sync_interval: int = Field(1, ge=1, description="steps between hand-overs of new weights to the sampling policy")
    learning_rate: float = Field(1e-4, gt=0, description="peak learning rate of AdamW")
    warmup_steps: int = Field(2, ge=0, description="steps of linear warm-up")
    weight_decay: float = Field(0.0, ge=0)
    betas: tuple[Beta, Beta] = Field((0.9, 0.95))
    max_grad_norm: float = Field(1.0, gt=0, description="gradient clipping")
    num_minibatches: int = Field(1, ge=1, description="optimizer steps a batch, over whole groups")
    num_epochs: int = Field(1, ge=1, description="passes over a batch")
    micro_batch_tokens: int = Field(8192, ge=1, description="padded tokens in one forward pass")
    bf16: bool = Field(False, description="autocast the trainer's forward pass to bfloat16")
    logprob_tolerance: float = Field(0.05, gt=0, description="mean |re-scored - sampled| log-prob that stops the run")
    entropy_dynamics: bool = Field(False, description="metrics of where the entropy is and what the update does to it")
    entropy_probe: int = Field(0, ge=0, description="states on which the entropy's change is measured; 0: none")


class EvalSection(Section):
    at_start: bool = Field(True, description="evaluate before the first step, too")
    every: int = Field(0, ge=0, description="steps between evaluations; 0: only before and after")
    split: str | None = Field(None, description="split of the panel; default: the last of the environment's splits")
    num_tasks: int = Field(200, ge=0, description="first tasks of the frozen panel; 0: no evaluation")
    temperature: float = Field(0.0, ge=0, description="0 is greedy")
    max_steps: int = Field(50, ge=1, description="environment steps before an episode is cut")


class RunSection(Section):
    seed: int = Field(0, ge=0)
    out: str | None = Field(None, description="run directory; default: runs/<env>-<algorithm>-<time>")
    checkpoint_every: int = Field(10, ge=1, description="steps between checkpoints")
    keep_checkpoints: int = Field(2, ge=1)
    save_trajectories: bool = Field(True)


class Config(Section):
    """A whole run, fully resolved."""

    env: EnvSection = EnvSection()
    agent: AgentSection = AgentSection()
    policy: PolicySection = PolicySection()
    rollout: RolloutSection = RolloutSection()
    algorithm: AlgorithmSection = AlgorithmSection()
    trainer: TrainerSection = TrainerSection()
    eval: EvalSection = EvalSection()
    run: RunSection = RunSection()


class ModelSection(Section):
    """A small decoder built from scratch."""

    vocab_size: int = Field(1024, ge=300, description="byte-level BPE tokens, special ones included")
    hidden_size: int = Field(128, ge=8)
    intermediate_size: int = Field(384, ge=8)
    num_layers: int = Field(4, ge=1)
    num_heads: int = Field(4, ge=1)
    num_kv_heads: int = Field(1, ge=1)
    head_dim: int = Field(32, ge=2)
    rope_theta: float = Field(10_000.0, gt=0, description="base of the rotary positions; more reaches further back")
    max_context: int = Field(2048, ge=16, description="longest row, tokens")

    @model_validator(mode="after")
    def _check_heads(self) -> Self:
        if self.num_heads % self.num_kv_heads:
            raise ValueError(f"num_heads {self.num_heads} is not a multiple of num_kv_heads {self.num_kv_heads}")
        if self.head_dim % 2:
            raise ValueError(f"head_dim {self.head_dim} is odd; rotary positions need an even one")
        return self


class SftSection(Section):
    """Supervised fine-tuning on demonstrations of an environment's expert."""

    tokens: int = Field(20_000_000, ge=1, description="trained tokens in all")
    batch_tokens: int = Field(10_000, ge=1, description="tokens an optimizer step, padding included")
    noise: float = Field(0.1, ge=0, lt=1, description="rate of other plausible actions in demonstrations")
    context_weight: float = Field(0.3, ge=0, description="loss weight of context tokens; action tokens weigh 1")
    disguise: float = Field(0.0, ge=0, le=1, description="share of words replaced, alike in a whole demonstration")
    keep_words: tuple[str, ...] = Field((), description="words that are not: those of actions and fixed texts")
    tokenizer_episodes: int = Field(400, ge=1, description="demonstrations that the tokenizer is trained on")
    learning_rate: float = Field(3e-3, gt=0, description="of AdamW, for embeddings and vectors")
    matrix_learning_rate: float = Field(2e-2, gt=0, description="of Muon, for hidden matrices")
    warmup_fraction: float = Field(0.02, ge=0, le=1)
    cooldown_fraction: float = Field(0.4, ge=0, le=1, description="last part of the steps, linearly to zero")
    max_grad_norm: float = Field(1.0, gt=0)
    bf16: bool = Field(False, description="autocast to bfloat16")
    reflection_share: float = Field(0.0, ge=0, le=1, description="share of rows that are an episode and a report on it")
    guided_share: float = Field(0.0, ge=0, le=1, description="share of rows that are a retry guided by such a report")
    episodes: int = Field(1800, ge=1, description="episodes of the starting policy that are reported on")
    episode_steps: int = Field(30, ge=1, description="environment steps before such an episode is cut")
    labelled_turns: int = Field(50, ge=1, description="turns whose numbers in reports become single tokens")
    questions: int = Field(10, ge=0, description="questions on the episode after each report, where the env has some")
    transcript_weight: float = Field(0.05, ge=0, description="loss weight of the episode before a report")
    phrases: tuple[str, ...] = Field((), description="further words of reports that become single tokens")

    @model_validator(mode="after")
    def _check_shares(self) -> Self:
        if self.reflection_share + self.guided_share > 1:
            raise ValueError("reflection_share and guided_share add up to more than 1")
        return self


class SftRunSection(Section):
    seed: int = Field(0, ge=0)
    out: str | None = Field(None, description="directory for the model; default: runs/sft-<env>-<time>")


class SftConfig(Section):
    """A supervised run, fully resolved."""

    env: EnvSection = EnvSection()
    agent: AgentSection = AgentSection()
    init: str = Field("scratch", description="'scratch', or a directory in Hugging Face format to go on from")
    device: str = Field("auto")
    num_threads: int | None = Field(None, ge=1)
    model: ModelSection = ModelSection()
    sft: SftSection = SftSection()
    run: SftRunSection = SftRunSection()

    @model_validator(mode="after")
    def _check_init(self) -> Self:
        if self.init == "scratch" and self.sft.reflection_share + self.sft.guided_share > 0:
            raise ValueError("sft.reflection_share and sft.guided_share need a policy that plays; set init")
        return self


def shipped_dir(kind: Literal["agents", "trainers"]) -> Path:
    """The folder of shipped cards or recipes: inside the wheel, or at the repository root in a source checkout."""
    package = Path(str(resources.files("agentgym_rft")))
    inside = package / "_shipped" / kind
    return inside if inside.is_dir() else package.parent / kind


def find_yaml(kind: Literal["agents", "trainers"], name: str) -> Path:
    """The YAML file of a shipped name or a path. Raises `ConfigError` naming the closest shipped one."""
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        if path.is_file():
            return path
        raise ConfigError(f"There is no file '{name}'. Give an existing YAML file or a shipped name.")
    folder = shipped_dir(kind)
    if (folder / f"{name}.yaml").is_file():
        return folder / f"{name}.yaml"
    what = {"agents": "agent card", "trainers": "recipe"}[kind]
    raise ConfigError(f"No {what} is called '{name}'.{did_you_mean(name, [p.stem for p in folder.glob('*.yaml')])}")


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises `ConfigError` if it is not one."""
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"Cannot read '{path}': {error.strerror}.") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"'{path}' is not valid YAML: {_yaml_problem(error)}.") from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(f"'{path}' holds a {type(data).__name__}, expected a mapping of sections.")
    return data


def _yaml_problem(error: UnicodeDecodeError | yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}: {error.problem}"
    return str(error).splitlines()[0].rstrip(".")


def parse_override(text: str) -> tuple[list[str], Any]:
    """`section.key=value` -> path and YAML value."""
    key, sep, value = text.partition("=")
    if not sep or "." not in key:
        raise ConfigError(f"'{text}' is not an override. Write section.key=value, for example trainer.steps=20.")
    return key.split("."), parse_value(key, value)


def parse_value(key: str, value: str) -> Any:
    """The value of a key's text, read as YAML."""
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"The value in '{key}={value}' is not valid YAML; quote it.") from error


def merge(base: Mapping[str, Any], update: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `update` laid over it, mapping by mapping."""
    result = dict(base)
    for key, value in update.items():
        old = result.get(key)
        result[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result


def nest(path: Sequence[str], value: Any) -> dict[str, Any]:
    """`["a", "b"], 1` -> `{"a": {"b": 1}}`."""
    for key in reversed(path):
        value = {key: value}
    return dict(value)


def load_config(
    recipe: str | None = None, overrides: Sequence[tuple[Sequence[str], Any]] = (), base: str | None = None
) -> Config:
    """The resolved configuration of a recipe (shipped name or file) with overrides laid over it, in order.

    A recipe that names no environment is a method: it is laid over the recipe `base` of an environment, whose section
    `algorithm` it replaces as a whole.
    """
    data = _read_recipe(recipe, Config)
    if base is not None and "env" not in data:
        setting = _read_recipe(base, Config)
        data = merge({**setting, "algorithm": {}} if "algorithm" in data else setting, data)
    return validate_config(merge_overrides(data, overrides))


def load_sft_config(recipe: str | None = None, overrides: Sequence[tuple[Sequence[str], Any]] = ()) -> SftConfig:
    """Like `load_config`, for a supervised run."""
    return _validate(SftConfig, merge_overrides(_read_recipe(recipe, SftConfig), overrides))


def _read_recipe(recipe: str | None, model: type[Section]) -> dict[str, Any]:
    """What a recipe holds, {} for none. It is checked by itself, so that an override cannot hide its mistakes."""
    if recipe is None:
        return {}
    path = find_yaml("trainers", recipe)
    data = read_yaml(path)
    try:
        _validate(model, data)
    except ConfigError as error:
        raise ConfigError(f"Recipe '{path}': {error}") from error
    return data


def merge_overrides(data: Mapping[str, Any], overrides: Sequence[tuple[Sequence[str], Any]]) -> dict[str, Any]:
    """`data` with the value at each path replaced, in order."""
    result = dict(data)
    for path, value in overrides:
        result = merge(result, nest(path, value))
    return result


def validate_config(data: Mapping[str, Any]) -> Config:
    """The configuration in a plain mapping. Raises `ConfigError` with one sentence about the first problem."""
    return _validate(Config, data)


def leaf_names(section: type[Section], prefix: str = "") -> list[str]:
    """Dotted names of all keys that hold a value: `trainer.steps`."""
    names: list[str] = []
    for key, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            names += leaf_names(field.annotation, f"{prefix}{key}.")
        else:
            names.append(f"{prefix}{key}")
    return names


def closest_leaf(name: str, names: Sequence[str]) -> str:
    """A sentence part with the key in another section, else the closest name; empty if none is close."""
    elsewhere = [known for known in names if known.rpartition(".")[2] == name.rpartition(".")[2]]
    if elsewhere:
        return f" Did you mean '{elsewhere[0]}'?"
    hint = did_you_mean(name, names)
    return hint if hint.startswith(" Did") else ""


def _validate(model: type[S], data: Mapping[str, Any]) -> S:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise ConfigError(_sentence(error, model)) from error


def _sentence(error: ValidationError, model: type[Section]) -> str:
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    name = ".".join(path)
    if first["type"] == "extra_forbidden":
        if len(path) == 1:
            return f"There is no configuration section '{name}'.{did_you_mean(name, model.model_fields)}"
        hint = closest_leaf(name, leaf_names(model)) or f" See the options that start with --{path[0]} in --help."
        return f"There is no configuration key '{name}'.{hint}"
    if first["type"] == "value_error":
        return f"Configuration section '{name}': {first['ctx']['error']}."
    expected = "expected a mapping" if first["type"] in ("model_type", "dict_type") else first["msg"]
    return f"Configuration key '{name}' is {first.get('input')!r}: {expected[0].lower()}{expected[1:]}."
