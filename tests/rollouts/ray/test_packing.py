from __future__ import annotations

import pickle

import torch

from agentgym_rft.rollouts.ray.packing import pack, unpack


def test_weights_come_back_bit_for_bit_whatever_their_type_and_tied_ones_travel_once():
    shared = torch.randn(3, 4)
    weights = {
        "first": shared,
        "tied": shared,
        "half": torch.randn(2, 5).to(torch.bfloat16),
        "turned": torch.arange(6.0).reshape(2, 3).T,
        "count": torch.tensor(7),
        "none": torch.empty(0, 2),
    }
    packed = pickle.loads(pickle.dumps(pack(weights)))
    back = unpack(packed)
    assert sorted(back) == ["count", "first", "half", "none", "turned"]
    for name, tensor in back.items():
        assert torch.equal(tensor, weights[name])
        assert tensor.dtype == weights[name].dtype


def test_unpacked_weights_can_be_written_to_and_what_was_packed_stays():
    packed = pack({"w": torch.zeros(3)})
    unpack(packed)["w"].fill_(1.0)
    assert torch.equal(unpack(packed)["w"], torch.zeros(3))
