"""The official splits: which variations of a task are for training, development and test.

Counted in scienceworld 1.2.3, whose `get_variations_train`, `_dev` and `_test` need a running JVM and a loaded task.
The variations of a split follow those of the split before it.
"""

from __future__ import annotations

from agentgym_rft.errors import ConfigError, DataError, did_you_mean

SPLITS = ("train", "dev", "test")
NUM_VARIATIONS = {
    "boil": (14, 7, 9),
    "change-the-state-of-matter-of": (14, 7, 9),
    "chemistry-mix": (16, 8, 8),
    "chemistry-mix-paint-secondary-color": (18, 9, 9),
    "chemistry-mix-paint-tertiary-color": (18, 9, 9),
    "find-animal": (150, 75, 75),
    "find-living-thing": (150, 75, 75),
    "find-non-living-thing": (150, 75, 75),
    "find-plant": (150, 75, 75),
    "freeze": (14, 7, 9),
    "grow-fruit": (62, 31, 33),
    "grow-plant": (62, 31, 33),
    "identify-life-stages-1": (6, 3, 5),
    "identify-life-stages-2": (4, 2, 4),
    "inclined-plane-determine-angle": (84, 42, 42),
    "inclined-plane-friction-named-surfaces": (692, 346, 348),
    "inclined-plane-friction-unnamed-surfaces": (80, 40, 42),
    "lifespan-longest-lived": (62, 31, 32),
    "lifespan-longest-lived-then-shortest-lived": (62, 31, 32),
    "lifespan-shortest-lived": (62, 31, 32),
    "measure-melting-point-known-substance": (218, 109, 109),
    "measure-melting-point-unknown-substance": (150, 75, 75),
    "melt": (14, 7, 9),
    "mendelian-genetics-known-plant": (60, 30, 30),
    "mendelian-genetics-unknown-plant": (240, 120, 120),
    "power-component": (10, 5, 5),
    "power-component-renewable-vs-nonrenewable-energy": (10, 5, 5),
    "test-conductivity": (450, 225, 225),
    "test-conductivity-of-unknown-substances": (300, 150, 150),
    "use-thermometer": (270, 135, 135),
}


def check_tasks(names: tuple[str, ...]) -> None:
    """Raises `ConfigError` for a name that is no task, and where there is none."""
    if not names:
        raise ConfigError("tasks is empty; name at least one task.")
    for name in names:
        if name not in NUM_VARIATIONS:
            raise ConfigError(f"ScienceWorld has no task '{name}'.{did_you_mean(name, NUM_VARIATIONS)}")


def variations(task: str, split: str) -> range:
    """The variations of a task in a split."""
    place = SPLITS.index(split)
    start = sum(NUM_VARIATIONS[task][:place])
    return range(start, start + NUM_VARIATIONS[task][place])


def panel(tasks: tuple[str, ...], split: str) -> list[str]:
    """Ids of a split: the first variation of every task, then the second, and so on."""
    if split not in SPLITS:
        raise DataError(f"There is no split '{split}'; expected one of {', '.join(SPLITS)}.")
    ranks = [(rank, task, number) for task in tasks for rank, number in enumerate(variations(task, split))]
    return [f"{task}/{number}" for _, task, number in sorted(ranks)]


def read_task(task_id: str) -> tuple[str, int]:
    """Task and variation of an id. Raises `DataError`."""
    name, _, number = task_id.partition("/")
    if name not in NUM_VARIATIONS:
        raise DataError(f"There is no task '{task_id}'; ids look like boil/3.")
    if not number.isdecimal() or str(int(number)) != number or int(number) >= sum(NUM_VARIATIONS[name]):
        raise DataError(f"There is no task '{task_id}'; {name} has variations 0 to {sum(NUM_VARIATIONS[name]) - 1}.")
    return name, int(number)
