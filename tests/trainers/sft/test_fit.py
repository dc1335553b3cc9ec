from __future__ import annotations

import numpy as np
import pytest
import torch

from agentgym_rft.config.run import LoraSection
from agentgym_rft.config.sft import ModelSection, SftSection
from agentgym_rft.errors import ConfigError, NumericsError
from agentgym_rft.trainers.learner import scoring
from agentgym_rft.trainers.sft.batches import make_batch
from agentgym_rft.trainers.sft.fit import accumulate, progress, steps
from agentgym_rft.trainers.sft.model import build_model
from agentgym_rft.trainers.sft.rows import SftRow
from agentgym_rft.trainers.sft.trainee import Done, make_trainee

SHAPE = ModelSection(hidden_size=16, intermediate_size=24, num_layers=2, num_heads=2, head_dim=8)
VOCABULARY = 300


def make_rows(num=7, seed=0):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(3, 30, num)
    return [SftRow(rng.integers(1, VOCABULARY, n), np.append(rng.random(n - 1) < 0.4, True)) for n in lengths]


def trainee(dtype=torch.float32, **settings):
    model = build_model(SHAPE, VOCABULARY, seed=0).to(dtype)
    return make_trainee(model, SftSection(**({"optimizer": "adamw"} | settings)), seed=0)


def gradient(made, batch):
    """Loss, and the gradient of all weights as one vector."""
    loss, _ = accumulate(made, batch)
    weights = [p for p in made.scorer.model.parameters() if p.requires_grad]
    return loss, torch.cat([p.grad.flatten() for p in weights])


def plain_gradient(model, rows, context_weight):
    """The same from one cross-entropy over the logits of each whole row."""
    total, weights = 0.0, 0.0
    for row in rows:
        ids = torch.from_numpy(row.ids)
        weight = torch.from_numpy(np.where(row.is_action, 1.0, context_weight))[1:].to(model.dtype)
        nll = torch.nn.functional.cross_entropy(model(ids[None]).logits[0, :-1], ids[1:], reduction="none")
        total, weights = total + (nll * weight).sum(), weights + weight.sum()
    (total / weights).backward()
    return float(total.detach() / weights), torch.cat([p.grad.flatten() for p in model.parameters()])


@pytest.mark.parametrize("context_weight", [0.0, 0.25])
@pytest.mark.parametrize("settings", [{}, {"micro_batch_tokens": 30}, {"packing": "packed", "micro_batch_tokens": 40}])
def test_the_gradient_in_chunks_and_micro_batches_is_that_of_whole_logits(monkeypatch, context_weight, settings):
    monkeypatch.setattr(scoring, "CHUNK_ELEMENTS", 5 * VOCABULARY)
    rows = make_rows()
    loss, got = gradient(trainee(torch.float64, **settings), make_batch(rows, context_weight))
    expected, reference = plain_gradient(build_model(SHAPE, VOCABULARY, seed=0).double(), rows, context_weight)
    assert loss == pytest.approx(expected, rel=1e-6)  # weights are float32
    torch.testing.assert_close(got, reference, rtol=1e-6, atol=1e-9)


def test_the_gradient_in_chunks_is_that_of_finite_differences(monkeypatch):
    monkeypatch.setattr(scoring, "CHUNK_ELEMENTS", 5 * VOCABULARY)
    batch, made = make_batch(make_rows(4), 0.3), trainee(torch.float64, packing="packed")
    _, got = gradient(made, batch)
    weights = list(made.scorer.model.parameters())
    direction = [torch.randn(p.shape, dtype=p.dtype, generator=torch.Generator().manual_seed(1)) for p in weights]

    def moved(by):
        with torch.no_grad():
            for weight, step in zip(weights, direction, strict=True):
                weight += by * step
        value, _ = accumulate(made, batch)
        return value

    difference = (moved(1e-5) - moved(-2e-5)) / 2e-5
    assert float(got @ torch.cat([step.flatten() for step in direction])) == pytest.approx(
        difference, rel=1e-3
    )  # norms are in float32


def test_no_logits_of_all_tokens_are_made_and_none_of_context_that_weighs_nothing(monkeypatch):
    monkeypatch.setattr(scoring, "CHUNK_ELEMENTS", 4 * VOCABULARY)
    made, seen = trainee(), []
    made.scorer.model.lm_head.register_forward_hook(lambda module, given, out: seen.append(out.shape[0]))
    rows = make_rows()
    accumulate(made, make_batch(rows, 0.0))
    assert max(seen) <= 4
    num_actions = sum(int(row.is_action[1:].sum()) for row in rows)
    assert sum(seen) == 1 + 2 * num_actions  # one to see the vocabulary; each chunk again in the backward pass


@pytest.mark.parametrize("settings", [{"micro_batch_tokens": 25}, {"packing": "packed", "micro_batch_tokens": 25}])
def test_steps_in_micro_batches_are_steps_on_whole_batches(settings):
    weights = []
    for one in ({}, settings):
        made = trainee(learning_rate=1e-3, tokens=10**6, **one)
        list(steps(made, iter([make_batch(make_rows(seed=s), 0.3) for s in range(3)]), Done()))
        weights.append(torch.cat([p.detach().flatten() for p in made.scorer.model.parameters()]))
    assert not torch.equal(weights[0], torch.cat([p.flatten() for p in trainee().scorer.model.parameters()]))
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=1e-6)


def test_of_long_rows_so_many_layers_are_recomputed_that_the_others_take_no_more_memory():
    rows = make_rows()
    batch = make_batch(rows, 0.3)
    _, kept = gradient(trainee(), batch)
    made = trainee(micro_batch_tokens=10, gradient_checkpointing="long_rows")
    runs = []
    for layer in made.scorer.model.model.layers:
        layer.self_attn.register_forward_hook(lambda module, given, out: runs.append(module))
    _, got = gradient(made, batch)
    lengths = [micro.input_ids.numel() for micro in made.scorer.deal(batch.rows, 10)]
    assert any(n <= 10 for n in lengths)
    assert any(10 < n <= 20 for n in lengths)
    assert any(n > 20 for n in lengths)
    assert len(runs) == sum(2 + (n > 10) + (n > 20) for n in lengths)  # of two layers, both if a row is twice as long
    torch.testing.assert_close(got, kept, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(("setting", "num_runs"), [("never", 2), ("always", 4)])
def test_layers_are_recomputed_never_or_always_if_asked(setting, num_runs):
    made, runs = trainee(micro_batch_tokens=10, gradient_checkpointing=setting), []
    for layer in made.scorer.model.model.layers:
        layer.self_attn.register_forward_hook(lambda module, given, out: runs.append(module))
    batch = make_batch(make_rows(1), 0.3)
    accumulate(made, batch)
    assert len(runs) == num_runs


def test_bfloat16_is_for_matrices_and_the_log_softmax_is_in_float32(monkeypatch):
    """On the CPU, autocast would leave the log-softmax in bfloat16."""
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.log_softmax(torch.zeros(2, dtype=torch.bfloat16), -1).dtype == torch.bfloat16
    made, logits, softmax = trainee(bf16=True), [], []
    made.scorer.model.lm_head.register_forward_hook(lambda module, given, out: logits.append(out.dtype))
    log_softmax = torch.log_softmax

    def watched(values, dim):
        out = log_softmax(values, dim=dim)
        softmax.append((values.dtype, out.dtype))
        return out

    monkeypatch.setattr(torch, "log_softmax", watched)
    monkeypatch.setattr(scoring, "CHUNK_ELEMENTS", 5 * VOCABULARY)  # in chunks that are recomputed, too
    loss, got = gradient(made, make_batch(make_rows(), 0.3))
    assert set(logits) == {torch.bfloat16}
    assert set(softmax) == {(torch.float32, torch.float32)}
    assert got.dtype == torch.float32
    assert loss == pytest.approx(gradient(trainee(), make_batch(make_rows(), 0.3))[0], rel=1e-2)


def test_the_loss_of_actions_is_their_plain_mean():
    rows = [SftRow(np.array([5, 6, 7]), np.array([False, False, True])), SftRow(np.array([8, 9]), np.zeros(2, bool))]
    made = trainee()
    model = made.scorer.model
    logprobs = [model(torch.tensor(row.ids[None])).logits[0].detach().log_softmax(-1) for row in rows]
    loss, action_loss = accumulate(made, make_batch(rows, 0.25))
    context = -float(logprobs[0][0, 6]) - float(logprobs[1][0, 9])
    action = -float(logprobs[0][1, 7])
    assert loss == pytest.approx((action + 0.25 * context) / 1.5, rel=1e-5)
    assert action_loss == pytest.approx(action, rel=1e-5)


def test_a_gradient_that_is_not_finite_stops_the_run_with_the_step_and_leaves_the_weights():
    made = trainee(tokens=10**6)
    weight = made.scorer.model.model.norm.weight
    batches = iter([make_batch(make_rows(), 0.3)] * 2)
    training = steps(made, batches, Done())
    next(training)
    before = weight.detach().clone()
    weight.register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(NumericsError, match=r"^The gradient norm is nan\. It is that of step 2\. Lower sft\.learning"):
        next(training)
    assert torch.equal(weight, before)


def test_the_budget_is_of_tokens_or_of_time():
    done = Done(steps=3, tokens=250, time_s=30.0)
    assert progress(done, SftSection(tokens=1000)) == 0.25
    assert progress(done, SftSection(tokens=1000, max_minutes=1.0)) == 0.5
    made = trainee(tokens=10**9, max_minutes=1e-9)
    assert len(list(steps(made, iter([make_batch(make_rows(), 0.3)] * 9), Done()))) == 1


def test_adapters_alone_are_trained_and_merge_into_the_policy():
    pytest.importorskip("peft")
    made = trainee(lora=LoraSection(rank=2), learning_rate=1e-2, tokens=10**6)
    base = build_model(SHAPE, VOCABULARY, seed=0)
    list(steps(made, iter([make_batch(make_rows(seed=s), 0.3) for s in range(3)]), Done()))
    merged, ids = made.policy_model(), torch.arange(12)[None]
    assert merged.state_dict().keys() == base.state_dict().keys()
    assert torch.equal(merged.state_dict()["model.embed_tokens.weight"], base.state_dict()["model.embed_tokens.weight"])
    own = made.scorer.model(ids).logits
    assert not torch.allclose(own, base(ids).logits, atol=1e-3)
    base.load_state_dict(merged.state_dict())
    torch.testing.assert_close(base(ids).logits, own, rtol=0, atol=1e-5)


def test_what_a_model_cannot_pack_is_padded_with_a_note_or_refused_if_asked_for(monkeypatch):
    def refuse(model):
        raise ConfigError("Made cannot be trained with trainer.packing=packed. Write trainer.packing=padded.")

    monkeypatch.setattr(scoring, "check_packing", refuse)
    notes: list[str] = []
    model = build_model(SHAPE, VOCABULARY, seed=0)
    made = make_trainee(model, SftSection(packing="auto"), 0, notes.append)
    assert made.scorer.layout == "padded"
    assert notes == [
        "Rows are padded. Made cannot be trained with trainer.packing=packed. Write trainer.packing=padded."
    ]
    with pytest.raises(ConfigError, match=r"sft\.packing=packed. Write sft\.packing=padded"):
        make_trainee(model, SftSection(packing="packed"), 0)


def test_refusals_of_adapters_name_the_keys_of_sft():
    pytest.importorskip("peft")
    with pytest.raises(ConfigError, match=r"^sft\.lora\.targets: 'nope' is not in the model"):
        trainee(lora=LoraSection(rank=2, targets=("nope",)))
