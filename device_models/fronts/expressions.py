"""Numbers that a monitor's user types as expressions, `0xfed90000+4*8`: + - * / % & | ^ ~ and brackets.

Numbers are decimal, hexadecimal after 0x and octal after 0; characters stand in quotes. As in QEMU & | and ^ bind
tighter than + and -, and values have 64 bits.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from pagetables.errors import InputError

__all__ = ["ExpressionError", "evaluate"]

_ALL = (1 << 64) - 1
_TOKEN = re.compile(r"\s*(0[xX][0-9a-fA-F]+|\d+|'[^']'|[-+*/%&|^~()])")
_SUM: dict[str, Callable[[int, int], int]] = {"+": lambda a, b: a + b, "-": lambda a, b: a - b}
_LOGIC: dict[str, Callable[[int, int], int]] = {
    "&": lambda a, b: a & b,
    "|": lambda a, b: a | b,
    "^": lambda a, b: a ^ b,
}
_PRODUCT: dict[str, Callable[[int, int], int]] = {
    "*": lambda a, b: a * b,
    "/": lambda a, b: _divided(a, b)[0],
    "%": lambda a, b: _divided(a, b)[1],
}
_LEVELS = (_SUM, _LOGIC, _PRODUCT)
_DEEPEST = 50


class ExpressionError(InputError):
    """What was typed is no expression, in QEMU's words."""


def evaluate(text: str) -> int:
    """The value of the expression that is the whole of `text`; ExpressionError otherwise."""
    return _Parser(_tokens(text)).whole()


def _tokens(text: str) -> list[str]:
    tokens, at, text = [], 0, text.strip()
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise ExpressionError(f"invalid char '{text[at:].strip()[:1]}' in expression")
        tokens.append(found[1])
        at = found.end()
    return tokens


def _divided(number: int, by: int) -> tuple[int, int]:
    if not by:
        raise ExpressionError("division by zero")
    return divmod(number, by)


class _Parser:
    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens
        self.depth = 0

    def whole(self) -> int:
        value = self._level(0)
        if self.tokens:
            raise ExpressionError(f"invalid char '{self.tokens[0][:1]}' in expression")
        return value

    def _level(self, level: int) -> int:
        if level == len(_LEVELS):
            return self._unary()
        value = self._level(level + 1)
        while self.tokens and self.tokens[0] in _LEVELS[level]:
            operation = _LEVELS[level][self.tokens.pop(0)]
            value = operation(value, self._level(level + 1)) & _ALL
        return value

    def _unary(self) -> int:
        if not self.tokens:
            raise ExpressionError("unexpected end of expression")
        token = self.tokens.pop(0)
        if token in ("+", "-", "~", "("):
            return self._nested(token)
        if token[0] == "'":
            return ord(token[1]) & _ALL
        if not token[0].isdigit():
            raise ExpressionError(f"invalid char '{token}' in expression")
        return _literal(token)

    def _nested(self, token: str) -> int:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise ExpressionError("too many brackets and signs")
        if token == "(":
            value = self._level(0)
            if not self.tokens or self.tokens.pop(0) != ")":
                raise ExpressionError("')' expected")
        else:
            value = {"+": lambda n: n, "-": lambda n: -n, "~": lambda n: ~n}[token](self._unary()) & _ALL
        self.depth -= 1
        return value


def _literal(token: str) -> int:
    octal = len(token) > 1 and token[0] == "0" and token[1] not in "xX"
    try:
        value = int(token, 8 if octal else 0)
    except ValueError:
        raise ExpressionError(f"invalid char '{token[-1]}' in expression") from None
    if value > _ALL:
        raise ExpressionError("number too large")
    return value
