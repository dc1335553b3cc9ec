"""The goal clauses of `game.tw-pddl`, written and recognised."""

from __future__ import annotations

import re

from agentgym_rft.envs.alfworld.game import Goal, TaskType

_TYPE = re.compile(r"\b(\w+)Type\)")
_PROPERTY = {
    TaskType.SIMPLE: "",
    TaskType.CLEAN: "cleanable isClean",
    TaskType.HEAT: "heatable isHot",
    TaskType.COOL: "coolable isCool",
}
_SLICED = "(sliceable {o}) (isSliced {o}) "
# A simple sliced goal differs from the others in the order of its parts and in an unused variable.
_SIMPLE_SLICED = (
    "(exists (?r - receptacle) (exists (?o - object ?ko - object) (and (sliceable ?o) (isSliced ?o) "
    "(objectType ?o {object}Type) (inReceptacle ?o ?r) (receptacleType ?r {target}Type))))"
)
_LIGHT = (
    "(exists (?ot - object ?r - receptacle ?a - agent ?l - location) (and (objectType ?ot {target}Type) "
    "(toggleable ?ot) (isToggled ?ot) (receptacleAtLocation ?r ?l) (atLocation ?a ?l) (inReceptacle ?ot ?r))) "
    "(exists (?o - object ?a - agent) (and (objectType ?o {object}Type) (holds ?a ?o)))"
)


def _two(sliced: bool) -> str:
    first, second = (_SLICED.format(o=o) if sliced else "" for o in ("?o1", "?o2"))
    return (
        f"(exists (?r - receptacle) (exists (?o1 - object) (and {first}(objectType ?o1 {{object}}Type) "
        "(receptacleType ?r {target}Type) (inReceptacle ?o1 ?r) (exists (?o2 - object) (and (not (= ?o1 ?o2)) "
        f"{second}(objectType ?o2 {{object}}Type) (receptacleType ?r {{target}}Type) (inReceptacle ?o2 ?r))))))"
    )


def _place(task_type: TaskType, sliced: bool) -> str:
    if task_type is TaskType.SIMPLE:
        inner = "(inReceptacle ?o ?r) (objectType ?o {object}Type) (receptacleType ?r {target}Type)"
    else:
        allowed, done = _PROPERTY[task_type].split()
        inner = (
            f"({allowed} ?o) (objectType ?o {{object}}Type) (receptacleType ?r {{target}}Type) "
            f"({done} ?o) (inReceptacle ?o ?r)"
        )
    return f"(exists (?r - receptacle) (exists (?o - object) (and {_SLICED.format(o='?o') if sliced else ''}{inner})))"


def _clauses() -> dict[tuple[TaskType, bool], str]:
    clauses = {(t, sliced): _place(t, sliced) for t in _PROPERTY for sliced in (False, True)}
    clauses[TaskType.SIMPLE, True] = _SIMPLE_SLICED
    clauses[TaskType.LIGHT, False] = _LIGHT
    clauses |= {(TaskType.TWO, sliced): _two(sliced) for sliced in (False, True)}
    return {key: f"(:goal (and {clause}))" for key, clause in clauses.items()}


def _shape(clause: str) -> str:
    """Return the clause without its white space and with its types blanked."""
    return "".join(_TYPE.sub("_)", clause).split())


_CLAUSES = _clauses()
_KINDS = {_shape(text.format(object="_", target="_")): key for key, text in _CLAUSES.items()}


def goal_clause(goal: Goal) -> str:
    """Return the `(:goal ...)` clause of a goal.
    Raises `KeyError` for a sliced LIGHT goal, which ALFWorld does not define.
    """
    return _CLAUSES[goal.task_type, goal.sliced].format(object=goal.object_type, target=goal.target_type)


def read_goal(clause: str) -> Goal | None:
    """Return the goal of a `(:goal ...)` clause, None if it is not one of ALFWorld's."""
    kind = _KINDS.get(_shape(clause))
    if kind is None:
        return None
    task_type, sliced = kind
    first, second, *rest = _TYPE.findall(clause)
    if rest and rest != [first, second]:
        return None
    if task_type is TaskType.LIGHT:
        first, second = second, first
    return Goal(task_type, first, second, sliced)
