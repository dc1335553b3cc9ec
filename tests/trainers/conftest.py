from __future__ import annotations

import pytest
import torch

from tests.trainers.tiny import tiny_batch, tiny_model


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def model():
    """Not to be changed by a test: `step` copies it."""
    return tiny_model()


@pytest.fixture(scope="session")
def batch(model):
    return tiny_batch(model)
