"""What a Ray worker may send is what can be read elsewhere."""

import threading

import pytest

pytest.importorskip("ray")

from agentgym_rft.errors import EnvError
from agentgym_rft.rollouts.ray.failures import check_sendable
from tests.rollouts.ray.faulty import NotThere


@pytest.mark.parametrize(("value", "problem"), [(threading.Lock(), "cannot pickle"), (NotThere("a", "b"), "argument")])
def test_what_cannot_be_sent_or_read_elsewhere_is_an_error_of_the_environment(value, problem):
    with pytest.raises(EnvError, match=f"cannot be sent: TypeError: .*{problem}"):
        check_sendable(({"extra": value},))
    check_sendable(({"extra": "text"},))
