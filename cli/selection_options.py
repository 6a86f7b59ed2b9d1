"""The options that choose mappings: `--iova`, `--gpa`, `--size`, `--access`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

from pagetables.address import parse_number, parse_size
from pagetables.errors import InputError
from pagetables.selection import ACCESSES, Selection

__all__ = ["chosen", "selection_options"]

F = TypeVar("F", bound=Callable[..., Any])
_SIZES = (1 << 12, 1 << 21, 1 << 30)


def _range(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([^-+]+)(?:([-+])([^-+]+))?", text.strip())
    if match is None:
        raise InputError(f"{text!r} is no range: expected START-END (END is not part of it), START+SIZE, or an address")
    start = parse_number(match[1])
    rest = parse_number(match[3]) if match[2] else 1
    end = rest if match[2] == "-" else start + rest
    if not 0 <= start < end <= 1 << 64:
        raise InputError(f"{text!r} is no range: expected a start below its end, both within 64 bits")
    return start, end


def _page_size(text: str) -> int:
    if (size := parse_size(text)) not in _SIZES:
        raise InputError(f"{text!r} is no page size: expected 4K, 2M or 1G")
    return size


class _Of(click.ParamType):  # type: ignore[type-arg]  # generic in the stubs only, before click 8.4
    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return self._parse(value) if isinstance(value, str) else value
        except InputError as error:
            self.fail(str(error), param, ctx)


def selection_options(command: F) -> F:
    """`--iova`, `--gpa`, `--size` and `--access`: arguments of the same names, for `chosen`."""
    span = _Of("range", _range)
    access = click.option(
        "--access",
        type=click.Choice(list(ACCESSES)),
        help="Only mappings that may be read (r), written (w), both (rw), only read (ro), only written (wo).",
    )
    size = click.option("--size", type=_Of("size", _page_size), metavar="N", help="Only pages of 4K, 2M or 1G.")
    gpa = click.option("--gpa", type=span, metavar="START-END", help="Only pages that lead into this memory.")
    iova = click.option("--iova", type=span, metavar="START-END", help="Only pages at these addresses of devices.")
    return iova(gpa(size(access(command))))


def chosen(
    iova: tuple[int, int] | None, gpa: tuple[int, int] | None, size: int | None, access: str | None
) -> Selection:
    """The selection that the options ask for."""
    return Selection(iova, gpa, size, None if access is None else ACCESSES[access])
