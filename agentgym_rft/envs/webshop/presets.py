"""Protocols under which results were published, and our own, as data."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

from agentgym_rft.envs.webshop.goals import HUMAN, TEMPLATE
from agentgym_rft.envs.webshop.splits import Positions, Shares, SplitRule
from agentgym_rft.errors import ConfigError, did_you_mean


@dataclass(frozen=True, slots=True)
class Preset:
    """A protocol.

    `search_anywhere`: search on every page, as the original allows, not only where there is a search bar.
    `endless_next`: `next >` on every page of results, as the original has it, past the end too.
    `max_variants`: at most so many option combinations of one product are goals.
    `ends_on_repeat`: two equal actions in a row end the episode.
    """

    name: str
    kinds: tuple[str, ...]
    splits: SplitRule
    observation_mode: str = "text"
    max_steps: int = 15
    search_anywhere: bool = True
    endless_next: bool = True
    max_variants: int | None = None
    cap_per_goal: bool = False
    ends_on_repeat: bool = False


_SHUFFLE = 233  # the original's seed


def _slices(**bounds: tuple[int, int | None]) -> SplitRule:
    return MappingProxyType({split: Positions(_SHUFFLE, start, stop) for split, (start, stop) in bounds.items()})


_VERL_TEST = Positions(1000, 0, 500)  # its validation workers shuffle with other seeds than the training ones

PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            name="strict",
            kinds=(TEMPLATE, HUMAN),
            splits=Shares(dev=0.10, test=0.15),
            max_steps=20,
            search_anywhere=False,
            endless_next=False,
            max_variants=8,
            cap_per_goal=True,
        ),
        # The baselines of Yao et al. 2022: 500 for tests, 1,000 for evaluation during training.
        Preset(
            name="princeton",
            kinds=(HUMAN,),
            splits=_slices(train=(1500, None), dev=(500, 1500), test=(0, 500)),
            max_steps=100,
        ),
        # verl-agent (GiGPO): every worker has an order of its own, so what it tests on was trained on.
        Preset(
            name="verl_agent_small",
            kinds=(TEMPLATE,),
            splits=MappingProxyType({"train": Positions(0, 500, None), "dev": _VERL_TEST, "test": _VERL_TEST}),
        ),
        # R3L: sessions 0-4095 and 4096-4195; it has no third split, so dev is the hundred after them.
        Preset(
            name="r3l",
            kinds=(HUMAN,),
            splits=_slices(train=(0, 4096), dev=(4196, 4296), test=(4096, 4196)),
            observation_mode="text_rich",
            ends_on_repeat=True,
        ),
        # AgentGym: 200 goals for tests. Which ones is in files of its own, so these are the first of the order.
        Preset(
            name="agentgym",
            kinds=(TEMPLATE,),
            splits=_slices(train=(400, None), dev=(200, 400), test=(0, 200)),
        ),
    )
}


def find_preset(name: str) -> Preset:
    """Return the preset of a name. Raises `ConfigError` with the closest one."""
    if name not in PRESETS:
        raise ConfigError(f"WebShop has no preset '{name}'.{did_you_mean(name, PRESETS)}")
    return PRESETS[name]
