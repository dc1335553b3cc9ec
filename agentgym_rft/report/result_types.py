"""The types of stored results, checked when they are read, so that no report has to ask again."""

from __future__ import annotations

from typing import Annotated, Any, NotRequired

from pydantic import Field, TypeAdapter, with_config
from typing_extensions import TypedDict

from agentgym_rft.json_text import OPEN, Name

LARGEST = 1e100  # beyond it, sums and axes overflow

Rate = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0, le=2**53)]
Number = Annotated[float, Field(ge=-LARGEST, le=LARGEST)]
Bounds = Annotated[list[Number], Field(min_length=2, max_length=2)]


@with_config(OPEN)
class PassAtK(TypedDict):
    """An estimate of pass@k."""

    value: Rate
    ci95: Bounds


@with_config(OPEN)
class Totals(TypedDict):
    """The means over some tasks; `success` is null where every episode ended with an error."""

    num_tasks: Count
    num_episodes: Count
    num_errors: Count
    success: Rate | None
    success_ci95: Bounds
    pass_at_k: dict[str, PassAtK]
    score: Number | None
    mean_turns: Number | None
    invalid_actions: NotRequired[Number | None]
    sampled_tokens: NotRequired[Number | None]
    unparsed: NotRequired[dict[str, Count]]


@with_config(OPEN)
class Episode(TypedDict):
    """One episode, or the mean over those of a task."""

    success: Rate | bool | None
    score: Number | None


@with_config(OPEN)
class TaskRow(Episode):
    """A task."""

    samples: NotRequired[list[Episode]]


@with_config(OPEN)
class Protocol(TypedDict):
    """What two results must share to be compared."""

    env: Name
    options: dict[str, Any]
    split: Name
    panel_hash: Name
    card: Name | None
    max_steps: Count
    temperature: Number | None
    samples: Count


@with_config(OPEN)
class Evaluation(Totals):
    """An evaluation, as `agentgym eval` writes it."""

    env: Name
    split: Name
    panel_hash: Name
    policy: Name
    seed: int
    temperature: Number | None
    samples: Count
    protocol: Protocol
    by_type: dict[str, Totals]  # an environment's words
    tasks: Annotated[list[TaskRow], Field(min_length=1)]


EVALUATION: TypeAdapter[Any] = TypeAdapter(Evaluation)


Side = TypedDict("Side", {"return": Number | None, "return_ci95": Bounds | None})  # what one side of a pair got
Total = TypedDict("Total", {"score": Number | None, "score_ci95": Bounds | None, "return": Number | None})
for _kind in (Side, Total):  # in this form, `return` can be a key
    _kind.__pydantic_config__ = OPEN  # type: ignore[union-attr]


@with_config(OPEN)
class Team(TypedDict):
    """What both sides of a pair did together."""

    success: Rate | None


@with_config(OPEN)
class Cell(TypedDict):
    """The games of two policies."""

    row: Name
    column: Name
    row_side: Side
    team: Team


@with_config(OPEN)
class Rating(TypedDict):
    """A policy's rating."""

    policy: Name
    ordinal: Number
    sigma: Number


@with_config(OPEN)
class Exact(TypedDict):
    """What the theory of a game says about a policy."""

    values: NotRequired[dict[Name, Number]]


class Seats(TypedDict):
    """The agents of the two sides."""

    row: list[Name]
    column: list[Name]


@with_config(OPEN)
class Crossplay(TypedDict):
    """A cross-play, as `agentgym crossplay` writes it."""

    env: Name
    options: dict[str, Any]
    split: Name
    panel_hash: Name
    num_tasks: Count
    samples: Count
    max_steps: Count
    seats: Seats
    policies: list[Name]
    cells: list[Cell]
    totals: dict[Name, Total]
    ratings: list[Rating] | None
    ratings_left_out: NotRequired[str]
    exact: dict[Name, Exact]


CROSSPLAY: TypeAdapter[Any] = TypeAdapter(Crossplay)
