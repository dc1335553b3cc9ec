"""A GGUF file becomes a policy directory with its weights, tokenizer, chat template and end tokens, or nothing does."""

from __future__ import annotations

import sys
from pathlib import Path

import gguf
import pytest
import torch

from agentgym_rft.agents.policies.gguf_file import check_answers
from agentgym_rft.agents.policies.loading import load_model
from agentgym_rft.cli import main as cli
from agentgym_rft.errors import DataError
from tests.agents.policies.tiny_gguf import END_OF_TEXT, END_OF_TURN, TEMPLATE, make_bpe, make_model, write_gguf
from tests.cli.bad_inputs import ENV, call

torch.set_num_threads(1)
REAL = Path(__file__).parents[2] / "models" / "smollm2-135m"
TEXT = "Task 12: don't look at 3 lamps\n\n  (Größe 🙂)"


def imported(folder, *more, **changes):
    """Model and tokenizer of a new GGUF file after its import."""
    file = write_gguf(folder / "m.gguf", **changes)
    assert call(["import-model", file, "--out", folder / "policy", *more]) == (0, "")
    return load_model(folder / "policy", device="cpu")


def test_a_model_in_float32_keeps_every_bit_its_tokens_and_its_template(tmp_path):
    model, tokenizer = imported(tmp_path)
    expected = make_model(model.config.vocab_size).state_dict()
    assert all(torch.equal(weights, expected[name]) for name, weights in model.state_dict().items())
    assert len(model.state_dict()) == len(expected)
    assert tokenizer.encode(TEXT) == make_bpe().encode(TEXT).ids
    assert tokenizer.chat_template == TEMPLATE
    assert (tokenizer.eos_token, model.generation_config.eos_token_id) == ("<|im_end|>", END_OF_TURN)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.gguf", "policy"]


def test_quantised_weights_are_those_that_the_file_stands_for(tmp_path):
    model, _ = imported(tmp_path, quantized=True)
    packed = gguf.quants.quantize(
        make_model(model.config.vocab_size).lm_head.weight.detach().numpy(), gguf.GGMLQuantizationType.Q8_0
    )
    expected = torch.from_numpy(gguf.quants.dequantize(packed, gguf.GGMLQuantizationType.Q8_0))
    assert torch.equal(model.lm_head.weight, expected)
    assert model.lm_head.weight.dtype == torch.float32


def test_the_end_of_a_turn_stays_beside_the_end_of_the_sequence(tmp_path):
    model, tokenizer = imported(tmp_path, ends=(END_OF_TEXT, END_OF_TURN))
    assert tokenizer.eos_token_id == END_OF_TEXT
    assert model.generation_config.eos_token_id == [END_OF_TEXT, END_OF_TURN]


@pytest.mark.parametrize("own", [None, TEMPLATE])
def test_a_given_chat_template_takes_the_place_of_the_files_own(tmp_path, own):
    given = TEMPLATE.replace("message['role'] +", "message['role'] + ' says' +")
    (tmp_path / "t.jinja").write_text(given)
    _, tokenizer = imported(tmp_path, "--chat-template", tmp_path / "t.jinja", template=own)
    assert tokenizer.chat_template == given


def test_it_says_what_was_made_and_what_to_do_next(tmp_path, capsys):
    file, out = write_gguf(tmp_path / "m.gguf"), tmp_path / "policy"
    assert cli.run(["import-model", str(file), "--out", str(out)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"reading {file}",
        f"model {out}: llama, 37,792 parameters, vocabulary 300, context 256 tokens",
        "chat template yes, a reply ends with <|im_end|>",
        "read again, it answers with the same tokens",
        f"next: agentgym eval --env alfworld --policy {out} --card think --env-option admissible=true "
        "--max-context 256 --tasks 5",
    ]
    assert (
        call(["eval", "--env", ENV, "--policy", out, "--tasks", "1", "--device", "cpu", "--max-context", "200"])[0] == 0
    )


def test_a_model_that_is_another_when_it_is_read_again_leaves_nothing(tmp_path):
    # transformers reads a tokenizer of a Qwen2 again with its own class, which splits text in Qwen2's way
    file = write_gguf(tmp_path / "m.gguf", architecture="qwen2", pre="gpt-2")
    code, error = call(["import-model", file, "--out", tmp_path / "policy"])
    assert (code, "it splits a text otherwise" in error) == (2, True)
    assert [path.name for path in tmp_path.iterdir()] == ["m.gguf"]
    imported(tmp_path, architecture="qwen2", pre="qwen2")


def test_other_continuations_are_a_difference():
    answers = [([1, 2], [3, 4]), ([5], [6])]
    check_answers(answers, answers)
    with pytest.raises(DataError, match="continues a text otherwise"):
        check_answers(answers, [([1, 2], [3, 4]), ([5], [7])])
    with pytest.raises(DataError, match="splits a text otherwise"):
        check_answers(answers, [([1, 9], [3, 4]), ([5], [6])])


@pytest.mark.parametrize("name", ["gguf", "accelerate"])
def test_a_missing_package_is_named_before_anything_is_read(tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    code, error = call(["import-model", tmp_path / "none.gguf", "--out", tmp_path / "policy"])
    assert (code, error) == (
        2,
        f"Reading a GGUF file needs {name}, which this installation lacks: pip install 'agentgym-rft[gguf]'.\n",
    )


@pytest.mark.skipif(not REAL.is_dir(), reason="make real-model was not run")
def test_the_real_model_knows_the_capital_of_france():
    model, tokenizer = load_model(REAL, device="cpu")
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}], tokenize=False, add_generation_prompt=True
    )
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")
    row = model.generate(**ids, max_new_tokens=12, do_sample=False)[0, ids["input_ids"].shape[1] :]
    assert tokenizer.decode(row) == "The capital of France is Paris.<|im_end|>"
