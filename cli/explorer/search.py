"""From an address to the entry that decides: the rows on the way, and the verdict in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cli.explorer.tables import PasidDirectory, Table, Unit
from cli.explorer.wording import spelt
from pagetables.address import Iova, Pasid, SourceId, parse_number, parse_source_id
from pagetables.errors import InputError
from pagetables.fault import Fault
from pagetables.images.inspection import Answer, answer
from pagetables.layouts.context import ScalableContextEntry
from pagetables.request import Access, Request, Translation
from pagetables.wording import human_size

__all__ = ["Found", "Place", "locate", "parse_place", "verdict"]

ADDRESS_LIMIT, PASID_LIMIT = 1 << 64, 1 << 20


@dataclass(frozen=True, slots=True)
class Place:
    """An address of a device."""

    source_id: SourceId
    pasid: Pasid | None
    iova: Iova


@dataclass(frozen=True, slots=True)
class Found:
    """Where an address led: the tables from the root down, the row of each, and what the unit would do."""

    chain: tuple[Table, ...]
    trail: tuple[int, ...]
    read: Answer
    write: Answer


def parse_place(text: str, source_id: SourceId | None, pasid: Pasid | None) -> Place:
    """`IOVA`, `BDF IOVA` or `BDF PASID IOVA`; what is not said is as given. InputError otherwise."""
    words = text.split()
    if not 1 <= len(words) <= 3:
        raise InputError("expected an address, or a device and an address: 00:05.0 0x10100000")
    if len(words) > 1:
        source_id, pasid = parse_source_id(words[0]), None
    if len(words) == 3:
        pasid = Pasid(_below(words[1], PASID_LIMIT, "a PASID"))
    if source_id is None:
        raise InputError("no device is open: choose one, or say it before the address: 00:05.0 0x10100000")
    return Place(source_id, pasid, Iova(_below(words[-1], ADDRESS_LIMIT, "an address")))


def _below(text: str, limit: int, what: str) -> int:
    number = parse_number(text)
    if not 0 <= number < limit:
        raise InputError(f"{text} is not {what}: expected 0 to {limit - 1:#x}")
    return number


def locate(unit: Unit, place: Place) -> Found:
    """The way to the entry that decides what becomes of the address: the leaf, or where a read of it faults."""
    request = _request(unit, place)
    read, write = (
        answer(unit.memory, (unit.registers,), Request(place.source_id, place.iova, access, request.pasid))
        for access in (Access.READ, Access.WRITE)
    )
    decided = read.outcome.at if isinstance(read.outcome, Fault) else None
    chain: list[Table] = [unit.root()]
    trail: list[int] = []
    while True:
        table = chain[-1]
        index = table.index_of(request, _index_pasid(table, place))
        row = table.row_at(index)
        trail.append(index)
        no_entry = isinstance(read.outcome, Fault) and decided is None and row.table is not None and row.table.level > 0
        if row.table is None or row.at == decided or no_entry:
            return Found(tuple(chain), tuple(trail), read, write)
        chain.append(row.table)


def _request(unit: Unit, place: Place) -> Request:
    # A row of a PASID table also serves the requests without PASID, if it is the one of RID_PASID.
    plain = Request(place.source_id, place.iova)
    if place.pasid is None or not unit.is_scalable:
        return plain
    return plain if place.pasid == _rid_pasid(unit, plain) else Request(place.source_id, place.iova, pasid=place.pasid)


def _rid_pasid(unit: Unit, request: Request) -> int:
    table: Table | None = unit.root()
    while table is not None and not isinstance(table, PasidDirectory):
        table = table.row_at(table.index_of(request, 0)).table
    context = ScalableContextEntry(0) if table is None else table.context
    return context.rid_pasid if unit.capabilities.ecap.rps else 0


def _index_pasid(table: Table, place: Place) -> int:
    if place.pasid is not None:
        return place.pasid
    directory = table if isinstance(table, PasidDirectory) else getattr(table, "directory", None)
    if not isinstance(directory, PasidDirectory) or not table.unit.capabilities.ecap.rps:
        return 0
    return directory.context.rid_pasid


def verdict(found: Found) -> Iterator[tuple[str, bool]]:
    """Lines that say what becomes of a read and of a write; and whether that is good."""
    for one in (found.read, found.write):
        yield _line(one), isinstance(one.outcome, Translation)
    fault = next((one.outcome for one in (found.read, found.write) if isinstance(one.outcome, Fault)), None)
    if fault is not None:
        yield f"{fault.reason.meaning}", False
    yield from ((f"note: {note}", False) for note in found.read.notes)


def _line(one: Answer) -> str:
    outcome, name = one.outcome, one.request.access.name.lower()
    if isinstance(outcome, Translation):
        page = human_size(1 << outcome.page_shift)
        return f"{name:<5} {one.request.iova:#x} -> {outcome.gpa:#x}, in a page of {page}"
    withheld = [f"{step.structure} {step.note}" for step in one.steps if step.note.startswith("withholds")]
    where = f" at {outcome.at:#x}" if outcome.at is not None else ""
    why = f": {', '.join(withheld)}" if withheld else where
    return f"{name:<5} fault {int(outcome.reason):#04x} {spelt(outcome.reason.name)}{why}"
