"""Random expressions and their exact values."""

from __future__ import annotations

import ast
from fractions import Fraction

from agentgym_rft.envs.draws import Draws

_OPERATORS = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}


def random_expression(level: int, draws: Draws) -> str:
    """Return an expression of level 1 (one operation), 2 (three or four with brackets) or 4 (fractions)."""
    if level == 1:
        return _one_operation(draws)
    if level == 2:
        return _strip(_tree(draws, 3 + draws.below(2)))
    return _fractions(draws)


def evaluate(expression: str) -> Fraction:
    """Return the exact value of whole numbers joined by + - * / and brackets. Raises ValueError for anything else."""
    try:
        return _value(ast.parse(expression.strip(), mode="eval").body)
    except (SyntaxError, ZeroDivisionError) as error:
        raise ValueError(f"'{expression}' is no expression with a value.") from error


def _value(node: ast.expr) -> Fraction:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return Fraction(node.value)
    if not isinstance(node, ast.BinOp) or type(node.op) not in _OPERATORS:
        raise ValueError("An expression has whole numbers and + - * / only.")
    left, right = _value(node.left), _value(node.right)
    if isinstance(node.op, ast.Add):
        return left + right
    if isinstance(node.op, ast.Sub):
        return left - right
    return left * right if isinstance(node.op, ast.Mult) else left / right


def _one_operation(draws: Draws) -> str:
    kind = draws.below(4)
    if kind < 2:
        return f"{1 + draws.below(99)} {'+-'[kind]} {1 + draws.below(99)}"
    a, b = 2 + draws.below(11), 2 + draws.below(29)
    return f"{a} * {b}" if kind == 2 else f"{a * b} / {a}"


def _tree(draws: Draws, num_operations: int) -> str:
    """Return a random tree, each operation in brackets."""
    if num_operations == 0:
        return str(1 + draws.below(20))
    left = draws.below(num_operations)
    operator = "+-*"[draws.below(3)]
    return f"({_tree(draws, left)} {operator} {_tree(draws, num_operations - 1 - left)})"


def _strip(expression: str) -> str:
    return expression[1:-1]


def _fractions(draws: Draws) -> str:
    terms = [f"{1 + draws.below(11)}/{2 + draws.below(11)}" for _ in range(2)]
    operator = "+-*/"[draws.below(4)]
    pair = f"({terms[0]}) {operator} ({terms[1]})"
    if draws.chance(0.5):
        return pair
    return f"({pair}) {'+-'[draws.below(2)]} {1 + draws.below(9)}"
