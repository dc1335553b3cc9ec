"""Rules of the environment contract that only AEC has: PettingZoo's own tests, turns, seats, agents that are out.

What each agent is shown is looked at by the rules of every environment, over the stream of turns.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator

from agentgym_rft.envs.check.subject import (
    Books,
    Observed,
    RandomActor,
    Subject,
    difference,
    fail,
    require,
    short,
    walk,
)
from agentgym_rft.envs.turns import TurnsEnv
from agentgym_rft.errors import EnvError

_NUM_CYCLES = 60
_NUM_STEPS = 25
_NUM_SEEDS = 3


def has_several_agents(subject: Subject) -> bool:
    """Return True if the environment is one of several agents, to which the rules here apply."""
    return isinstance(subject.make(), TurnsEnv)


def agents_only_leave(subject: Subject) -> None:
    """Check that `agents` holds `possible_agents` at first, and afterwards those of them that are left, in their
    order.
    """
    env = _new(subject)
    seats = list(env.env.possible_agents)
    require(len(set(seats)) == len(seats) > 0, f"possible_agents is {seats}, expected distinct names.")
    left = seats
    for start, point in _points(subject, env):
        left = seats if point is start else [agent for agent in left if agent in env.env.agents]
        require(list(env.env.possible_agents) == seats, "possible_agents changes within an episode.")
        found = list(env.env.agents)
        require(found == left, f"agents is {found}, expected {left}: agents only leave, and keep order.")


def roles_are_stable(subject: Subject) -> str:
    """Check that `role` is a text that does not change, neither within an episode nor between instances."""
    env, roles = _new(subject), _new(subject).seats
    for agent, role in roles.items():
        require(isinstance(role, str) and bool(role), f"the role of '{agent}' is {short(role)}, expected a name.")
    for _ in _points(subject, env):
        for agent, role in roles.items():
            now = env.env.role(agent)
            require(now == role, f"the role of '{agent}' was '{role}' and is {now!r}; roles stay.")
    return ", ".join(dict.fromkeys(roles.values()))


def passes_the_api_test_of_pettingzoo(subject: Subject) -> None:
    """Check that PettingZoo's `api_test` passes."""
    from pettingzoo.test import api_test  # imports pytest and pygame where they are installed

    from agentgym_rft.envs.check.as_bytes import AsBytes

    for seed in range(_NUM_SEEDS):
        env = AsBytes(_new(subject).env, seed)
        _quietly("api_test", lambda env=env: api_test(env, num_cycles=_NUM_CYCLES))  # type: ignore[misc]


def passes_the_seed_test_of_pettingzoo(subject: Subject) -> None:
    """Check that PettingZoo's `seed_test` passes."""
    from pettingzoo.test import seed_test

    from agentgym_rft.envs.check.as_bytes import AsBytes

    _quietly("seed_test", lambda: seed_test(lambda: AsBytes(_new(subject).env), num_cycles=_NUM_CYCLES))


def turns_out_of_place_are_refused(subject: Subject) -> None:
    """Check that `act` raises `EnvError` for an agent whose turn it is not, and changes nothing."""
    env = _new(subject)
    for _, point in _points(subject, env):
        others = [] if point.is_over else [agent for agent in env.seats if agent != env.acting]
        for agent in others:
            before = Books.of(env.env)
            try:
                env.env.act(agent, "look")
            except EnvError:
                require(Books.of(env.env) == before, f"the refused turn of '{agent}' changes the episode.")
                continue
            fail(f"'{agent}' may act in the turn of '{before.selected}', expected EnvError.")


def observing_changes_nothing(subject: Subject) -> None:
    """Check that who observes, how often and in which order, changes neither what it observes nor what another one
    does.
    """
    env = _new(subject)
    for seed in range(_NUM_SEEDS):
        _, info = env.reset(seed=seed, options={"task_id": subject.tasks()[0]})  # not `start`, which observes for all
        actor = RandomActor(seed)
        for _ in range(_NUM_STEPS):
            first = {agent: env.env.observe(agent) for agent in env.seats}
            again = {agent: env.env.observe(agent) for agent in reversed(list(env.seats))}
            for agent in first:
                require(first[agent] == again[agent], f"what '{agent}' observes changes when somebody observes.")
            if not info["agent"]:
                break
            info = env.step(actor.choose(info))[-1]


def snapshots_keep_the_books(subject: Subject) -> str:
    """Check that a snapshot also keeps whose turn it is where agents that are out have yet to take AEC's last step."""
    env, other = _new(subject).env, _new(subject).env
    if not env.can_snapshot:
        return "it has no snapshots"
    points = 0
    for seed in range(_NUM_SEEDS):
        env.reset(seed=seed, options={"task_id": subject.tasks()[0]})
        actor = RandomActor(seed)
        for _ in range(_NUM_STEPS):
            if not env.agents:
                break
            agent = env.agent_selection
            if not (env.terminations[agent] or env.truncations[agent]):
                env.step(actor.choose(env.infos[agent]))
                continue
            other.reset(seed=1, options={"task_id": subject.tasks()[-1]})
            other.restore(env.snapshot())
            _require_same(Books.of(env), Books.of(other), "after restore")
            env.step(None)
            other.step(None)
            _require_same(Books.of(env), Books.of(other), "after restore and the step of one that is out")
            points += 1
    return f"{points} points"


MULTI_RULES: tuple[Callable[[Subject], str | None], ...] = (
    agents_only_leave,
    roles_are_stable,
    passes_the_api_test_of_pettingzoo,
    passes_the_seed_test_of_pettingzoo,
    turns_out_of_place_are_refused,
    observing_changes_nothing,
    snapshots_keep_the_books,
)


def _new(subject: Subject) -> TurnsEnv:
    env = subject.make()
    if not isinstance(env, TurnsEnv):
        fail(f"{type(env).__name__} has one agent; the rules about several do not apply.")
    return env


def _points(subject: Subject, env: TurnsEnv) -> Iterator[tuple[Observed, Observed]]:
    """Yield the start and each point of three random episodes, from the start to the end."""
    for seed in range(_NUM_SEEDS):
        start = subject.start(env, seed=seed)
        yield start, start
        for _, seen in walk(env, start, RandomActor(seed), _NUM_STEPS):
            yield start, seen


def _require_same(expected: Books, actual: Books, what: str) -> None:
    if expected != actual and repr(expected) != repr(actual):  # NaN equals nothing
        fail(f"books differ {what}: {difference(expected, actual)}.")


def _quietly(name: str, test: Callable[[], object]) -> None:
    """Run a test of PettingZoo, which prints and warns. Its assertion becomes the sentence of the broken rule."""
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            test()
    except AssertionError as error:
        fail(f"PettingZoo's {name} fails: {error}.")
