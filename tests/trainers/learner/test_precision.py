"""bfloat16 only where a device multiplies in it, unless it is asked for."""

from __future__ import annotations

import pytest
import torch

from agentgym_rft.trainers.learner import precision

CPU = torch.device("cpu")


@pytest.mark.parametrize("is_fast", [True, False])
@pytest.mark.parametrize(("setting", "expected"), [(True, True), (False, False), ("auto", None)])
def test_only_auto_asks_the_device(monkeypatch, setting, expected, is_fast):
    monkeypatch.setattr(precision, "multiplies_in_bfloat16", lambda device: is_fast)
    assert precision.is_bfloat16(setting, CPU) is (is_fast if expected is None else expected)


def test_a_processor_multiplies_in_bfloat16_only_with_instructions_for_it():
    flags = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    is_fast = precision.multiplies_in_bfloat16(CPU)
    assert is_fast or not flags
    if torch.backends.cpu.get_cpu_capability() == "AVX2":
        assert not is_fast
