"""Adds the fixed phrases of reports and transcripts to a tokenizer, so that a report needs few tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from tokenizers import AddedToken
from torch import nn

from agentgym_rft.agents.reflect import Outcome, Report, format_report, guidance_text

_SUMMARY, _CAUSE, _SUGGESTION = "§summary§", "§cause§", "§suggestion§"


def report_pieces(num_turns: int, phrases: Sequence[str] = ()) -> list[str]:
    """Return the fixed phrases of reports on episodes of at most `num_turns` turns.

    JSON keys with the punctuation between the texts, one ending for each pivot, the guidance around a report, the
    labels `[k]` of turns, and the given phrases.
    """
    pieces: dict[str, None] = {}
    for outcome in (Outcome.FAILURE, Outcome.SUCCESS_BUT_INEFFICIENT):
        for pivot in range(num_turns):
            text = format_report(Report(_SUMMARY, _CAUSE, outcome, _SUGGESTION, pivot))
            pieces |= dict.fromkeys(_between(text, (_SUMMARY, _CAUSE, _SUGGESTION)))
    success = format_report(Report(_SUMMARY, None, Outcome.SUCCESS, None, None))
    pieces |= dict.fromkeys(_between(success, (_SUMMARY,)))
    report = Report("", None, Outcome.SUCCESS, None, None)
    pieces |= dict.fromkeys(_between(guidance_text(report), (format_report(report),)))
    pieces |= dict.fromkeys(f"[{k}]" for k in range(num_turns))
    return [piece for piece in [*pieces, *phrases] if piece]


def _between(text: str, marks: Sequence[str]) -> list[str]:
    parts = []
    for mark in marks:
        part, _, text = text.partition(mark)
        parts.append(part)
    return [*parts, text]


@torch.no_grad()
def add_pieces(model: Any, tokenizer: Any, pieces: Sequence[str]) -> int:
    """Make each piece one token. Returns how many there were to add.

    Text without these pieces is tokenised as before. Pieces that are single tokens already are left alone. Embeddings
    begin in random directions, always the same, with the length that one in ten of the old ones stays below. (The mean
    of the tokens that a piece was made of does not do for turn labels: `[12]` and `[21]` would begin equal, and in a
    small model brackets and bare digits may be tokens that were never trained, long and all alike.)
    """
    new = [piece for piece in pieces if len(tokenizer.encode(piece, add_special_tokens=False)) > 1]
    tokenizer.add_tokens([AddedToken(piece, normalized=False, special=False) for piece in new])
    if not new:
        return 0
    old_size = model.get_input_embeddings().num_embeddings
    ids = tokenizer.convert_tokens_to_ids(new)
    with torch.random.fork_rng(devices=[]):  # resizing draws random rows, which are overwritten below
        model.resize_token_embeddings(max(old_size, len(tokenizer)), mean_resizing=False)
    for weight in _token_matrices(model):
        length = weight[:old_size].float().norm(dim=1).quantile(0.1)
        directions = torch.randn(len(new), weight.shape[1], generator=torch.Generator().manual_seed(0))
        weight[ids] = (directions / directions.norm(dim=1, keepdim=True) * length.cpu()).to(weight)
    return len(new)


def _token_matrices(model: Any) -> list[torch.Tensor]:
    """Return the input embeddings and, if they are not the same tensor, the output ones."""
    inputs, outputs = model.get_input_embeddings(), model.get_output_embeddings()
    tables: list[nn.Module] = [inputs] if outputs is None or outputs.weight is inputs.weight else [inputs, outputs]
    return [table.weight.data for table in tables if isinstance(table.weight, torch.Tensor)]
