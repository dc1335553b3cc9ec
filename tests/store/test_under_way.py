"""A run is refused before it has begun, and fails from then on."""

from __future__ import annotations

import errno

import pytest

from agentgym_rft.errors import (
    AgentGymError,
    CheckpointError,
    ConfigError,
    DataError,
    PolicyError,
    RegistryError,
    RunError,
    StorageError,
)
from agentgym_rft.store.under_way import under_way


def raised(error: BaseException, *, has_begun: bool) -> BaseException:
    with pytest.raises(BaseException) as caught, under_way("runs/a", "Make room.", lambda: has_begun):
        raise error
    return caught.value


@pytest.mark.parametrize("kind", [ConfigError, RegistryError, DataError, CheckpointError])
def test_what_is_refused_at_first_is_a_failure_later(kind):
    assert type(raised(kind("no"), has_begun=False)) is kind
    failure = raised(kind("no"), has_begun=True)
    assert type(failure) is RunError
    assert str(failure) == "no"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO])
def test_what_the_disk_refuses_is_a_storage_error_with_advice(number):
    for has_begun in (False, True):
        found = raised(OSError(number, "It says so"), has_begun=has_begun)
        assert type(found) is StorageError
        assert str(found) == "Cannot write to 'runs/a': It says so. Make room."


@pytest.mark.parametrize("error", [ConnectionResetError(104, "reset"), TimeoutError(), PolicyError("x"), KeyError("x")])
def test_other_errors_are_left_as_they_are(error):
    assert raised(error, has_begun=True) is error


def test_a_storage_error_keeps_its_own_sentence():
    error = StorageError("Cannot write a checkpoint.")
    error.errno = errno.ENOSPC
    assert raised(error, has_begun=True) is error
    assert isinstance(error, AgentGymError)
