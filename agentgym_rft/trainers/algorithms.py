"""Registered algorithms, each a composition of a few lines.

To add one, write its missing part (one pure function) beside its siblings and register the composition here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from agentgym_rft.config import AlgorithmSection
from agentgym_rft.errors import ConfigError, RegistryError, did_you_mean
from agentgym_rft.trainers import losses
from agentgym_rft.trainers.advantages import (
    group_mean,
    group_std,
    leave_one_out,
    trajectory_advantage,
    turn_advantage,
    unscaled,
    weigh_negative,
)
from agentgym_rft.trainers.regularizers import entropy_bonus, kl_penalty
from agentgym_rft.trainers.stages import Aggregation, Algorithm, Ratio, Regularizer, Stage, Unit

Builder = Callable[[AlgorithmSection], Algorithm]

ALGORITHMS: dict[str, Builder] = {}

ANCHORS = {"old": "old_lp", "behaviour": "behaviour_lp"}
SCALES = {"std": group_std, "none": unscaled}


def register(name: str) -> Callable[[Builder], Builder]:
    """Decorator that registers a builder under a name. Raises `RegistryError` for a name that is taken."""

    def add(builder: Builder) -> Builder:
        if name in ALGORITHMS:
            raise RegistryError(f"An algorithm called '{name}' is already registered.")
        ALGORITHMS[name] = builder
        return builder

    return add


def build_algorithm(section: AlgorithmSection) -> Algorithm:
    """The composition that a configuration names. Raises `RegistryError` or `ConfigError` with the closest name."""
    if section.name not in ALGORITHMS:
        raise RegistryError(f"No algorithm is called '{section.name}'.{did_you_mean(section.name, ALGORITHMS)}")
    return ALGORITHMS[section.name](section)


def read_options(section: AlgorithmSection, known: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """Every known option with its value; the first choice is the default. Raises `ConfigError` for any other."""
    for key, value in section.options.items():
        if key not in known:
            hint = did_you_mean(key, known) or " It has none."
            raise ConfigError(f"Algorithm '{section.name}' has no option '{key}'.{hint}")
        if value not in known[key]:
            choices = ", ".join(known[key])
            raise ConfigError(f"Option '{key}' of algorithm '{section.name}' is {value!r}, expected one of: {choices}.")
    return {key: str(section.options.get(key, choices[0])) for key, choices in known.items()}


def aggregation_of(section: AlgorithmSection) -> Aggregation:
    """The aggregation that the section names."""
    return {
        "token_mean": losses.token_mean(),
        "sequence_mean": losses.sequence_mean(),
        "fixed_length": losses.fixed_length(section.fixed_length),
    }[section.aggregation]


def regularizers_of(section: AlgorithmSection) -> tuple[Regularizer, ...]:
    """KL penalty and entropy bonus where their coefficients are not zero."""
    terms = []
    if section.kl_coef:
        terms.append(kl_penalty(section.kl_coef, section.kl_estimator))
    if section.entropy_coef:
        terms.append(entropy_bonus(section.entropy_coef))
    return tuple(terms)


def clipped_policy_gradient(
    section: AlgorithmSection,
    advantage: Stage,
    *,
    anchor: str = "old",
    unit: Unit = "token",
    aggregation: Aggregation | None = None,
) -> Algorithm:
    """The GRPO family: an advantage in the clipped surrogate, everything else from the section."""
    return Algorithm(
        name=section.name,
        advantage=advantage,
        surrogate=losses.clipped(section.clip_low, section.clip_high),
        aggregation=aggregation or aggregation_of(section),
        ratio=Ratio(ANCHORS[anchor], unit),
        modulators=(weigh_negative(section.negative_weight),) if section.negative_weight != 1 else (),
        regularizers=regularizers_of(section),
        min_group_size=2,
    )


@register("grpo")
def grpo(section: AlgorithmSection) -> Algorithm:
    """GRPO: return minus group mean, over group std (`scale=none`: without). Source: arXiv 2402.03300."""
    options = read_options(section, {"scale": ("std", "none"), "anchor": ("old", "behaviour")})
    advantage = trajectory_advantage(group_mean, SCALES[options["scale"]])
    return clipped_policy_gradient(section, advantage, anchor=options["anchor"])


@register("turn_grpo")
def turn_grpo(section: AlgorithmSection) -> Algorithm:
    """GRPO with turns as units: a turn's discounted return, relative to all turns of the group. Source: ours."""
    options = read_options(section, {"scale": ("std", "none")})
    advantage = turn_advantage(section.gamma, group_mean, SCALES[options["scale"]])
    return clipped_policy_gradient(section, advantage)


@register("dr_grpo")
def dr_grpo(section: AlgorithmSection) -> Algorithm:
    """Dr. GRPO: no std, every trajectory's sum over the constant `fixed_length`. Source: arXiv 2503.20783."""
    read_options(section, {})
    advantage = trajectory_advantage(group_mean)
    return clipped_policy_gradient(section, advantage, aggregation=losses.fixed_length(section.fixed_length))


@register("rloo")
def rloo(section: AlgorithmSection) -> Algorithm:
    """RLOO's leave-one-out advantage in the clipped surrogate; at ratio 1 its gradient is the paper's REINFORCE.

    The paper sums a trajectory's tokens: that is `aggregation=fixed_length` with `fixed_length=1`. Source: 2402.14740.
    """
    read_options(section, {})
    return clipped_policy_gradient(section, trajectory_advantage(leave_one_out))


@register("gspo")
def gspo(section: AlgorithmSection) -> Algorithm:
    """GSPO: the ratio of a whole trajectory, mean over trajectories. Source: arXiv 2507.18071 eq. 5 to 7."""
    read_options(section, {})
    advantage = trajectory_advantage(group_mean, group_std)
    return clipped_policy_gradient(section, advantage, unit="trajectory", aggregation=losses.sequence_mean())
