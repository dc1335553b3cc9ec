from __future__ import annotations

import pickle
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch.distributed.checkpoint import state_dict_saver

from agentgym_rft.store.tensor_reader import TensorReader

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tensors = {
        "a": torch.arange(6).view(2, 3),
        "b": torch.zeros((), dtype=torch.bfloat16),
        "c": torch.ones(4, 2, 2, 2).to(memory_format=torch.channels_last),
        "d": torch.ones(2, dtype=torch.bool),
    }
    state_dict_saver.save(tensors, checkpoint_id=tmp_path, no_dist=True)
    return tmp_path


def test_the_description_of_tensors_is_read(folder):
    found = TensorReader(folder).read_metadata().state_dict_metadata
    assert {name: (tuple(each.size), each.properties.dtype) for name, each in found.items()} == {
        "a": ((2, 3), torch.int64),
        "b": ((), torch.bfloat16),
        "c": ((4, 2, 2, 2), torch.float32),
        "d": ((2,), torch.bool),
    }


@pytest.mark.parametrize("content", [Counter("ab"), {"a": Path.exists}, torch.nn.Identity])
def test_nothing_but_descriptions_is_made(folder, content):
    (folder / ".metadata").write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match=r"it names (collections|pathlib|builtins|torch\.nn)"):
        TensorReader(folder).read_metadata()


@pytest.mark.parametrize("content", [pickle.dumps([1]), b"", b"\x80", b"text", b"K\x01r\xff\xff\xff\x7f."])
def test_what_is_no_pickle_of_a_description_is_refused(folder, content):
    (folder / ".metadata").write_bytes(content)
    with pytest.raises(ValueError, match="no description of tensors"):
        TensorReader(folder).read_metadata()
