from __future__ import annotations

import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM

from agentgym_rft.trainers.algorithms.distribution_stats import ENTROPY
from agentgym_rft.trainers.batch.packing import pack
from agentgym_rft.trainers.learner import scoring
from agentgym_rft.trainers.learner.scoring import make_scorer, score_rows
from tests.trainers.tiny import VOCABULARY, tiny_model


def one_by_one(model, rows, num_tokens):
    """Log-probs and entropies from the model's full logits, one unpadded row at a time."""
    logprobs, entropy = torch.zeros(num_tokens), torch.zeros(num_tokens)
    for row in rows:
        with torch.no_grad():
            log_probs = model(torch.from_numpy(row.ids)[None]).logits[0].double().log_softmax(-1)
        for position, entry in zip(row.positions, row.index, strict=True):
            logprobs[entry] = log_probs[position - 1, row.ids[position]]
            entropy[entry] = -(log_probs[position - 1].exp() * log_probs[position - 1]).sum()
    return logprobs, entropy


def capped_model() -> Gemma2ForCausalLM:
    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        initializer_range=0.5,
        final_logit_softcapping=1.0,
    )
    return Gemma2ForCausalLM(config).eval()


def test_padded_scores_equal_full_logits_row_by_row(model, batch):
    table, rows = batch
    scores = score_rows(make_scorer(model), rows, table.num_tokens, 40, [ENTROPY])
    logprobs, entropy = one_by_one(model, rows, table.num_tokens)
    torch.testing.assert_close(scores.logprobs.float(), logprobs)
    torch.testing.assert_close(scores.columns["entropy"].float(), entropy)


def test_scores_equal_the_samplers_log_probs(model, batch):
    table, rows = batch
    scores = score_rows(make_scorer(model), rows, table.num_tokens, 64)
    torch.testing.assert_close(scores.logprobs.float(), table.columns["behaviour_logprobs"])


def test_a_plain_head_runs_only_at_predicting_positions_and_a_soft_cap_falls_back_to_full_logits(batch):
    table, rows = batch
    model = capped_model()
    assert make_scorer(tiny_model()).head is not None
    scorer = make_scorer(model)
    assert scorer.head is None
    scores = score_rows(scorer, rows, table.num_tokens, 64, [ENTROPY])
    logprobs, entropy = one_by_one(model, rows, table.num_tokens)
    torch.testing.assert_close(scores.logprobs, logprobs)
    torch.testing.assert_close(scores.columns["entropy"], entropy)


def gradient(model, rows, entropy_grad):
    model.zero_grad()
    (batch,) = pack(rows, 10**6)
    scores = make_scorer(model).score(batch, [ENTROPY], grad=True, with_grad=["entropy"] if entropy_grad else [])
    loss = scores.logprobs.sum() + (scores.columns["entropy"].square().sum() if entropy_grad else 0)
    loss.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()]), scores


@pytest.mark.parametrize("entropy_grad", [False, True])
def test_chunks_change_neither_scores_nor_gradients(batch, entropy_grad, monkeypatch):
    _, rows = batch
    model = tiny_model()
    whole, expected = gradient(model, rows, entropy_grad)
    monkeypatch.setattr(scoring, "CHUNK_ELEMENTS", 5 * VOCABULARY)
    chunked, scores = gradient(model, rows, entropy_grad)
    torch.testing.assert_close(chunked, whole)
    torch.testing.assert_close(scores.logprobs, expected.logprobs)
    torch.testing.assert_close(scores.columns["entropy"], expected.columns["entropy"])


def test_entropy_has_a_gradient_only_where_asked_for(model, batch):
    (micro_batch,) = pack(batch[1], 10**6)
    scorer = make_scorer(model)
    assert scorer.score(micro_batch, [ENTROPY], grad=True, with_grad=["entropy"]).columns["entropy"].requires_grad
    assert not scorer.score(micro_batch, [ENTROPY], grad=True).columns["entropy"].requires_grad
    assert not scorer.score(micro_batch, [ENTROPY], grad=False, with_grad=["entropy"]).logprobs.requires_grad


def test_bfloat16_scores_are_float32_and_close(batch):
    table, rows = batch
    model = tiny_model(dtype=torch.float32)
    exact = score_rows(make_scorer(model), rows, table.num_tokens, 64)
    rough = score_rows(make_scorer(model, bf16=True), rows, table.num_tokens, 64)
    assert rough.logprobs.dtype is torch.float32
    torch.testing.assert_close(rough.logprobs, exact.logprobs, atol=0.2, rtol=0.05)
