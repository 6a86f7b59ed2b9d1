"""Entries in a few words, and bit by bit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pagetables.address import level_size
from pagetables.bits import Access, Bits, Word
from pagetables.formats import Format, Kind
from pagetables.source import Source
from pagetables.wording import human_size

__all__ = ["FieldLine", "entry_words", "field_lines", "source_words", "spelt"]


@dataclass(frozen=True, slots=True)
class FieldLine:
    """One field of an entry: its bits, name, value, and what it means. `matters` is False where nothing is set."""

    bits: str
    name: str
    value: str
    about: str
    matters: bool
    is_wrong: bool = False


def spelt(name: str) -> str:
    """A name of the code as commands print it."""
    return name.lower().replace("_", "-")


def source_words(source: Source) -> str:
    """What an entry says of a source: `domain 3, 4 levels at 0x1234000`."""
    words = f"domain {source.domain_id}, "
    if source.fs_levels and source.ss_levels:
        return f"{words}nested, first stage at {source.fs_table:#x}"
    if source.fs_levels:
        return f"{words}first stage at {source.fs_table:#x}"
    if source.ss_levels:
        return f"{words}{source.ss_levels} levels at {source.ss_table:#x}"
    return words + spelt(source.translation.name)


def entry_words(form: Format, entry: int, level: int) -> str:
    """What a paging entry says: `rw 4 KiB at 0x5000`."""
    kind = form.kind(entry, level)
    if kind is Kind.EMPTY:
        return "not present" if not entry else "not present, but not 0"
    access = form.permissions(entry).text()
    wrong = " RESERVED BITS" if entry & form.reserved(level, kind) else ""
    if kind is Kind.TABLE:
        return f"{access} table {form.table(entry):#x}{wrong}"
    return f"{access} {human_size(level_size(level))} at {form.output(entry, level):#x}{wrong}"


def field_lines(layout: type[Word], entry: int) -> Iterator[FieldLine]:
    """Every field of an entry from bit 0 on; reserved and ignored ones only where a bit of them is set."""
    for field in layout.fields_by_name.values():
        value = entry >> field.lo & field.limit
        if field.access in (Access.RSVD, Access.IGN) and not value:
            continue
        reserved = field.access is Access.RSVD
        name = "reserved" if reserved else "ignored" if field.access is Access.IGN else field.label
        about = "must be 0" if reserved else _meaning(field, value)
        bits = str(field.lo) if field.width == 1 else f"{field.hi}:{field.lo}"
        number = value << field.lo % 64 if field.address else value
        yield FieldLine(bits, name, f"{number:#x}" if field.width > 1 else str(value), about, bool(value), reserved)


def _meaning(field: Bits, value: int) -> str:
    named = {int(member): spelt(member.name) for member in field.values or ()}
    if not named:
        return field.about
    return f"{field.about}: {named.get(value, 'reserved value')}"
