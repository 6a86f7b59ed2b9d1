"""What `vtd inspect --json` says of a unit. Mappings are iterators: a million of them are never there at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cli.render import address
from pagetables.address import format_source_id
from pagetables.fault import FaultReason
from pagetables.request import Permissions
from pagetables.runs import rows

if TYPE_CHECKING:
    from pagetables.address import SourceId
    from pagetables.images.inspection import UnitReport
    from pagetables.images.interrupts import Interrupt
    from pagetables.images.queues import Queue, Slot
    from pagetables.layouts.registers import FaultRecord
    from pagetables.runs import Mapping as Run
    from pagetables.scan import Finding, Space

__all__ = ["Told", "fault_access", "fault_name", "field_values", "is_first_stage", "spelt", "unit_document"]

_DELIVERY = ("fixed", "lowest-priority", "smi", "reserved", "nmi", "init", "reserved", "extint")
_ACCESS = tuple(Permissions(bits).text() for bits in range(16))
_USER = int(Permissions.USER)
STEP = 1 << 14  # mappings between two reports of progress

Told = Callable[[int], None]


def unit_document(report: UnitReport, names: Mapping[SourceId, str], told: Told) -> dict[str, Any]:
    """The JSON object of one unit. `names` are those of devices; `told` hears how many mappings were written."""
    base = report.registers.base
    return {
        "register_base": None if base is None else address(base),
        "mode": report.mode,
        "translation_enabled": report.translation_enabled,
        "interrupt_remapping_enabled": report.interrupt_remapping_enabled,
        "root_table": address(report.root_table),
        "spaces": [_space_document(space, names, told) for space in report.spaces],
        "interrupts": [_interrupt_document(interrupt) for interrupt in report.interrupts],
        "pending_faults": [_fault_document(record) for record in report.pending_faults],
        "queue": _queue_document(report.queue),
        "page_requests": _queue_document(report.page_requests),
        "findings": [_finding_document(finding) for finding in report.findings],
    }


def _space_document(space: Space, names: Mapping[SourceId, str], told: Told) -> dict[str, Any]:
    document: dict[str, Any] = {
        "source_id": format_source_id(space.source_id),
        "pasid": space.pasid,
        "domain_id": space.domain_id,
        "translation": spelt(space.translation.name),
        "levels": space.levels,
        "table": address(space.table),
        "pages": {str(size): number for size, number in sorted(space.pages.items())},
        "mappings": _mapping_documents(space.mappings, is_first_stage(space), told),
    }
    if names:
        document["device"] = names.get(space.source_id)
    if space.second_stage is not None:
        document["second_stage"] = {
            "pages": {str(size): number for size, number in sorted(space.second_stage.pages.items())},
            "mappings": _mapping_documents(space.second_stage.mappings, False, told),
        }
    return document


def _mapping_documents(mappings: Sequence[Run], first_stage: bool, told: Told) -> Iterator[dict[str, Any]]:
    for number, (iova, gpa, size, bits) in enumerate(rows(mappings), 1):
        document = {"iova": f"{iova:#x}", "gpa": f"{gpa:#x}", "size": size, "access": _ACCESS[bits]}
        if first_stage:
            document["user"] = bool(bits & _USER)
        yield document
        if not number % STEP:
            told(STEP)


def _interrupt_document(interrupt: Interrupt) -> dict[str, Any]:
    fields = interrupt.entry.fields()
    document: dict[str, Any] = {
        "index": interrupt.index,
        "vector": interrupt.vector,
        "destination": interrupt.destination,
        "source_id": format_source_id(fields["sid"]),
        "source_validation": fields["svt"],
        "source_qualifier": fields["sq"],
        "fault_processing_disabled": bool(fields["fpd"]),
        "posted": interrupt.descriptor_address is not None,
        "at": address(interrupt.at),
        "entry": address(interrupt.entry),
    }
    if interrupt.descriptor_address is None:
        document["destination_mode"] = "logical" if fields["dm"] else "physical"
        document["redirection_hint"] = bool(fields["rh"])
        document["trigger"] = "level" if fields["tm"] else "edge"
        document["delivery"] = _DELIVERY[fields["dlm"]]
    else:
        document["descriptor"] = address(interrupt.descriptor_address)
        document["urgent"] = bool(fields["urg"])
        document["notification_vector"] = interrupt.descriptor and interrupt.descriptor.nv
    return document


def _fault_document(record: FaultRecord) -> dict[str, Any]:
    return {
        "source_id": format_source_id(record.sid),
        "address": address(record.fi << 12),
        "reason": record.fr,
        "access": fault_access(record),
        "pasid": record.pv if record.pp else None,
        "name": fault_name(record.fr),
        "meaning": _meaning(record.fr),
    }


def fault_access(record: FaultRecord) -> str:
    """What the request of a fault record wanted: `r`, `w`, `rw` for an atomic, `-` for a page request."""
    # T1 T2: 00 write, 10 read, 11 atomic, 01 page request.
    return {0: "w", 2: "r", 3: "rw"}.get(record.t1 << 1 | record.t2, "-")


def fault_name(reason: int) -> str | None:
    """What a fault reason is called; None for one that is reserved."""
    known = _known(reason)
    return None if known is None else spelt(known.name)


def _meaning(reason: int) -> str | None:
    known = _known(reason)
    return None if known is None else known.meaning


def _known(reason: int) -> FaultReason | None:
    return next((one for one in FaultReason if one == reason), None)


def _queue_document(queue: Queue | None) -> dict[str, Any] | None:
    if queue is None:
        return None
    return {
        "enabled": queue.is_enabled,
        "address": address(queue.address),
        "size": queue.size,
        "slot_size": queue.slot_size,
        "slots": queue.length,
        "head": queue.head,
        "tail": queue.tail,
        "pending": queue.pending,
        "missing": [address(page) for page in queue.missing],
        "note": queue.note or None,
        "descriptors": [_slot_document(slot) for slot in queue.slots],
    }


def _slot_document(slot: Slot) -> dict[str, Any]:
    return {
        "slot": slot.index,
        "at": address(slot.at),
        "name": slot.name,
        "pending": slot.is_pending,
        "raw": address(slot.raw),
        "fields": field_values(slot),
    }


def field_values(slot: Slot) -> dict[str, int | str]:
    """The fields of a slot's descriptor without its type; addresses in place, as addresses."""
    shown: dict[str, int | str] = {}
    if slot.word is None:
        return shown
    for name, value in slot.word.fields().items():
        field = slot.word.field(name)
        if not name.startswith("type"):
            shown[name] = address(value << field.lo % 64) if field.address else value
    return shown


def _finding_document(finding: Finding) -> dict[str, Any]:
    return {
        "kind": finding.kind,
        "at": None if finding.at is None else address(finding.at),
        "source_id": None if finding.source is None else format_source_id(finding.source),
        "message": finding.message,
    }


def is_first_stage(space: Space) -> bool:
    """True if the mappings of `space` are first-stage entries, which have U/S."""
    return space.translation.name in ("FIRST_STAGE", "NESTED")


def spelt(name: str) -> str:
    """The name of an enum member as commands print it."""
    return name.lower().replace("_", "-")
