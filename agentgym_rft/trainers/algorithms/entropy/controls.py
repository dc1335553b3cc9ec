"""Registered entropy controls: each turns an algorithm into the same algorithm with one more part.

They combine freely with any algorithm and with each other, in the order in which the recipe lists them. The unit
(`algorithm.units.entropy`) says whether they judge tokens, or turns and trajectories by the mean or sum over theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

from pydantic import Field

from agentgym_rft.config.base import Options
from agentgym_rft.config.run import AlgorithmSection
from agentgym_rft.errors import ConfigError
from agentgym_rft.registry.plugins import Plugin, PluginRegistry
from agentgym_rft.trainers.algorithms.base import Algorithm
from agentgym_rft.trainers.algorithms.distribution_stats import kept_mass, nucleus_entropy
from agentgym_rft.trainers.algorithms.entropy import controllers, filters, terms
from agentgym_rft.trainers.algorithms.parts import Context, Controller, Regularizer, Stage, TokenFilter
from agentgym_rft.trainers.algorithms.units import Unit, unit_of

Build = Callable[[Algorithm, Any, Unit], Algorithm]


CONTROLS: PluginRegistry[Build] = PluginRegistry(
    "Entropy control", "agentgym_rft.controls", ("algorithm", "options", "unit"), Algorithm
)


def register_control(name: str, options: type[Options] = Options) -> Callable[[Build], Build]:
    """Return a decorator that registers a control: a function of the algorithm, its options and the unit it judges.

    Raises `RegistryError` for a name that is taken.
    """
    return CONTROLS.decorator(name, lambda build: Plugin(build, options))


def apply_controls(algorithm: Algorithm, section: AlgorithmSection) -> Algorithm:
    """Return the algorithm with the section's controls, in order.

    Raises:
        RegistryError: a name is not registered.
        ConfigError: an entry, an option or the unit does not fit the control, or a control is listed twice.
    """
    unit = unit_of(section, "entropy", "token")
    seen: set[Build] = set()
    for name, build, options in CONTROLS.listed(section.controls, "algorithm.controls"):
        if build in seen:
            raise ConfigError(f"Entropy control '{name}' is in algorithm.controls twice; list it once.")
        seen.add(build)
        algorithm = CONTROLS.checked(name, build(algorithm, options, unit))
    return algorithm


def refuse_unit(name: str, unit: Unit, refused: tuple[Unit, ...], why: str) -> None:
    """Raise `ConfigError` if a control makes no sense for a unit."""
    if unit in refused:
        raise ConfigError(f"Entropy control '{name}' cannot judge a {unit}: {why} Set algorithm.units.entropy=token.")


def _filtered(algorithm: Algorithm, part: TokenFilter) -> Algorithm:
    return replace(algorithm, filters=(*algorithm.filters, part))


def _regularized(
    algorithm: Algorithm, stage: Stage, added: tuple[Regularizer, ...], controller: Controller | None = None
) -> Algorithm:
    return replace(
        algorithm,
        advantage_transforms=(*algorithm.advantage_transforms, stage),
        regularizers=(*algorithm.regularizers, *added),
        controllers=(*algorithm.controllers, *([controller] if controller else [])),
    )


def _observed(algorithm: Algorithm, name: str, unit: Unit) -> Algorithm:
    """Return the algorithm with the entropy before the update in its table, where a controller needs that."""
    if unit == "token":
        return algorithm
    return replace(algorithm, advantage_transforms=(*algorithm.advantage_transforms, terms.measured_entropy(name)))


def _ordered(name: str, **ends: float) -> None:
    """Raise `ConfigError` if the first of two options is above the second."""
    (low_name, low), (high_name, high) = ends.items()
    if low > high:
        raise ConfigError(f"Entropy control '{name}' has {low_name} {low} above {high_name} {high}.")


class ClipBOptions(Options):
    mu: float = Field(2.5, gt=0, description="standard deviations; the paper's range is 2 to 3")
    sides: Literal["both", "negative"] = Field("both", description="the paper's rule, or the released code's")


@register_control("clip_b", ClipBOptions)
def clip_b(algorithm: Algorithm, options: ClipBOptions, unit: Unit) -> Algorithm:
    """Clip_B: drops tokens whose discriminator is an outlier of the batch. Source: arXiv 2602.03392."""
    return _filtered(algorithm, filters.clip_b(options.mu, options.sides, unit))


class ClipVOptions(Options):
    mu: float = Field(8.5, gt=0, description="standard deviations; the paper's range is 7.5 to 8.5")
    sides: Literal["both", "negative"] = Field("both", description="the paper's rule, or the released code's")
    max_frac: float = Field(1e-4, gt=0, le=1, description="largest share dropped, with sides=negative")


@register_control("clip_v", ClipVOptions)
def clip_v(algorithm: Algorithm, options: ClipVOptions, unit: Unit) -> Algorithm:
    """Clip_V: drops tokens whose predicted change of entropy is an outlier. Source: arXiv 2602.03392."""
    return _filtered(algorithm, filters.clip_v(options.mu, options.sides, options.max_frac, unit))


class ClipCovOptions(Options):
    ratio: float = Field(2e-4, gt=0, le=1, description="share of all tokens to drop")
    low: float = Field(1.0, description="covariance above which a token may be dropped")
    high: float = Field(5.0, description="covariance below which it may")


@register_control("clip_cov", ClipCovOptions)
def clip_cov(algorithm: Algorithm, options: ClipCovOptions, unit: Unit) -> Algorithm:
    """Clip-Cov: drops a few random tokens of large covariance. Source: arXiv 2505.22617."""
    _ordered("clip_cov", low=options.low, high=options.high)
    return _filtered(algorithm, filters.clip_cov(options.ratio, options.low, options.high, unit))


class KlCovOptions(Options):
    percent: float = Field(0.2, gt=0, le=100, description="per cent, not share, of tokens with a penalty")
    coef: float = Field(1.0, ge=0, description="weight of the penalty")


@register_control("kl_cov", KlCovOptions)
def kl_cov(algorithm: Algorithm, options: KlCovOptions, unit: Unit) -> Algorithm:
    """KL-Cov: no bounds of the ratio, but a penalty on the tokens of largest covariance. Source: arXiv 2505.22617.

    Only bounds that stop gradients, as PPO's do, are taken away; losses of another form stay and get the penalty.
    """
    term = terms.covariant_penalty(options.coef)
    algorithm = _regularized(algorithm, terms.covariant_units(options.percent, unit), (term,))
    if not algorithm.surrogate.stops_gradient:
        return algorithm
    return replace(algorithm, surrogate=terms.unclipped(algorithm.surrogate))


class EntropyBonusOptions(Options):
    coef: float = Field(0.001, description="weight; negative lowers entropy")


@register_control("entropy_bonus", EntropyBonusOptions)
def entropy_bonus(algorithm: Algorithm, options: EntropyBonusOptions, unit: Unit) -> Algorithm:
    """-coef times the mean entropy over units; for tokens what `algorithm.entropy_coef` does."""
    stage = terms.unit_weights("entropy_bonus", unit)
    return _regularized(algorithm, stage, (terms.mean_entropy("entropy_bonus", options.coef),))


class EpoOptions(Options):
    coef: float = Field(0.001, ge=0, description="weight of the entropy bonus")
    smooth: float = Field(1.0, ge=0, description="weight of the band's penalty relative to the bonus")
    low: float = Field(0.0, ge=0, description="lower end of the band, times the mean so far")
    high: float = Field(2.0, gt=0, description="upper end of the band, times the mean so far")
    alpha: float = Field(0.1, ge=0, description="penalty for each nat outside the band")
    phase: terms.Phase = Field("rising", description="how the penalty's weight changes from step to step")
    phase_start: float = Field(0.5, gt=0, le=1, description="its first value, with phase=rising; ours")
    phase_steps: int = Field(150, ge=1, description="steps until its last value")


@register_control("epo", EpoOptions)
def epo(algorithm: Algorithm, options: EpoOptions, unit: Unit) -> Algorithm:
    """EPO: entropy bonus, and a penalty outside a band around the mean so far at the turn. Source: arXiv 2509.22576."""
    _ordered("epo", low=options.low, high=options.high)
    history = controllers.EntropyHistory(unit)
    phase = terms.phase_weight(options.phase, options.phase_start, options.phase_steps)

    def band_coef(context: Context) -> float:
        return options.coef * options.smooth * options.alpha * phase(context)

    penalties = (
        terms.mean_entropy("epo_entropy", options.coef),
        terms.outside_band(band_coef, unit),
    )
    weighted = _regularized(algorithm, terms.unit_weights("epo_entropy", unit), penalties, history)
    band = terms.entropy_band(options.low, options.high, history.means, unit)
    return replace(weighted, advantage_transforms=(*weighted.advantage_transforms, band))


class TargetEntropyOptions(Options):
    target: float = Field(0.5, gt=0, description="nats")
    rate: float = Field(0.01, gt=0, description="change of the coefficient for each nat off target, a step")
    low: float = Field(0.0, description="smallest coefficient; below 0 it may also push entropy down")
    high: float = Field(0.1, description="largest coefficient")


@register_control("target_entropy", TargetEntropyOptions)
def target_entropy(algorithm: Algorithm, options: TargetEntropyOptions, unit: Unit) -> Algorithm:
    """An entropy bonus whose coefficient is fed back to hold entropy at a target. Source: ours, after SAC."""
    _ordered("target_entropy", low=options.low, high=options.high)
    controller = controllers.TargetEntropy(options.target, options.rate, options.low, options.high, unit)
    term = terms.mean_entropy("target_entropy", controller)
    weights = terms.unit_weights("target_entropy", unit)
    return _observed(_regularized(algorithm, weights, (term,), controller), "target_entropy", unit)


class AdaptiveTemperatureOptions(Options):
    target: float = Field(0.5, gt=0, description="nats")
    low: float = Field(0.8, gt=0, description="temperature of a step after one at or above the target")
    high: float = Field(1.2, gt=0, description="temperature of a step after one below it")


@register_control("adaptive_temperature", AdaptiveTemperatureOptions)
def adaptive_temperature(algorithm: Algorithm, options: AdaptiveTemperatureOptions, unit: Unit) -> Algorithm:
    """Samples hotter after a step of low entropy, else colder; instead of `rollout.temperature`. Source: 2510.08141."""
    _ordered("adaptive_temperature", low=options.low, high=options.high)
    if algorithm.temperature is not None:
        raise ConfigError(f"Algorithm '{algorithm.name}' sets the temperature itself; leave out adaptive_temperature.")
    controller = controllers.AdaptiveTemperature(options.target, options.low, options.high, unit)
    algorithm = _observed(algorithm, "adaptive_temperature", unit)
    return replace(algorithm, temperature=controller, controllers=(*algorithm.controllers, controller))


class ForkingTokensOptions(Options):
    share: float = Field(0.2, gt=0, le=1, description="share of tokens with the highest entropy that train")


@register_control("forking_tokens", ForkingTokensOptions)
def forking_tokens(algorithm: Algorithm, options: ForkingTokensOptions, unit: Unit) -> Algorithm:
    """80/20: only the tokens of highest entropy have a policy loss. Source: arXiv 2506.01939."""
    return _filtered(algorithm, filters.forking_tokens(options.share, unit))


class SteerOptions(Options):
    shape: filters.Shape = Field("exponential", description="how the weight falls")
    w_min: float = Field(0.8, gt=0, le=1, description="smallest weight")
    w_max: float = Field(1.2, gt=0, description="largest weight, with shape=linear; else 1")


@register_control("steer", SteerOptions)
def steer(algorithm: Algorithm, options: SteerOptions, unit: Unit) -> Algorithm:
    """STEER: tokens that would change entropy much weigh less. Source: arXiv 2510.10150."""
    _ordered("steer", w_min=options.w_min, w_max=options.w_max)
    return _filtered(algorithm, filters.steer(options.shape, options.w_min, options.w_max, unit))


class SirenOptions(Options):
    coef: float = Field(0.005, ge=0, description="weight of the squared distance to the anchor")
    top_p: float = Field(0.8, gt=0, le=1, description="mass of the nucleus")
    quantile: float = Field(0.8, ge=0, lt=1, description="of a trajectory's entropies, above which a token is a peak")


@register_control("siren", SirenOptions)
def siren(algorithm: Algorithm, options: SirenOptions, unit: Unit) -> Algorithm:
    """SIREN: the nucleus entropy of peak tokens is drawn to that of the first step. Source: arXiv 2509.25133."""
    refuse_unit("siren", unit, ("trajectory",), "peaks are picked inside each trajectory.")
    distribution_stat = nucleus_entropy(options.top_p)
    column, q = distribution_stat.name, options.quantile
    anchor = controllers.EntropyAnchor(lambda table: terms.peak_entropy(table, column, q, unit))
    stage = terms.anchored(column, q, unit, algorithm.aggregation, lambda: anchor.value)
    algorithm = _regularized(algorithm, stage, (terms.anchoring(column, options.coef),), anchor)
    return replace(algorithm, distribution_stats=(*algorithm.distribution_stats, distribution_stat))


class LpRegOptions(Options):
    coef: float = Field(1.0, ge=0, description="weight of the KL")
    kappa: float = Field(0.02, ge=0, lt=1, description="noise is below this share of the largest probability")
    share: float = Field(0.01, gt=0, le=1, description="share of tokens that count as improbable")
    among: terms.Among = Field("all", description="share of which tokens: all, or those of A < 0")


@register_control("lp_reg", LpRegOptions)
def lp_reg(algorithm: Algorithm, options: LpRegOptions, unit: Unit) -> Algorithm:
    """Lp-Reg: keeps improbable tokens that are no noise from being pushed down. Source: arXiv 2510.03222."""
    refuse_unit("lp_reg", unit, ("turn", "trajectory"), "what is noise is said of single tokens.")
    distribution_stat = kept_mass(options.kappa)
    stage = terms.denoised_target(distribution_stat.name, options.kappa, options.share, options.among)
    algorithm = _regularized(algorithm, stage, (terms.denoised_kl(options.coef),))
    return replace(algorithm, distribution_stats=(*algorithm.distribution_stats, distribution_stat))


class AgenticClipOptions(Options):
    tokens: Literal["all", "high_entropy"] = Field("all", description="which keep their gradient at the upper bound")


@register_control("agentic_clip", AgenticClipOptions)
def agentic_clip(algorithm: Algorithm, options: AgenticClipOptions, unit: Unit) -> Algorithm:
    """Agentic AEPO's clip: the upper bound keeps a rescaled gradient. Source: arXiv 2510.14545 section 3."""
    if not algorithm.surrogate.stops_gradient:
        raise ConfigError(
            f"Entropy control 'agentic_clip' has nothing to do: no bound stops a gradient in the loss "
            f"'{algorithm.surrogate.name}' of '{algorithm.name}'."
        )
    gated = options.tokens == "high_entropy"
    surrogate = terms.preserving_upper(algorithm.surrogate, gated=gated)
    stages = (terms.uncertain_units(unit),) if gated else ()
    return replace(algorithm, surrogate=surrogate, advantage_transforms=(*algorithm.advantage_transforms, *stages))
