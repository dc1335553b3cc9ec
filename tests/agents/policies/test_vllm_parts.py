"""What policy `vllm` is made of, without an engine: the probe's reference, the file of weights, merged adapters."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from agentgym_rft.agents.policies.base import Completion
from agentgym_rft.agents.policies.vllm_probe import ModelReference, measure_drift, probe_request
from agentgym_rft.agents.policies.vllm_weights import handed_over, merged
from agentgym_rft.errors import DataError, PolicyError
from tests.agents.policies.tiny_lms import VOCAB, full_logprobs, make_model, tokens


def test_the_reference_computes_with_the_given_weights_and_not_with_those_it_was_made_from():
    reference = ModelReference(make_model(seed=0))
    other, row = make_model(seed=1), tokens(12, seed=2)
    got = reference.logprobs(other.state_dict(), row)[4:-1].gather(1, torch.tensor(row[5:])[:, None]).squeeze(1)
    assert got.tolist() == pytest.approx(full_logprobs(other, row[:5], row[5:]), abs=1e-5)
    assert got.tolist() != pytest.approx(full_logprobs(make_model(seed=0), row[:5], row[5:]), abs=0.1)


def test_one_name_of_tied_weights_is_enough_for_the_reference():
    model = make_model("gpt2")
    weights = model.state_dict()
    row = tokens(8, seed=3)
    whole = ModelReference(model).logprobs(weights, row)
    del weights["lm_head.weight"]
    assert torch.equal(ModelReference(model).logprobs(weights, row), whole)


def test_weights_of_another_model_are_refused_by_name():
    model = make_model()
    reference, weights = ModelReference(model), model.state_dict()
    name = "model.layers.0.mlp.up_proj.weight"
    with pytest.raises(PolicyError, match="no weights named 'lora'"):
        reference.check({**weights, "lora": weights[name]})
    with pytest.raises(PolicyError, match=f"lack '{name}'"):
        reference.check({key: value for key, value in weights.items() if key != name})
    with pytest.raises(PolicyError, match=rf"'{name}' is \(2, 2\); the model has a tensor of shape \(48, 32\)"):
        reference.check({**weights, name: torch.zeros(2, 2)})


def test_drift_is_zero_for_the_models_own_greedy_answer_and_large_for_another():
    model = make_model()
    request = probe_request("probe", VOCAB, 256)
    row, ids = list(request.prompt_ids), []
    for _ in range(request.max_new_tokens):
        with torch.inference_mode():
            ids.append(int(model(input_ids=torch.tensor([row + ids])).logits[0, -1].argmax()))
    logprobs = full_logprobs(model, row, ids)
    reference = ModelReference(model)

    def drift(ids: list[int], logprobs: list[float]) -> tuple[float, float]:
        answer = Completion(tuple(ids), tuple(logprobs), "length", 0)
        found = measure_drift(reference, model.state_dict(), request, answer)
        return found.logprob, found.greedy

    assert drift(ids, logprobs) == pytest.approx((0.0, 0.0), abs=1e-5)
    assert drift(ids, [*logprobs[:-1], logprobs[-1] - 0.5]) == pytest.approx((0.5, 0.0), abs=1e-5)
    last = (ids[-1] + 1) % VOCAB
    assert drift([*ids[:-1], last], full_logprobs(model, row, [*ids[:-1], last]))[1] > 0.01


@pytest.mark.parametrize("max_context", [2, 16, 1000])
def test_a_probe_fits_the_context_and_the_vocabulary(max_context: int):
    request = probe_request("probe", VOCAB, max_context)
    assert len(request.prompt_ids) + request.max_new_tokens <= max_context
    assert max(request.prompt_ids) < VOCAB


def test_handed_over_weights_are_the_same_tied_ones_once_and_the_file_is_gone_afterwards(tmp_path: Path):
    model = make_model("gpt2")
    weights = model.state_dict()
    with handed_over(ModelReference(model).distinct(weights), "disk", str(tmp_path)) as path:
        read = load_file(path)
        assert len(list(tmp_path.iterdir())) == 1
    assert not list(tmp_path.iterdir())
    assert set(weights) - set(read) == {"lm_head.weight"}
    assert all(torch.equal(tensor, weights[name]) for name, tensor in read.items())


def test_a_place_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(PolicyError, match="no directory"), handed_over({}, "disk", str(tmp_path / "none")):
        pass


def test_a_merged_adapter_is_the_base_plus_the_scaled_product(tmp_path: Path):
    base = {"m.weight": torch.zeros(2, 3), "other": torch.ones(1)}
    low, high = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[1.0], [10.0]])
    write_adapter(tmp_path, {"m.lora_A.weight": low, "m.lora_B.weight": high}, r=1, lora_alpha=2)
    result = merged(base, tmp_path)
    assert result["m.weight"].tolist() == [[2.0, 4.0, 6.0], [20.0, 40.0, 60.0]]  # 2 * high @ low
    assert torch.equal(result["other"], base["other"])


def test_adapters_that_do_not_fit_are_refused(tmp_path: Path):
    with pytest.raises(DataError, match="holds no LoRA adapter"):
        merged({}, tmp_path)
    pair = {"m.lora_A.weight": torch.zeros(1, 3), "m.lora_B.weight": torch.zeros(2, 1)}
    write_adapter(tmp_path, pair, r=1, lora_alpha=1)
    with pytest.raises(DataError, match="of another model"):
        merged({"m.weight": torch.zeros(2, 4)}, tmp_path)
    for special in ({"use_dora": True}, {"fan_in_fan_out": True}, {"target_parameters": ["down_proj"]}):
        write_adapter(tmp_path, pair, r=1, lora_alpha=1, **special)
        with pytest.raises(DataError, match="vLLM takes plain LoRA"):
            merged({"m.weight": torch.zeros(2, 3)}, tmp_path)


def write_adapter(folder: Path, tensors: dict[str, torch.Tensor], **config: object) -> None:
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", **config}))
    save_file(
        {f"base_model.model.{name}": value for name, value in tensors.items()}, folder / "adapter_model.safetensors"
    )
