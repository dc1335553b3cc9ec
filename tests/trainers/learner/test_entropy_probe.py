from __future__ import annotations

import copy
import json
from itertools import pairwise
from statistics import correlation

import pytest
import torch

from agentgym_rft.config.run import AlgorithmSection
from agentgym_rft.report.metrics import read_metrics
from agentgym_rft.trainers.algorithms import build_algorithm
from agentgym_rft.trainers.algorithms.parts import Context
from agentgym_rft.trainers.batch.table import build_table
from agentgym_rft.trainers.learner.entropy_probe import EntropyProbe, choose_states
from agentgym_rft.trainers.learner.optimizer import make_optimizer
from agentgym_rft.trainers.learner.scoring import make_scorer
from agentgym_rft.trainers.loop import train
from tests.trainers.test_loop import switch_config
from tests.trainers.tiny import CFG, tiny_batch, tiny_groups, update

GRPO = build_algorithm(AlgorithmSection())


def measured_step(model, batch, learning_rate, optimizer_type=torch.optim.SGD, **cfg):
    """Metrics of the probe over one update of a copy of the model."""
    model = copy.deepcopy(model)
    scorer, probe = make_scorer(model), EntropyProbe(num_states=16, seed=0, micro_batch_tokens=32)
    section = CFG.model_copy(update={"learning_rate": learning_rate, **cfg})
    optimizer = optimizer_type(model.parameters(), lr=learning_rate)
    before = probe.before(scorer, *batch)
    update(scorer, optimizer, *batch, GRPO, section, Context())
    return probe.after(scorer, before)


def mean_entropy(model, probe):
    """Mean over the probe's states, from the full logits of unpadded rows."""
    entropies = []
    for row in probe.rows:
        logits = model(torch.from_numpy(row.ids)[None]).logits[0, row.positions - 1]
        entropies.append(torch.distributions.Categorical(logits=logits).entropy())
    return torch.cat(entropies).mean().detach()


@pytest.mark.parametrize("optimizer_type", [torch.optim.SGD, torch.optim.AdamW])
def test_half_the_step_leaves_a_quarter_of_the_predictions_error(model, batch, optimizer_type):
    """Adam's first step is the learning rate times a sign, so it halves with it, too."""
    rate = 1e-4 if optimizer_type is torch.optim.SGD else 1e-6
    whole, half = (measured_step(model, batch, r, optimizer_type) for r in (rate, rate / 2))
    errors = [m["entropy/measured_delta"] - m["entropy/predicted_delta"] for m in (whole, half)]
    assert abs(errors[0]) < 0.02 * abs(whole["entropy/measured_delta"])
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.02)


def test_the_measured_change_is_that_of_the_full_logits(model, batch):
    model = copy.deepcopy(model)
    scorer, probe = make_scorer(model), EntropyProbe(16, 0, 32)
    first = probe.before(scorer, *batch)
    before = mean_entropy(model, probe)
    optimizer = make_optimizer(model, CFG)
    update(scorer, optimizer, *batch, GRPO, CFG.model_copy(update={"num_minibatches": 3}), Context())
    metrics = probe.after(scorer, first)
    assert metrics["entropy/probe"] == pytest.approx(float(before), rel=1e-9)
    assert metrics["entropy/measured_delta"] == pytest.approx(float(mean_entropy(model, probe) - before), rel=1e-9)


def test_predictions_follow_the_measured_changes_over_a_run(model):
    """Steps on different batches, each from the same weights; large enough that the second order shows."""
    metrics = [measured_step(model, tiny_batch(model, seed), 0.005) for seed in range(8)]
    predicted, measured = ([m[f"entropy/{name}_delta"] for m in metrics] for name in ("predicted", "measured"))
    assert any(abs(p - m) > 1e-5 for p, m in zip(predicted, measured, strict=True))
    assert correlation(predicted, measured) > 0.95


def test_states_are_distinct_positions_of_the_batch_over_several_rows(model, batch):
    _, rows = batch
    chosen = choose_states(rows, 12, seed=3)
    assert sum(len(row.positions) for row in chosen) == 12
    assert len(chosen) > 2
    for row in chosen:
        origin = next(r for r in rows if r.ids[: len(row.ids)].tolist() == row.ids.tolist())
        assert set(row.positions.tolist()) <= set(origin.positions.tolist())
        assert len(set(row.positions.tolist())) == len(row.positions)
        assert row.positions[-1] == len(row.ids) - 1
    assert [i for row in chosen for i in row.index] == list(range(12))
    assert _ids(choose_states(rows, 12, seed=3)) == _ids(chosen) != _ids(choose_states(rows, 12, seed=4))


def _ids(rows):
    return [(row.ids.tolist(), row.positions.tolist()) for row in rows]


def test_a_small_batch_gives_all_its_states(model, batch):
    table, rows = batch
    assert sum(len(row.positions) for row in choose_states(rows, 8 * table.num_tokens, seed=0)) == table.num_tokens


def test_auxiliary_trajectories_are_no_states(model):
    groups = tiny_groups(model)
    main, auxiliary = groups[0], groups[1].trajectories
    table, rows = build_table(
        [type(main)(main.group_id, main.task_id, main.trajectories, auxiliary)], 0, auxiliary=True
    )
    probe = EntropyProbe(table.num_tokens, 0, 64)
    probe.before(make_scorer(copy.deepcopy(model)), table, rows)
    is_main = table.trajectory_columns["auxiliary"][table.trajectory] == 0
    assert sum(len(row.positions) for row in probe.rows) == int(is_main.sum()) < table.num_tokens


def test_states_stay_those_of_the_first_batch_and_survive_a_restart(model):
    scorer, probe = make_scorer(copy.deepcopy(model)), EntropyProbe(16, 0, 32)
    first = probe.before(scorer, *tiny_batch(model, 0))
    chosen = _ids(probe.rows)
    restarted = EntropyProbe(16, 0, 32)
    restarted.load_state_dict(json.loads(json.dumps(probe.state_dict())))
    again = restarted.before(scorer, *tiny_batch(model, 1))
    assert _ids(restarted.rows) == chosen
    assert again.entropy == first.entropy


def test_a_probe_of_no_states_measures_nothing(model, batch):
    probe = EntropyProbe(0, 0, 64)
    before = probe.before(make_scorer(copy.deepcopy(model)), *batch)
    assert before is None
    assert probe.after(make_scorer(copy.deepcopy(model)), before) == {}
    assert probe.state_dict() == {"rows": []}


def test_a_run_predicts_what_it_measures_and_a_resumed_one_goes_on_with_its_states(switch_policy, tmp_path):
    settings = {"entropy_probe": 32, "entropy_dynamics": True, "learning_rate": 1e-3}
    train(switch_config(switch_policy, tmp_path / "whole", steps=5, **settings))
    train(switch_config(switch_policy, tmp_path / "parts", steps=2, **settings))
    train(switch_config(switch_policy, tmp_path / "parts", steps=5, **settings), resume=tmp_path / "parts")
    whole, parts = (read_metrics(tmp_path / name / "metrics.jsonl") for name in ("whole", "parts"))
    keys = ("entropy/probe", "entropy/predicted_delta", "entropy/measured_delta", "entropy/predicted_delta_logit")
    assert [[row[key] for key in keys] for row in whole] == [[row[key] for key in keys] for row in parts]
    for row, following in pairwise(whole):
        after = row["entropy/probe"] + row["entropy/measured_delta"]
        assert following["entropy/probe"] == pytest.approx(after, abs=1e-6)
    predicted, measured = ([row[f"entropy/{name}_delta"] for row in whole] for name in ("predicted", "measured"))
    assert correlation(predicted, measured) > 0.95
