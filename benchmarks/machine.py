"""What a benchmark ran on, for the line above its table."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path


def describe() -> str:
    """CPU model, cores, Python, and the date."""
    info = Path("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    cpu = names[0] if names else platform.processor() or "unknown CPU"
    cores = len(os.sched_getaffinity(0))
    return f"{cpu}, {cores} cores, Python {platform.python_version()}, {time.strftime('%Y-%m-%d')}"
