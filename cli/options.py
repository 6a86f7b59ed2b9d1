"""Arguments and options that commands share, and their types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from pagetables.address import parse_number, parse_size, parse_source_id
from pagetables.errors import InputError

__all__ = ["DEVICE", "NUMBER", "PASID", "SIZE", "image_options", "json_option", "pasid_option"]

F = TypeVar("F", bound=Callable[..., Any])


class _Parsed(click.ParamType):  # type: ignore[type-arg]  # generic in the stubs only, before click 8.4
    """A number, read from text by one of the parsers of pagetables.address."""

    def __init__(self, name: str, parse: Callable[[str], int]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            return self._parse(value)
        except InputError as error:
            self.fail(str(error), param, ctx)


def _natural(text: str) -> int:
    number = parse_number(text)
    if number < 0:
        raise InputError(f"{text!r} is negative: expected 0 or more")
    return number


def _pasid(text: str) -> int:
    number = _natural(text)
    if number >= PASID_LIMIT:
        raise InputError(f"{text!r} is no PASID: expected at most {PASID_LIMIT - 1:#x} (20 bits)")
    return number


PASID_LIMIT = 1 << 20
NUMBER = _Parsed("number", _natural)
PASID = _Parsed("pasid", _pasid)
SIZE = _Parsed("size", parse_size)
DEVICE = _Parsed("bdf", parse_source_id)


def json_option(command: F) -> F:
    """`--json`: the argument `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")(command)


def pasid_option(command: F) -> F:
    """`--pasid N`: the argument `pasid`, None where it is not given."""
    return click.option("--pasid", type=PASID, metavar="N", help="Process address space id.")(command)


def image_options(command: F) -> F:
    """IMAGE, `--registers`, `--rtaddr` and `--base`: the arguments `image`, `registers`, `rtaddr` and `base`."""
    base = click.option(
        "--base", type=NUMBER, metavar="ADDR", help="Where IMAGE begins, if it is raw memory that does not begin at 0."
    )
    rtaddr = click.option(
        "--rtaddr", type=NUMBER, metavar="ADDR", help="Root table address register, where the image has no registers."
    )
    registers = click.option(
        "--registers", metavar="FILE", help="Registers: registers.json, a raw page, the text of iommu_regset or of xp."
    )
    return click.argument("image")(registers(rtaddr(base(command))))
