"""Loads the policies of a run: finds the model that a name means, its device, and the engine that samples from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from agentgym_rft.agents.policies.base import Policy
from agentgym_rft.agents.policies.hf import HFPolicy
from agentgym_rft.agents.policies.loading import load_model
from agentgym_rft.agents.policies.names import is_vllm, model_name
from agentgym_rft.agents.policies.routed import RoutedPolicy
from agentgym_rft.agents.policies.seeds import is_seed, seed_policy_path
from agentgym_rft.agents.policies.vllm_install import check_vllm
from agentgym_rft.config.policy import PolicySection
from agentgym_rft.config.run import Config
from agentgym_rft.envs.making import seats_of
from agentgym_rft.errors import ConfigError, DataError, PolicyError
from agentgym_rft.rollouts.seats import SCRIPTS, TRAINED
from agentgym_rft.store.run_policies import split_role, trained_policy


def find_device(name: str) -> torch.device:
    """Return the device of a name; `auto` is CUDA where it is present.
    Raises `ConfigError` for one this machine lacks.
    """
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
    """Return the model directory that a policy's name means.

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
def refused_as_data(path: str) -> Iterator[None]:
    """Return a policy that cannot be used at all is the fault of what was given, not of the run."""
    try:
        yield
    except PolicyError as error:
        raise DataError(f"Policy '{path}' cannot be used. {error}") from error


def sampling_dtype(section: PolicySection, auto: torch.dtype | None = None) -> torch.dtype | None:
    """Return the type of the weights that sample: the one that the section names, or `auto`."""
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}.get(section.dtype, auto)


def load_policy_model(section: PolicySection, dtype: torch.dtype | None = None) -> tuple[Any, Any]:
    """Return model and tokenizer of a policy, on its device; sets torch's thread count if the section does.

    Args:
        dtype: of the weights; default: that of the section, which by default is bfloat16 on CUDA, float32 elsewhere.
    Raises:
        DataError: the directory holds no usable model, or this installation has no seed policy.
        CheckpointError: the directory is a training run without a good checkpoint.
        ConfigError: the device is not there; the policy is for vLLM, which cannot be used here; nobody samples from it
            deterministically; or vLLM does not read the settings given.
    """
    if section.deterministic and (is_vllm(section.path) or (section.sampling_threads or 1) > 1):
        raise ConfigError(
            "policy.deterministic is for the hf policy with one thread: leave out vllm: and policy.sampling_threads."
        )
    if is_vllm(section.path) and section.dtype != "auto":
        raise ConfigError("policy.dtype is for the hf policy. For one of vLLM set policy.vllm.dtype.")
    if section.num_threads is not None:
        torch.set_num_threads(section.num_threads)
    if is_vllm(section.path):
        check_vllm()  # refused before a large model is read
    device = find_device(section.device)
    return load_model(policy_dir(section.path), device=device, dtype=dtype or sampling_dtype(section))


def serve(model: Any, section: PolicySection, *, spans_versions: bool = False) -> Policy:
    """Return the policy that samples from a model; see `HFPolicy` for `spans_versions`.

    Args:
        model: of the section's path. vLLM has a model of its own, and only compares with this one at the start.
    Raises:
        DataError, ConfigError: it cannot be served so.
    """
    with refused_as_data(section.path):
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
    """Return the settings of a run's policies, with a place in the cache for every agent of every running episode.

    Args:
        path: of another policy than the run's own.
    """
    num_agents = max(len(seats_of(config.env.id, config.env.options)), 1)
    section = config.policy
    changes: dict[str, Any] = {"max_concurrency": section.max_concurrency * num_agents}
    return section.model_copy(update=changes if path is None else {**changes, "path": path})


def with_frozen(config: Config, policies: Mapping[str, Policy], dtype: torch.dtype | None = None) -> Policy:
    """Return the trained policies, by key, and beside them those that only play: the policy of every seat.

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
