"""`vtd decode`: what the bits of an entry, a descriptor or a register mean."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from cli.options import json_option
from cli.render import console, emit_json
from pagetables.address import parse_number
from pagetables.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from pagetables.bits import Bits, Word

QWORD = 64


@click.command("decode")
@click.argument("layout", required=False)
@click.argument("words", metavar="WORD...", nargs=-1)
@click.option("--list", "listed", is_flag=True, help="The layouts there are.")
@json_option
def command(layout: str | None, words: tuple[str, ...], listed: bool, as_json: bool) -> None:
    """What the bits of an entry, a descriptor or a register mean.

    LAYOUT is a name of --list, with - or _, in any case. Words longer than 64 bits are qwords, lowest first, or one
    long number. With - for the words, entries are read from standard input, one a line; --json then prints an array.

    \b
    Examples:
      vtd decode legacy-context-entry 0x1000_0003 0x102
      vtd decode gsts 0xc7000000
      echo 0x9400083 | vtd decode ss-pde-2m -
    """
    if listed:
        return _show_layouts(as_json)
    if layout is None:
        raise click.UsageError("Missing argument 'LAYOUT': a name of --list")
    if words == ("-",):
        return _show_all(_read(layout), as_json)
    return _show(_word(layout, words), as_json)


def _word(name: str, texts: Iterable[str]) -> Word:
    from pagetables.layouts import find

    layout = find(name)
    numbers = [parse_number(text) for text in texts]
    parts = max(layout.width // QWORD, 1)
    if len(numbers) == parts > 1:
        limit, value = QWORD, sum(number << QWORD * i for i, number in enumerate(numbers))
    elif len(numbers) == 1:
        limit, value = layout.width, numbers[0]
    else:
        long = f"{parts} words of {QWORD} bits, lowest first, or one of {layout.width}"
        expected = long if parts > 1 else f"one word of {layout.width} bits"
        raise InputError(f"{_spelt(layout)}: expected {expected}, got {len(numbers) or 'none'}")
    for number in numbers:
        if not 0 <= number < 1 << limit:
            raise InputError(f"{_spelt(layout)}: {number:#x} does not fit {limit} bits")
    return layout(value)


def _read(name: str) -> Iterator[Word]:
    from pagetables.layouts import find

    find(name)  # a wrong name is no fault of the first line
    with open(0, encoding="utf-8", errors="replace", closefd=False) as lines:
        for number, line in enumerate(lines, 1):
            try:
                if line.strip():
                    yield _word(name, line.split())
            except InputError as error:
                raise InputError(f"standard input, line {number}: {error}") from None


def _show_all(words: Iterator[Word], as_json: bool) -> None:
    if as_json:
        return emit_json([_document(word) for word in words])
    for word in words:
        _show(word, False)
    return None


def _show(word: Word, as_json: bool) -> None:
    if as_json:
        return emit_json(_document(word))
    out = console()
    out.print(f"{_spelt(type(word))}  {' '.join(f'{part:#x}' for part in word.qwords())}", style="bold")
    out.print(f"{_about(type(word))}{_place(type(word))}")
    out.print(_table(word))
    reserved = word & word.reserved_mask
    if reserved:
        out.print(f"reserved bits are set: {reserved:#x}", style="red")
    return None


def _document(word: Word) -> dict[str, Any]:
    return {
        "layout": word.name,
        "word": f"{word:#x}",
        "qwords": [f"{part:#x}" for part in word.qwords()],
        "fields": word.fields(),
        "reserved_set": f"{word & word.reserved_mask:#x}",
        "ignored_set": f"{word & word.ignored_mask:#x}",
    }


def _table(word: Word) -> Table:
    from rich import box
    from rich.table import Table

    from pagetables.bits import Access

    table = Table(box=box.SIMPLE, pad_edge=False)
    table.add_column("bits", justify="right", no_wrap=True)
    table.add_column("field", no_wrap=True)
    table.add_column("value", justify="right", overflow="fold")
    table.add_column("meaning")
    for field in word.fields_by_name.values():
        value = int(word) >> field.lo & field.limit
        silent = field.access in (Access.RSVD, Access.IGN)
        if silent and not value:
            continue
        style = "red" if field.access is Access.RSVD else "dim" if silent or not value else None
        bits = f"{field.hi}:{field.lo}" if field.width > 1 else f"{field.hi}"
        name = {Access.RSVD: "(reserved)", Access.IGN: "(ignored)"}.get(field.access, field.label)
        shown = f"{value:#x}" if field.address else _number(value)
        table.add_row(bits, name, shown, _meaning(field, value), style=style)
    return table


def _meaning(field: Bits, value: int) -> str:
    from pagetables.bits import Access

    if field.access is Access.RSVD:
        return field.about or "must be 0"
    if field.address and value:
        return f"{value << field.lo % QWORD:#x}: {field.about}"
    named = {int(member): member.name.lower().replace("_", " ") for member in field.values or ()}
    if named and (value or value in named):
        return f"{named.get(value, 'reserved value')}: {field.about}"
    return field.about


def _number(value: int) -> str:
    if value < 10:
        return f"{value}"
    return f"{value:#x} ({value})" if value < 1 << 16 else f"{value:#x}"


def _spelt(layout: type[Word]) -> str:
    return layout.name.replace("_", "-") if layout.name.islower() else layout.name


def _about(layout: type[Word]) -> str:
    return (layout.__doc__ or "").splitlines()[0]


def _place(layout: type[Word]) -> str:
    from pagetables.layouts.registers import Register

    if not issubclass(layout, Register):
        return ""
    base = {"iro": "ECAP.IRO*16+", "fro": "CAP.FRO*16+", "perfcfgoff": "PERFCFGOFF+"}.get(layout.mmio_base or "", "")
    return f" At {base}{layout.mmio_offset:#x} of the register page."


def _show_layouts(as_json: bool) -> None:
    from rich import box
    from rich.table import Table

    from pagetables.layouts import LAYOUTS

    if as_json:
        return emit_json(
            {
                "layouts": [
                    {"name": layout.name, "bits": layout.width, "about": _about(layout)} for layout in LAYOUTS.values()
                ]
            }
        )
    table = Table("layout", "bits", "what it is", box=box.SIMPLE, pad_edge=False)
    for layout in LAYOUTS.values():
        table.add_row(_spelt(layout), f"{layout.width}", _about(layout).split(". ")[0].rstrip("."))
    return console().print(table)
