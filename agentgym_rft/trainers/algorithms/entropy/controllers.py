"""Controllers of entropy: they remember earlier steps and set a coefficient, a temperature or a column from them.

Each reads a step's prepared table (of the policy before the update) and its metrics. Its state is saved as JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from agentgym_rft.trainers.algorithms.entropy.statistics import batch_entropy, main_tokens, segment_mean
from agentgym_rft.trainers.algorithms.parts import Context
from agentgym_rft.trainers.algorithms.units import Unit, unit_sum
from agentgym_rft.trainers.batch.table import TokenTable


def observed_entropy(table: TokenTable, metrics: Mapping[str, float], unit: Unit) -> float | None:
    """Return mean entropy of a step over its units, nats; for tokens the step's own metric, which costs nothing
    more.
    """
    return metrics.get("entropy/mean") if unit == "token" else batch_entropy(table, unit)


class TargetEntropy:
    """An integral controller: the coefficient of an entropy bonus rises while entropy is below its target.

    coefficient <- clip(coefficient + rate (target - entropy), low, high). As a `Coefficient`, it is the current number.
    With low = 0 it is SAC's dual update of the temperature (arXiv 1812.05905 section 5), with the coefficient itself
    instead of its logarithm.
    """

    name = "target_entropy"

    def __init__(self, target: float, rate: float, low: float, high: float, unit: Unit) -> None:
        self._target, self._rate, self._low, self._high, self._unit = target, rate, low, high, unit
        self._value = min(max(0.0, low), high)

    def __call__(self, context: Context) -> float:
        return self._value

    def observe(self, table: TokenTable, metrics: Mapping[str, float]) -> None:
        entropy = observed_entropy(table, metrics, self._unit)
        if entropy is not None:
            self._value = min(max(self._value + self._rate * (self._target - entropy), self._low), self._high)

    def state_dict(self) -> dict[str, Any]:
        return {"coefficient": self._value}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._value = float(state["coefficient"])


class AdaptiveTemperature:
    """The sampling temperature of a step: `high` if the last step's entropy was below the target, else `low`.

    1 before the first step. Source: AEPO, arXiv 2510.08141 (its switch of the temperature).
    """

    name = "adaptive_temperature"

    def __init__(self, target: float, low: float, high: float, unit: Unit) -> None:
        self._target, self._low, self._high, self._unit = target, low, high, unit
        self._value = 1.0

    def __call__(self, context: Context) -> float:
        return self._value

    def observe(self, table: TokenTable, metrics: Mapping[str, float]) -> None:
        entropy = observed_entropy(table, metrics, self._unit)
        if entropy is not None:
            self._value = self._high if entropy < self._target else self._low

    def state_dict(self) -> dict[str, Any]:
        return {"temperature": self._value}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._value = float(state["temperature"])


class EntropyHistory:
    """Mean entropy at each turn number over the steps so far; every step counts once, however many turns it had.

    `unit` token: a step's mean over the tokens at a turn number; else over the means of its turns.
    Source: EPO, arXiv 2509.22576.
    """

    name = "epo"

    def __init__(self, unit: Unit) -> None:
        self._unit = unit
        self._means: list[float] = []
        self._steps: list[int] = []

    def means(self, table: TokenTable) -> Tensor:
        """Return for each token the mean so far at its turn number, nats, [N] float64; nan where no step got that
        far.
        """
        position = table.token_column("position").long()
        known = [mean if steps else torch.nan for mean, steps in zip(self._means, self._steps, strict=True)]
        missing = max(int(position.amax()) + 1 - len(known), 0)
        padded = torch.tensor([*known, *([torch.nan] * missing)], dtype=torch.float64, device=position.device)
        return padded[position]

    def observe(self, table: TokenTable, metrics: Mapping[str, float]) -> None:
        position = table.token_column("position").long()
        weights = main_tokens(table)
        if self._unit != "token":
            weights = weights / unit_sum(torch.ones_like(weights), table, "turn")
        means, seen = segment_mean(table.columns["entropy"], weights, position, int(position.amax()) + 1)
        missing = max(len(means) - len(self._means), 0)
        self._means.extend([0.0] * missing)
        self._steps.extend([0] * missing)
        for turn in seen.nonzero()[:, 0].tolist():
            self._steps[turn] += 1
            self._means[turn] += (float(means[turn]) - self._means[turn]) / self._steps[turn]

    def state_dict(self) -> dict[str, Any]:
        return {"means": list(self._means), "steps": list(self._steps)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._means = [float(mean) for mean in state["means"]]
        self._steps = [int(steps) for steps in state["steps"]]


class EntropyAnchor:
    """Keeps the entropy that was measured in the first step. Source: SIREN, arXiv 2509.25133."""

    name = "siren"

    def __init__(self, measure: Callable[[TokenTable], float]) -> None:
        self._measure = measure
        self.value: float | None = None

    def observe(self, table: TokenTable, metrics: Mapping[str, float]) -> None:
        if self.value is None:
            self.value = self._measure(table)

    def state_dict(self) -> dict[str, Any]:
        return {"anchor": self.value}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.value = None if state["anchor"] is None else float(state["anchor"])
