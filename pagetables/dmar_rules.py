"""What may be wrong with the structures of a DMAR table, one check after another.

The rules are those of the VT-d specification's chapter on BIOS; what Linux does about a breach is said where it is
known.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pagetables.address import PAGE_SIZE
from pagetables.layouts.dmar import Andd, Atsr, DmarTable, Drhd, Rhsa, Rmrr, Satc, Sidp, Structure, Unknown
from pagetables.severity import Severity
from pagetables.wording import human_size

__all__ = ["CHECKS", "Complaint", "Placed", "kind_name", "of_kind"]

S = TypeVar("S")
SMALLEST_HAW = 12  # Linux refuses the table below
LARGEST_HAW = 52
LARGE_RMRR = 1 << 30
KNOWN_FLAGS = 0b111
ENDPOINT, BRIDGE = 1, 2
NOTE, WARNING, ERROR = Severity


@dataclass(frozen=True, slots=True)
class Complaint:
    """What is wrong: which check says so, how bad it is, and at which offset of the table."""

    check: str
    severity: Severity
    message: str
    offset: int | None = None


@dataclass(frozen=True, slots=True)
class Placed:
    """A structure and its offset in the table."""

    at: int
    structure: Structure

    @property
    def name(self) -> str:
        """Its kind and where it is: `RMRR at 0x90`."""
        return f"{kind_name(self.structure)} at {self.at:#x}"


Check = Callable[[DmarTable, Sequence[Placed]], Iterator[Complaint]]


def kind_name(structure: Structure) -> str:
    """`DRHD`, `RMRR` ..., or `structure of type 9`."""
    if isinstance(structure, Unknown):
        return f"structure of type {structure.type}"
    return type(structure).__name__.upper()


def of_kind(placed: Sequence[Placed], kind: type[S]) -> Iterator[tuple[Placed, S]]:
    """Those of one kind, each also as what it is."""
    for one in placed:
        if isinstance(one.structure, kind):
            yield one, one.structure


def _header(table: DmarTable, placed: Sequence[Placed]) -> Iterator[Complaint]:
    if table.haw < SMALLEST_HAW:
        yield Complaint("width", ERROR, f"host address width {table.haw}: Linux refuses less than {SMALLEST_HAW}", 36)
    if table.haw > LARGEST_HAW:
        yield Complaint("width", WARNING, f"host address width {table.haw}: no processor has more than 52", 36)
    if table.flags & ~KNOWN_FLAGS:
        yield Complaint("flags", NOTE, f"reserved flags are set: {table.flags & ~KNOWN_FLAGS:#x}", 37)
    if table.x2apic_opt_out and not table.interrupt_remapping:
        yield Complaint("flags", WARNING, "X2APIC_OPT_OUT means nothing without INTR_REMAP", 37)
    if not any(True for _ in of_kind(placed, Drhd)):
        yield Complaint("no-unit", ERROR, "no DRHD: there is no remapping unit; Linux ignores the table")


def _order(table: DmarTable, placed: Sequence[Placed]) -> Iterator[Complaint]:
    highest = 0
    for one in placed:
        code = one.structure.type if isinstance(one.structure, Unknown) else one.structure.code
        if isinstance(one.structure, Unknown):
            yield Complaint("unknown-type", NOTE, f"{one.name} is not known; Linux passes over it", one.at)
        elif code < highest:
            text = f"{one.name} follows a structure of type {highest}: types must ascend"
            yield Complaint("order", WARNING, text, one.at)
        highest = max(highest, code)


def _units(table: DmarTable, placed: Sequence[Placed]) -> Iterator[Complaint]:
    for one, drhd in of_kind(placed, Drhd):
        where = f"{one.name}: register base {drhd.base:#x}"
        if not drhd.base:
            yield Complaint("unit-base", ERROR, f"{one.name}: register base 0; Linux refuses the table", one.at)
        elif drhd.base % PAGE_SIZE:
            yield Complaint("unit-base", ERROR, f"{where} is not aligned to 4 KiB", one.at)
        elif drhd.base + drhd.register_bytes > 1 << table.haw:
            yield Complaint("unit-base", ERROR, f"{where} is beyond the host address width {table.haw}", one.at)
        if drhd.flags & ~1 or drhd.size & 0xF0:
            yield Complaint("flags", NOTE, f"{one.name}: reserved bits are set in its flags or size", one.at)
        if not drhd.include_all and not drhd.scopes:
            text = f"{one.name} serves no device: neither scopes nor INCLUDE_PCI_ALL"
            yield Complaint("unit-scope", WARNING, text, one.at)
        if drhd.include_all and any(scope.type in (ENDPOINT, BRIDGE) for scope in drhd.scopes):
            text = f"{one.name} lists PCI devices although INCLUDE_PCI_ALL is set"
            yield Complaint("unit-scope", WARNING, text, one.at)
    yield from _unit_pairs(placed)


def _unit_pairs(placed: Sequence[Placed]) -> Iterator[Complaint]:
    # Sorted by base, registers overlap if and only if one begins before all those before it end.
    units = sorted(of_kind(placed, Drhd), key=lambda pair: pair[1].base)
    end, last = 0, ""
    for one, drhd in units:
        if last and drhd.base and drhd.base < end:
            text = f"{one.name}: its registers at {drhd.base:#x} overlap those of {last}"
            yield Complaint("unit-overlap", ERROR, text, one.at)
        if drhd.base + drhd.register_bytes > end:
            end, last = drhd.base + drhd.register_bytes, one.name
    covered: dict[int, str] = {}
    for one, drhd in of_kind(placed, Drhd):
        if drhd.segment in covered:
            text = f"{one.name} follows {covered[drhd.segment]}, whose INCLUDE_PCI_ALL must be the last of its segment"
            yield Complaint("include-all", ERROR, text, one.at)
        elif drhd.include_all:
            covered[drhd.segment] = one.name


def _rmrrs(table: DmarTable, placed: Sequence[Placed]) -> Iterator[Complaint]:
    for one, rmrr in of_kind(placed, Rmrr):
        where = f"{one.name}: {rmrr.base:#x}-{rmrr.limit:#x}"
        if rmrr.base >= rmrr.limit:
            yield Complaint(
                "rmrr-range",
                ERROR,
                f"{where} has a limit that is not above its base; Linux calls that a firmware bug",
                one.at,
            )
        elif rmrr.base % PAGE_SIZE or (rmrr.limit + 1) % PAGE_SIZE:
            text = f"{where} does not begin and end with a page; Linux calls that a firmware bug"
            yield Complaint("rmrr-range", ERROR, text, one.at)
        elif rmrr.limit >= 1 << table.haw:
            yield Complaint("rmrr-range", ERROR, f"{where} is beyond the host address width {table.haw}", one.at)
        elif rmrr.limit + 1 - rmrr.base >= LARGE_RMRR:
            size = human_size(rmrr.limit + 1 - rmrr.base)
            yield Complaint("rmrr-size", WARNING, f"{where} reserves {size}: its devices reach all of that", one.at)
        if not rmrr.scopes:
            yield Complaint("rmrr-scope", WARNING, f"{where} is for no device: no scope", one.at)
    yield from _rmrr_overlaps(placed)


def _rmrr_overlaps(placed: Sequence[Placed]) -> Iterator[Complaint]:
    ordered = sorted(of_kind(placed, Rmrr), key=lambda pair: (pair[1].base, pair[0].at))
    end, last = -1, ""
    for one, rmrr in ordered:
        if rmrr.base <= end:
            text = f"{one.name}: {rmrr.base:#x}-{rmrr.limit:#x} overlaps {last}"
            yield Complaint("rmrr-overlap", WARNING, text, one.at)
        if rmrr.limit > end:
            end, last = rmrr.limit, one.name
    units = sorted(of_kind(placed, Drhd), key=lambda pair: pair[1].base)
    for one, rmrr in ordered:
        index = bisect_right(units, rmrr.limit, key=lambda pair: pair[1].base) - 1
        if index >= 0 and rmrr.base < units[index][1].base + units[index][1].register_bytes:
            text = f"{one.name}: {rmrr.base:#x}-{rmrr.limit:#x} holds the registers of {units[index][0].name}"
            yield Complaint("rmrr-overlap", ERROR, text, one.at)


def _segments(table: DmarTable, placed: Sequence[Placed]) -> Iterator[Complaint]:
    known = {drhd.segment for _, drhd in of_kind(placed, Drhd)}
    for one in placed:
        if isinstance(one.structure, Rmrr | Atsr | Satc | Sidp) and known and one.structure.segment not in known:
            text = f"{one.name}: segment {one.structure.segment} has no remapping unit"
            yield Complaint("segment", WARNING, text, one.at)


def _address_caches(table: DmarTable, placed: Sequence[Placed]) -> Iterator[Complaint]:
    for one, atsr in of_kind(placed, Atsr):
        if not atsr.all_ports and not atsr.scopes:
            yield Complaint("atsr", WARNING, f"{one.name} names no root port: neither scopes nor ALL_PORTS", one.at)
        if atsr.all_ports and atsr.scopes:
            yield Complaint("atsr", NOTE, f"{one.name} lists root ports although ALL_PORTS is set", one.at)
        if any(scope.type != BRIDGE for scope in atsr.scopes):
            yield Complaint("atsr", WARNING, f"{one.name}: a scope is no bridge, as every root port is", one.at)
    for one in placed:
        group = one.structure
        if not isinstance(group, Satc | Sidp):
            continue
        name = kind_name(group).lower()
        if not group.scopes:
            yield Complaint(name, WARNING, f"{one.name} names no device", one.at)
        if any(scope.type != ENDPOINT or len(scope.path) > 1 for scope in group.scopes):
            text = f"{one.name}: a scope is no endpoint of the root complex, as integrated devices are"
            yield Complaint(name, WARNING, text, one.at)


def _affinities(table: DmarTable, placed: Sequence[Placed]) -> Iterator[Complaint]:
    bases = {drhd.base for _, drhd in of_kind(placed, Drhd)}
    told: set[int] = set()
    for one, rhsa in of_kind(placed, Rhsa):
        if rhsa.base not in bases:
            text = f"{one.name}: no DRHD has the register base {rhsa.base:#x}; Linux calls that a firmware bug"
            yield Complaint("rhsa", WARNING, text, one.at)
        elif rhsa.base in told:
            yield Complaint("rhsa", WARNING, f"{one.name}: the unit at {rhsa.base:#x} has an RHSA already", one.at)
        told.add(rhsa.base)


def _namespace_devices(table: DmarTable, placed: Sequence[Placed]) -> Iterator[Complaint]:
    numbers = Counter(andd.devnum for _, andd in of_kind(placed, Andd))
    for one, andd in of_kind(placed, Andd):
        name = andd.path.decode("ascii", "backslashreplace")
        if numbers[andd.devnum] > 1:
            yield Complaint("andd", ERROR, f"{one.name}: device number {andd.devnum} is given more than once", one.at)
        if not andd.path.startswith(b"\\") or not andd.path.isascii():
            yield Complaint("andd", WARNING, f"{one.name}: {name!r} is no full path such as \\_SB.PCI0.I2C0", one.at)


CHECKS: tuple[Check, ...] = (
    _header,
    _order,
    _units,
    _rmrrs,
    _segments,
    _address_caches,
    _affinities,
    _namespace_devices,
)
