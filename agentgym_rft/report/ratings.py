"""Ratings of policies from their matches with each other (extra `multi`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, pvariance
from typing import Any

import numpy as np

from agentgym_rft.errors import ConfigError

ORDERS = 20


@dataclass(frozen=True, slots=True)
class Match:
    """A match of two policies: its sample and task, and the score of each."""

    place: tuple[int, int]  # sample, task
    policies: tuple[str, str]
    scores: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Rating:
    """Mean and standard deviation of a policy's skill; `ordinal` is mu - 3 sigma."""

    mu: float
    sigma: float
    ordinal: float
    num_matches: int


def rate(matches: Iterable[Match]) -> Mapping[str, Rating]:
    """Return the ratings, the best ordinal first. Equal scores are a draw.

    A rating of this kind depends on the order of the matches, the last ones counting more. So they are sorted (by
    sample, task and names, whatever order they come in) and rated in `ORDERS` fixed shuffles: `mu` is the mean over
    these, and `sigma` has their variance added to the model's own.

    Raises:
        ConfigError: openskill is not installed.
    Source: Weng and Lin 2011, "A Bayesian approximation method for online ranking", JMLR 12 (Plackett-Luce).
    """
    try:
        from openskill.models import PlackettLuce
    except ImportError as error:
        raise ConfigError("Ratings need openskill: pip install 'agentgym-rft[multi]'.") from error
    ordered = sorted(matches, key=lambda match: (match.place, match.policies))
    names = sorted({name for match in ordered for name in match.policies})
    rng = np.random.Generator(np.random.PCG64(0))
    model = PlackettLuce()
    shuffles = [_skills(model, names, [ordered[i] for i in rng.permutation(len(ordered))]) for _ in range(ORDERS)]
    found = {name: _rating([skills[name] for skills in shuffles], name, ordered) for name in names}
    return dict(sorted(found.items(), key=lambda item: -item[1].ordinal))


def _skills(model: Any, names: Sequence[str], matches: Sequence[Match]) -> dict[str, Any]:
    """Return openskill's ratings after the matches, in this order."""
    skills = {name: model.rating(name=name) for name in names}
    for match in matches:
        rated = model.rate([[skills[name]] for name in match.policies], scores=list(match.scores))
        skills.update({name: skill for name, (skill,) in zip(match.policies, rated, strict=True)})
    return skills


def _rating(skills: Sequence[Any], name: str, matches: Sequence[Match]) -> Rating:
    mus = [float(skill.mu) for skill in skills]
    mu = fmean(mus)
    sigma = (fmean(float(skill.sigma) ** 2 for skill in skills) + pvariance(mus)) ** 0.5
    return Rating(mu, sigma, mu - 3 * sigma, sum(name in match.policies for match in matches))
