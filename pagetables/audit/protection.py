"""Rules of the unit's switches: what is off that protects, or that tells when something went wrong."""

from __future__ import annotations

from collections.abc import Iterator

from pagetables.address import SourceId
from pagetables.audit.rule import Device, Hit, Severity, Subject, rule
from pagetables.audit.scene import Scene
from pagetables.layouts.registers import (
    Capability,
    FaultEventControl,
    FaultStatus,
    GlobalStatus,
    ProtectedMemoryEnable,
)
from pagetables.wording import count, names

__all__ = [
    "FAULTS_NOT_RECORDED",
    "FAULTS_NOT_SIGNALLED",
    "FAULTS_PENDING",
    "NO_PROTECTED_MEMORY",
    "QUEUE_ERROR",
    "TRANSLATION_OFF",
]


def _translation_off(scene: Scene) -> Iterator[Hit]:
    for unit in scene.units:
        status = unit.read(GlobalStatus)
        if status is not None and not status.tes:
            text = f"{unit} does not translate (GSTS.TES=0): every device behind it reaches all memory"
            yield Hit(Severity.ERROR, text, Subject(unit=unit.index))


TRANSLATION_OFF = rule("VTD501", "translation-off", Severity.ERROR, "the unit does not translate")(_translation_off)


def _no_protected_memory(scene: Scene) -> Iterator[Hit]:
    for unit in scene.units:
        capability, status = unit.read(Capability), unit.read(GlobalStatus)
        enable = unit.read(ProtectedMemoryEnable)
        if capability is None or status is None or enable is None or not (capability.plmr or capability.phmr):
            continue
        if not enable.epm and not status.tes:
            text = f"{unit} neither translates nor protects the memory regions it could protect (PMEN.EPM=0)"
            yield Hit(Severity.WARNING, text, Subject(unit=unit.index))
        elif not enable.epm:
            text = f"the protected memory regions of {unit} are off (PMEN.EPM=0), as they should be while it translates"
            yield Hit(Severity.NOTE, text, Subject(unit=unit.index))


NO_PROTECTED_MEMORY = rule("VTD502", "no-protected-memory", Severity.WARNING, "protected memory regions are off")(
    _no_protected_memory
)


def _faults_not_recorded(scene: Scene) -> Iterator[Hit]:
    for one in scene.requesters:
        if one.entries.source.fault_processing_disabled:
            text = f"faults of {one.device} are not recorded (FPD=1): nobody learns what it tries"
            yield Hit(Severity.WARNING, text, Subject((one.device,), entry=one.entries.at))
    for unit in scene.units:
        silent = [one for one in unit.report.interrupts if one.entry.fpd]
        if silent:
            text = f"faults of {count(len(silent), 'interrupt entry', 'interrupt entries')} are not recorded (FPD=1)"
            devices = tuple(
                Device(unit.index, SourceId(source)) for source in sorted({one.entry.sid for one in silent})
            )
            yield Hit(Severity.WARNING, text, Subject(devices, entry=silent[0].at, unit=unit.index))


FAULTS_NOT_RECORDED = rule("VTD503", "faults-not-recorded", Severity.WARNING, "faults are not recorded")(
    _faults_not_recorded
)


def _faults_not_signalled(scene: Scene) -> Iterator[Hit]:
    for unit in scene.units:
        control, status = unit.read(FaultEventControl), unit.read(GlobalStatus)
        if control is not None and status is not None and control.im and status.tes:
            text = f"{unit} raises no interrupt on faults (FECTL.IM=1)"
            yield Hit(Severity.NOTE, text, Subject(unit=unit.index))


FAULTS_NOT_SIGNALLED = rule("VTD504", "faults-not-signalled", Severity.NOTE, "faults raise no interrupt")(
    _faults_not_signalled
)


def _queue_error(scene: Scene) -> Iterator[Hit]:
    for unit in scene.units:
        status = unit.read(FaultStatus)
        errors = [] if status is None else [name.upper() for name in ("iqe", "ice", "ite") if getattr(status, name)]
        if errors:
            text = f"invalidations of {unit} have failed (FSTS.{names(errors)}): what it caches may be stale"
            yield Hit(Severity.ERROR, text, Subject(unit=unit.index))


QUEUE_ERROR = rule("VTD505", "invalidation-error", Severity.ERROR, "invalidations have failed")(_queue_error)


def _faults_pending(scene: Scene) -> Iterator[Hit]:
    for unit in scene.units:
        records = unit.report.pending_faults
        if records and unit.told:
            devices = tuple(Device(unit.index, SourceId(source)) for source in sorted({one.sid for one in records}))
            text = f"{count(len(records), 'fault')} of {names(devices)} pending: something was tried and refused"
            yield Hit(Severity.NOTE, text, Subject(devices, unit=unit.index))


FAULTS_PENDING = rule("VTD506", "faults-pending", Severity.NOTE, "a device has tried what it may not")(_faults_pending)
