import pytest

from agentgym_rft.envs.webshop.server import SessionServer
from agentgym_rft.envs.webshop.session import Shop
from agentgym_rft.envs.webshop.splits import shuffled
from agentgym_rft.errors import DataError
from tests.envs.webshop.shops import goals, mugs_with_goals


def _server(seed: int = 0) -> SessionServer:
    shop = mugs_with_goals(20)
    return SessionServer(Shop(shop), goals(shop), seed)


def test_a_number_is_a_position_in_the_shuffled_goals() -> None:
    shop = mugs_with_goals(20)
    made, order = goals(shop), shuffled(20, 233)
    server = SessionServer(Shop(shop), made)
    for position in (0, 7, 19):
        session = server.open(position)
        assert session.goal == made[int(order[position])]
        assert session.url == f"http://127.0.0.1:3000/{position}"
    for position in (-1, 20):
        with pytest.raises(DataError, match="There is no goal"):
            server.open(position)


def test_a_name_keeps_its_goal_and_draws_by_weight() -> None:
    server = _server()
    assert server.open("anna").goal == server.open("anna").goal
    drawn = {server.open(f"customer {number}").goal.id for number in range(400)}
    assert len(drawn) == 19  # the first is never drawn
    assert server.open(0).goal.id not in drawn


def test_without_a_name_it_has_ten_random_letters_that_depend_on_the_seed_only() -> None:
    first, again, other = (_server(seed).open() for seed in (1, 1, 2))
    assert (first.id, first.goal) == (again.id, again.goal)
    assert first.id != other.id
    assert len(first.id) == 10
    assert first.id.isalpha()
