"""JSON values out of a stream of bytes, cut as QMP's clients send them: one after the other, on one line or on many.

A value ends where its braces and brackets are balanced, a bare word or string at white space. Strings may stand in
apostrophes, as QEMU has it. What cannot be JSON is handed out as a `BadJson`; where that is a character that no JSON
has outside of strings, whatever was open is closed. A byte FFh starts afresh without a word.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

__all__ = ["BadJson", "JsonStream"]

_LONGEST = 1 << 24
_DEEPEST = 500
_RESTART = 0xFF
_TOKEN = re.compile(
    rb'"(?:[^"\\\n]|\\[^\n])*"'
    rb"|'(?:[^'\\\n]|\\[^\n])*'"
    rb"""|[{}\[\]]|\xff|["'][^\n]*\n|[^\s"'{}\[\]\xff]+"""
)
_STRAY = re.compile(rb"[^a-z0-9E+\-.:,]")
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"' rb"|'((?:[^'\\]|\\.)*)'")
_ESCAPED = re.compile(rb'\\.|"')
_SPACE = re.compile(rb"\s*")


@dataclass(frozen=True, slots=True)
class BadJson:
    """Bytes that are no JSON, and why."""

    why: str


class JsonStream:
    """Feed it bytes; it yields values as they become complete."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._scanned = 0
        self._depth = 0
        self._start = 0

    def feed(self, data: bytes) -> Iterator[Any]:
        """The values, or BadJson, that `data` completed."""
        self._buffer += data
        while (token := self._next()) is not None:
            yield from self._take(token)
        if len(self._buffer) > _LONGEST:
            yield BadJson("JSON token size limit exceeded")
            self._restart(len(self._buffer))

    def _next(self) -> re.Match[bytes] | None:
        space = _SPACE.match(self._buffer, self._scanned)
        start = self._scanned if space is None else space.end()
        found = _TOKEN.match(self._buffer, start)
        if found is None:  # nothing more, or a string that goes on in what comes next
            self._scanned = start
            if not self._depth:
                self._restart(start)
            return None
        # A word at the very end may go on in what comes next; brackets and whole strings do not.
        ends = found[0][0] in b"{}[]\"'\xff" or _STRAY.search(found[0])
        return found if ends or found.end() < len(self._buffer) else None

    def _take(self, found: re.Match[bytes]) -> Iterator[Any]:
        token, start, end = found[0], found.start(), found.end()
        if not self._depth:
            self._start = start
        self._scanned = end
        if token[0] == _RESTART:
            self._restart(end)
        elif token[-1:] == b"\n" or (token[0] not in b"{}[]\"'" and _STRAY.search(token)):
            yield BadJson(f"JSON parse error, stray {token[:40].decode('utf-8', 'replace')!r}")
            self._restart(end)
        else:
            self._depth += (token in (b"{", b"[")) - (token in (b"}", b"]"))
            if self._depth > _DEEPEST:
                yield BadJson("JSON nesting depth limit exceeded")
                self._restart(end)
            elif self._depth <= 0:
                yield _parsed(bytes(self._buffer[self._start : end]))
                self._restart(end)

    def _restart(self, at: int) -> None:
        del self._buffer[:at]
        self._scanned = self._start = self._depth = 0


def _parsed(text: bytes) -> Any:
    try:
        return json.loads(_STRING.sub(_in_quotes, text))
    except ValueError as error:  # a decoding error is one too
        return BadJson(f"JSON parse error, {error}")


def _in_quotes(found: re.Match[bytes]) -> bytes:
    # A string in apostrophes becomes one in quotation marks.
    if found[1] is None:
        return found[0]
    turned = {b'"': b'\\"', b"\\'": b"'"}
    return b'"' + _ESCAPED.sub(lambda one: turned.get(one[0], one[0]), found[1]) + b'"'
