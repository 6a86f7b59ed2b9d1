"""Rules of interrupt remapping: which interrupts a device can make up."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pagetables.address import SourceId, format_source_id
from pagetables.audit.rule import Device, Hit, Severity, Subject, rule
from pagetables.audit.scene import Scene, Unit
from pagetables.images.interrupts import Interrupt
from pagetables.layouts.interrupt import RemappedInterruptEntry
from pagetables.layouts.registers import ExtendedCapability, GlobalStatus, InterruptRemappingTableAddress
from pagetables.wording import count, names

__all__ = ["BUS_RANGE", "COMPATIBILITY_FORMAT", "DELIVERY_MODE", "NOT_REMAPPED", "NOT_VALIDATED"]

_BUS_RANGE = 2  # SVT
_DELIVERY = {2: "SMI", 4: "NMI", 5: "INIT", 7: "ExtINT"}  # beside fixed and lowest priority


def _grouped(scene: Scene, wanted: Callable[[Interrupt], bool]) -> Iterator[tuple[Unit, SourceId, list[Interrupt]]]:
    for unit in scene.units:
        groups: dict[SourceId, list[Interrupt]] = {}
        for one in unit.report.interrupts:
            if wanted(one):
                groups.setdefault(SourceId(one.entry.sid), []).append(one)
        for source, entries in sorted(groups.items()):
            yield unit, source, entries


def _hit(severity: Severity, text: str, unit: Unit, source: SourceId, entries: list[Interrupt]) -> Hit:
    return Hit(severity, text, Subject((Device(unit.index, source),), entry=entries[0].at, unit=unit.index))


def _some(entries: list[Interrupt]) -> str:
    noun = "interrupt entry" if len(entries) == 1 else "interrupt entries"
    return f"{noun} {names(one.index for one in entries)}"


def _not_validated(scene: Scene) -> Iterator[Hit]:
    for unit, source, entries in _grouped(scene, lambda one: not one.entry.svt):
        text = f"{_some(entries)} (of {format_source_id(source)}) may be used by any device: SVT=0"
        yield _hit(Severity.WARNING, text, unit, source, entries)


NOT_VALIDATED = rule("VTD401", "source-not-validated", Severity.WARNING, "interrupt entries serve any source")(
    _not_validated
)


def _compatibility_format(scene: Scene) -> Iterator[Hit]:
    for unit in scene.units:
        status, table = unit.read(GlobalStatus), unit.read(InterruptRemappingTableAddress)
        if status is not None and table is not None and status.ires and status.cfis and not table.eime:
            text = (
                f"{unit} lets interrupts in compatibility format pass (GSTS.CFIS=1): a device can send any vector to "
                "any processor"
            )
            yield Hit(Severity.WARNING, text, Subject(unit=unit.index))


COMPATIBILITY_FORMAT = rule(
    "VTD402", "compatibility-format", Severity.WARNING, "interrupts that are not remapped may pass"
)(_compatibility_format)


def _not_remapped(scene: Scene) -> Iterator[Hit]:
    for unit in scene.units:
        status, capability = unit.read(GlobalStatus), unit.read(ExtendedCapability)
        if status is None or capability is None or status.ires:
            continue
        if capability.ir:
            hit = (Severity.WARNING, f"{unit} could remap interrupts (ECAP.IR) but does not (GSTS.IRES=0)")
        else:
            hit = (Severity.NOTE, f"{unit} cannot remap interrupts (ECAP.IR=0)")
        yield Hit(hit[0], f"{hit[1]}: a device can send any vector to any processor", Subject(unit=unit.index))


NOT_REMAPPED = rule("VTD403", "interrupts-not-remapped", Severity.WARNING, "interrupts are not remapped")(_not_remapped)


def _bus_range(scene: Scene) -> Iterator[Hit]:
    def is_wide(one: Interrupt) -> bool:
        return one.entry.svt == _BUS_RANGE and one.entry.sid >> 8 != one.entry.sid & 0xFF

    for unit, source, entries in _grouped(scene, is_wide):
        first, last = source >> 8, source & 0xFF
        text = f"{_some(entries)} may be used by every device of buses {first:02x}-{last:02x} (SVT=2)"
        yield _hit(Severity.NOTE, text, unit, source, entries)


BUS_RANGE = rule("VTD404", "bus-range", Severity.NOTE, "interrupt entries serve a range of buses")(_bus_range)


def _delivery_mode(scene: Scene) -> Iterator[Hit]:
    def is_special(one: Interrupt) -> bool:
        return isinstance(one.entry, RemappedInterruptEntry) and one.entry.dlm in _DELIVERY

    for unit, source, entries in _grouped(scene, is_special):
        modes = sorted({_DELIVERY[one.entry.dlm] for one in entries if isinstance(one.entry, RemappedInterruptEntry)})
        what = count(len(entries), "interrupt entry", "interrupt entries")
        text = f"{format_source_id(source)} can raise {names(modes)} ({what}, the first has index {entries[0].index})"
        yield _hit(Severity.WARNING, text, unit, source, entries)


DELIVERY_MODE = rule("VTD405", "delivery-mode", Severity.WARNING, "a device can raise more than plain interrupts")(
    _delivery_mode
)
