from __future__ import annotations

import platform

import pytest
import torch

from agentgym_rft.trainers.learner.memory import release_memory


def resident_mb() -> float:
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no malloc_trim")
def test_freed_memory_between_blocks_in_use_is_given_back():
    before = resident_mb()
    blocks = [torch.ones(2**14) for _ in range(4_000)]  # 64 KiB each, below the size that is mapped by itself
    assert resident_mb() - before > 200
    kept = blocks[::100]
    del blocks
    release_memory(torch.device("cpu"))
    assert resident_mb() - before < 100
    assert len(kept) == 40
