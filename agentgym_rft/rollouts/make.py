"""From configuration sections to the things that roll out: card, device, model, workers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from agentgym_rft.agents.agent import chat_format
from agentgym_rft.agents.card import AgentCard, parse_card
from agentgym_rft.agents.policies.base import Policy
from agentgym_rft.agents.policies.hf import HFPolicy
from agentgym_rft.agents.policies.loading import load_model
from agentgym_rft.agents.policies.names import is_vllm, model_name
from agentgym_rft.agents.policies.routed import RoutedPolicy
from agentgym_rft.agents.policies.seeds import is_seed, seed_policy_path
from agentgym_rft.agents.policies.vllm_install import check_vllm
from agentgym_rft.config.load import find_yaml, merge, read_yaml
from agentgym_rft.config.run import AgentSection, Config, PolicySection
from agentgym_rft.config.sft import SftConfig
from agentgym_rft.config.team import SeatSection
from agentgym_rft.envs.making import make_env, seats_of
from agentgym_rft.envs.multi_agent import TextAECEnv
from agentgym_rft.envs.turns import TurnsEnv
from agentgym_rft.errors import ConfigError, DataError, PolicyError
from agentgym_rft.rollouts.reflection.chat import Speaker
from agentgym_rft.rollouts.reflection.endpoint import EndpointReflector
from agentgym_rft.rollouts.reflection.reflectors import HindsightReflector, Reflector, SpokenReflector
from agentgym_rft.rollouts.seats import SCRIPTS, TRAINED, Cast, check_seats, make_cast, player_key, seat_section
from agentgym_rft.rollouts.workers.base import Workers
from agentgym_rft.rollouts.workers.env_maker import env_maker
from agentgym_rft.rollouts.workers.local import LocalWorkers
from agentgym_rft.store.run_policies import split_role, trained_policy


def load_card(section: AgentSection) -> AgentCard:
    """The agent card of a run: the named one with the overrides laid over it. Raises `ConfigError`."""
    return parse_card(merge(read_yaml(find_yaml("agents", section.card)), section.overrides))


def find_device(name: str) -> torch.device:
    """The device of a name; `auto` is CUDA where it is present. Raises `ConfigError` for one this machine lacks."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"'{name}' is no device. Write auto, cpu, cuda or cuda:0.") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"Device '{name}' is not there: this machine has {torch.cuda.device_count()} CUDA devices.")
    try:
        torch.ones(1, device=device).item()
    except (RuntimeError, NotImplementedError) as error:
        problem = str(error).splitlines()[0].rstrip(".")
        raise ConfigError(f"Device '{name}' cannot be used here: {problem}. Write auto, cpu or cuda.") from error
    return device


def policy_dir(name: str) -> Path:
    """The model directory that a policy's name means.

    `seed` and `seed:NAME` are embedded policies; the output of `agentgym sft` means its model, and a training run the
    model of its newest good checkpoint; where it trained a policy for each role, RUN#ROLE says which. Any other name is
    a directory in Hugging Face format, and not looked at here.
    `vllm:` before any of them says who samples, and changes nothing here.

    Raises:
        DataError: the name is empty, this installation has no seed policy, or it is not said which policy of a run.
        CheckpointError: the run has no good checkpoint.
    """
    name = model_name(name)
    if not name.strip():
        raise DataError(
            "The policy has an empty name. Expected 'seed', 'seed:NAME', or a directory in Hugging Face format."
        )
    if is_seed(name):
        return seed_policy_path(name)
    path, role = split_role(name)
    if (path / "config.json").is_file():
        return path
    if (path / "model" / "config.json").is_file():
        return path / "model"
    return trained_policy(path, role).model_dir if role or (path / "config.yaml").is_file() else path


@contextmanager
def _refused_as_data(path: str) -> Iterator[None]:
    """A policy that cannot be used at all is the fault of what was given, not of the run."""
    try:
        yield
    except PolicyError as error:
        raise DataError(f"Policy '{path}' cannot be used. {error}") from error


def load_policy_model(section: PolicySection, dtype: torch.dtype | None = None) -> tuple[Any, Any]:
    """Model and tokenizer of a policy, on its device; sets torch's thread count if the section does.

    Args:
        dtype: of the weights; default: bfloat16 on CUDA, float32 elsewhere.
    Raises:
        DataError: the directory holds no usable model, or this installation has no seed policy.
        CheckpointError: the directory is a training run without a good checkpoint.
        ConfigError: the device is not there, or the policy is for vLLM, which cannot be used here.
    """
    if section.num_threads is not None:
        torch.set_num_threads(section.num_threads)
    if is_vllm(section.path):
        check_vllm()  # refused before a large model is read
    device = find_device(section.device)
    return load_model(policy_dir(section.path), device=device, dtype=dtype)


def serve(model: Any, section: PolicySection, *, spans_versions: bool = False) -> Policy:
    """The policy that samples from a model; see `HFPolicy` for `spans_versions`.

    Args:
        model: of the section's path. vLLM has a model of its own, and only compares with this one at the start.
    Raises:
        DataError, ConfigError: it cannot be served so.
    """
    if section.deterministic and (is_vllm(section.path) or (section.sampling_threads or 1) > 1):
        raise ConfigError(
            "policy.deterministic is for the hf policy with one thread: leave out vllm: and policy.sampling_threads."
        )
    with _refused_as_data(section.path):
        if is_vllm(section.path):
            from agentgym_rft.agents.policies.vllm import VLLMPolicy

            return VLLMPolicy(
                policy_dir(section.path),
                section.vllm,
                device=section.device,
                max_concurrency=section.max_concurrency,
                max_context=section.max_context,
                spans_versions=spans_versions,
                model=model,
            )
        return HFPolicy(
            model,
            max_concurrency=section.max_concurrency,
            max_context=section.max_context,
            num_threads=section.sampling_threads,
            spans_versions=spans_versions,
            is_invariant=section.deterministic,
        )


def policy_section(config: Config, path: str | None = None) -> PolicySection:
    """How the policies of a run are served: with a place in the cache for every agent of every episode at once.

    Args:
        path: of another policy than the run's own.
    """
    num_agents = max(len(seats_of(config.env.id, config.env.options)), 1)
    section = config.policy
    changes: dict[str, Any] = {"max_concurrency": section.max_concurrency * num_agents}
    return section.model_copy(update=changes if path is None else {**changes, "path": path})


def make_workers(
    config: Config,
    tokenizer: Any,
    policy: Policy | None,
    reflector: Reflector | None = None,
    *,
    dtype: torch.dtype | None = None,
) -> Workers:
    """Workers that play the run's environment, wherever it runs, with its agent card.

    Without a `reflector`, the policy reflects on its own episodes, where the strategy asks for it.

    Args:
        policy: who plays; None with `rollout.workers=ray`, whose processes make their own.
        dtype: of their weights, as `load_policy_model` takes it.
    Raises:
        ConfigError: there is no such card, or it is wrong; workers on Ray cannot be had.
        DataError: the tokenizer's chat template cannot be used.
    """
    card = load_card(config.agent)
    with _refused_as_data(config.policy.path):
        if config.rollout.workers == "ray":
            from agentgym_rft.rollouts.ray.opening import open_ray_workers

            cast = open_cast(config, tokenizer)
            return open_ray_workers(config, card, tokenizer, reflector=reflector, cast=cast, dtype=dtype)
        assert policy is not None, "only workers on Ray make their own policy"
        return LocalWorkers(
            env_maker(config),
            card,
            tokenizer,
            policy,
            max_concurrency=config.policy.max_concurrency,
            max_context=config.policy.max_context,
            reflector=reflector,
            cast=open_cast(config, tokenizer),
        )


def open_cast(config: Config, tokenizer: Any) -> Cast:
    """The seats of the run's environment as its configuration fills them; none where it has one agent.

    Raises:
        ConfigError: a seat is configured twice or is not there, or its card is wrong.
    """
    agents = seats_of(config.env.id, config.env.options)
    sections = config.team.seats
    check_seats(agents, sections)
    cards, keys = {}, {}
    for agent, role in agents.items():
        section = seat_section(agent, role, sections)
        cards[agent] = seat_card(config, section)
        keys[agent] = player_key(section, role, config.team)
    return make_cast(agents, sections, cards, keys, tokenizer)


def seat_card(config: Config | SftConfig, section: SeatSection) -> AgentCard:
    """The card of a seat: its own, or that of the run, with the overrides of both. Raises `ConfigError`."""
    own = merge(config.agent.overrides, section.overrides) if section.card is None else section.overrides
    return load_card(AgentSection(card=section.card or config.agent.card, overrides=own))


def with_frozen(config: Config, policies: Mapping[str, Policy], dtype: torch.dtype | None = None) -> Policy:
    """The trained policies, by key, and beside them those that only play: the policy of every seat.

    A `RoutedPolicy` where there are several, or more may come (`team.pool`).

    Raises:
        ConfigError, DataError, CheckpointError: a policy cannot be used.
    """
    frozen: dict[str, Policy] = {}
    for section in config.team.seats.values():
        if section.policy != TRAINED and section.policy not in (*SCRIPTS, *frozen):
            own = policy_section(config, section.policy)
            frozen[section.policy] = serve(load_policy_model(own, dtype)[0], own)
    if not frozen and len(policies) == 1 and not config.team.pool.share:
        return next(iter(policies.values()))
    return RoutedPolicy({**policies, **frozen}, tuple(policies))


def make_reflector(config: Config) -> Reflector | None:
    """The reflector that `rollout.reflect.reflector` names; None for the policy itself and for other strategies.

    Raises:
        ConfigError: it is an endpoint without an http address.
        DataError, CheckpointError: it is a policy that cannot be used.
    """
    kind, _, rest = config.rollout.reflect.reflector.partition(":")
    if kind == "self" or config.rollout.strategy != "reflect_retry":
        return None
    if kind == "hindsight":
        env = make_env(config.env.id, config.env.options)
        env.close()
        return HindsightReflector(env.lesson) if env.has_lessons else HindsightReflector()
    card = load_card(config.agent)
    if kind == "openai":
        model, _, url = rest.partition("@")
        return EndpointReflector(card, model, url)
    section = config.policy.model_copy(update={"path": rest})
    network, tokenizer = load_policy_model(section)
    with _refused_as_data(rest):
        speaker = Speaker(chat_format(tokenizer, card), serve(network, section), section.max_context)
    return SpokenReflector(card, speaker.reply, is_own=False)


def check_credit(config: Config) -> None:
    """Raise `ConfigError` if the strategy `counterfactual` is to replace turns by no-ops that there are none of."""
    if config.rollout.strategy != "counterfactual" or config.team.counterfactual.by != "noop":
        return
    env = make_env(config.env.id, config.env.options)
    env.close()
    if not isinstance(env, TurnsEnv) or type(env.env).noop is TextAECEnv.noop:
        raise ConfigError(f"'{config.env.id}' has no action that does nothing: write team.counterfactual.by=policy.")


def open_workers(config: Config) -> Workers:
    """Workers with a policy of their own, for evaluation."""
    model, tokenizer = load_policy_model(config.policy)
    on_ray = config.rollout.workers == "ray"
    return make_workers(config, tokenizer, None if on_ray else serve(model, policy_section(config)))
