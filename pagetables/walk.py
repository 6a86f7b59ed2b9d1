"""One address, step by step: second-stage, first-stage, nested and pass-through walks.

Permissions of all levels are ANDed and judged at the end, so an error in a deeper entry wins over a permission that a
higher one withheld. In each entry: readable, present, reserved bits, accessed flag. A fault names the last entry that
the deciding stage read (`at`, `level`); a check of an address alone names none.

A walk that does not update (`update=False`) ends as the hardware's would, but writes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from pagetables.address import Gpa, level_shift
from pagetables.bits import Word
from pagetables.capabilities import Capabilities
from pagetables.fault import Fault, FaultReason
from pagetables.formats import Format, Kind, formats, rules
from pagetables.layouts.second_stage import SsPte
from pagetables.memory import Memory, WritableMemory
from pagetables.request import Access, Permissions, Request, Translation
from pagetables.source import Source, TranslationType
from pagetables.step import Step
from pagetables.table_caches import KnownTable, TableCaches

__all__ = ["INTERRUPT_RANGE", "Step", "Walk", "meets_interrupt_range", "walk"]

INTERRUPT_RANGE = (0xFEE0_0000, 0xFEF0_0000)  # start, end: no DMA may reach these addresses
EVERYTHING = Permissions.R | Permissions.W | Permissions.X | Permissions.USER
_FIRST, _SECOND = TranslationType.FIRST_STAGE, TranslationType.SECOND_STAGE
_ALWAYS_PRESENT = SsPte.r.mask | SsPte.w.mask  # a second-stage entry with one of these


@dataclass(frozen=True, slots=True)
class Walk:
    """Where an address leads, or why it leads nowhere, and every paging entry read on the way."""

    outcome: Translation | Fault
    steps: tuple[Step, ...] = ()


def walk(
    memory: Memory,
    source: Source,
    request: Request,
    capabilities: Capabilities,
    update: bool = False,
    caches: TableCaches | None = None,
) -> Walk:
    """The tables' answer to `request`. With `update`, accessed and dirty bits are set in `memory`, which must be
    writable. With `caches` it starts below what they know, and those entries are no steps."""
    walker = _Walker(memory, source, request, capabilities, update, caches)
    return Walk(walker.answer(), tuple(walker.steps))


def meets_interrupt_range(gpa: int, page_shift: int) -> bool:
    """True if any byte of the page that holds `gpa` lies in FEE00000h-FEEFFFFFh."""
    start = gpa >> page_shift << page_shift
    return start < INTERRUPT_RANGE[1] and start + (1 << page_shift) > INTERRUPT_RANGE[0]


@dataclass(frozen=True, slots=True)
class _Reasons:
    # What legacy and scalable mode call the same things in a second-stage walk.
    too_large: FaultReason  # input of a second-stage walk
    beyond_haw: FaultReason  # input of a pass-through
    root_access: FaultReason
    entry_access: FaultReason
    reserved: FaultReason
    write: FaultReason
    read: FaultReason
    interrupt: FaultReason


_LEGACY = _Reasons(
    FaultReason.ADDRESS_BEYOND_WIDTH,
    FaultReason.ADDRESS_BEYOND_WIDTH,
    FaultReason.CONTEXT_INVALID,  # SSPTPTR that leads nowhere is a context entry programmed wrongly
    FaultReason.SS_ENTRY_ACCESS,
    FaultReason.SS_ENTRY_RESERVED,
    FaultReason.WRITE_DENIED,
    FaultReason.READ_DENIED,
    FaultReason.OUTPUT_IN_INTERRUPT_RANGE,
)
_SCALABLE = _Reasons(
    FaultReason.SM_ADDRESS_BEYOND_WIDTH,
    FaultReason.SM_ADDRESS_BEYOND_HAW,
    FaultReason.SM_SS_ROOT_ACCESS,
    FaultReason.SM_SS_ENTRY_ACCESS,
    FaultReason.SM_SS_RESERVED,
    FaultReason.SM_WRITE_DENIED,
    FaultReason.SM_READ_DENIED,
    FaultReason.SM_OUTPUT_IN_INTERRUPT_RANGE,
)


@dataclass(slots=True)
class _Leaf:
    # Where one stage led: the address with its offset, the page, the rights, and the entry that decided.
    gpa: int
    shift: int
    permissions: Permissions
    at: int
    level: int
    entry: int


class _Walker:
    def __init__(
        self,
        memory: Memory,
        source: Source,
        request: Request,
        capabilities: Capabilities,
        update: bool,
        caches: TableCaches | None,
    ) -> None:
        self.steps: list[Step] = []
        self._memory = memory
        self._writer = cast(WritableMemory, memory) if update else None
        self._caches = caches
        self._source = source
        self._request = request
        self._nested = source.translation is TranslationType.NESTED
        executes = source.ss_execute and request.access is Access.EXECUTE
        self._second, self._first = formats(capabilities, nested=self._nested, execute=executes)
        self._rules = rules(capabilities, source)
        self._reasons = _LEGACY if source.legacy else _SCALABLE
        self._privileged = request.privileged or source.privileged
        # Accessed and dirty bits may only be written by a walk that snoops.
        self._snooped = source.walk_snoop and bool(capabilities.ecap.smpwcs)

    def answer(self) -> Translation | Fault:
        leaf = self._walk_stages()
        if isinstance(leaf, Fault):
            return leaf
        if meets_interrupt_range(leaf.gpa, leaf.shift):
            return self._fault(self._reasons.interrupt, leaf.at, leaf.level)
        return Translation(Gpa(leaf.gpa), leaf.shift, leaf.permissions)

    def _walk_stages(self) -> _Leaf | Fault:
        translation = self._source.translation
        if translation is TranslationType.PASS_THROUGH:
            return self._pass_through()
        if translation is TranslationType.SECOND_STAGE:
            return self._judged_second_stage(self._request.iova)
        first = self._judged_first_stage()
        if isinstance(first, Fault) or not self._nested:
            return first
        second = self._judged_second_stage(first.gpa)
        if isinstance(second, Fault):
            return second
        second.shift = min(first.shift, second.shift)
        second.permissions = (second.permissions | Permissions.USER) & first.permissions  # it knows no users
        return second

    def _fault(self, reason: FaultReason, at: int = 0, level: int = 0) -> Fault:
        disabled = self._source.fault_processing_disabled
        return Fault(reason, self._request, at if level else None, level, disabled=disabled)

    def _pass_through(self) -> _Leaf | Fault:
        if self._request.iova >= self._rules.address_limit:
            return self._fault(self._reasons.beyond_haw)
        return _Leaf(self._request.iova, 12, Permissions.R | Permissions.W | Permissions.X, 0, 0, 0)

    # Second stage

    def _judged_second_stage(self, address: int) -> _Leaf | Fault:
        # A whole second-stage walk for the request itself: width, tables, rights, dirty flag.
        if address >= self._rules.ss_input_limit:
            return self._fault(self._reasons.too_large)
        leaf = self._walk_second_stage(address)
        if isinstance(leaf, Fault):
            return leaf
        access = self._request.access
        denied = self._denied_by_second_stage(leaf.permissions, access)
        if denied is not None:
            return self._fault(denied, leaf.at, leaf.level)
        fault = self._mark_second(leaf, self._second.dirty) if access.writes else None
        return leaf if fault is None else fault

    def _walk_second_stage(self, address: int, note: str = "") -> _Leaf | Fault:
        # Tables only: rights are accumulated, not judged, since a nested walk judges them by codes of its own.
        source, form = self._source, self._second
        granted = EVERYTHING & ~Permissions.USER
        level, table, granted = self._start(_SECOND, address, source.ss_levels, source.ss_table, granted)
        while True:  # an entry of level 1 is empty or a leaf
            at = _entry_address(table, address, level)
            entry = self._memory.load(at)
            if entry is None:
                top = level == source.ss_levels
                return self._fault(self._reasons.root_access if top else self._reasons.entry_access, at, level)
            kind = form.kind(entry, level)
            permissions = form.permissions(entry)
            self._step(form, entry, kind, at, address, level, note or _withheld(granted, permissions, self._request))
            if kind is Kind.EMPTY:
                return self._fault(self._not_present(), at, level)
            if entry & form.reserved(level, kind):
                return self._fault(self._reasons.reserved, at, level)
            granted &= permissions
            leaf = _Leaf(0, level_shift(level), granted, at, level, entry)
            fault = self._mark_second(leaf, form.accessed)
            if fault is not None:
                return fault
            if kind is Kind.LEAF:
                leaf.gpa = form.output(entry, level) | address & (1 << leaf.shift) - 1
                leaf.permissions = self._with_execute(granted)
                return leaf
            table = form.table(entry)
            if entry & _ALWAYS_PRESENT:  # X alone is present to some requests only
                self._keep(_SECOND, address, level, table, granted)
            level -= 1

    def _start(
        self, stage: TranslationType, address: int, levels: int, root: Gpa, granted: Permissions
    ) -> tuple[int, Gpa, Permissions]:
        known = self._caches.find(stage, address, levels) if self._caches is not None else None
        return (levels, root, granted) if known is None else (known.level - 1, known.table, known.permissions)

    def _keep(self, stage: TranslationType, address: int, level: int, table: Gpa, granted: Permissions) -> None:
        if self._caches is not None:
            self._caches.keep(stage, address, KnownTable(level, table, granted))

    def _with_execute(self, granted: Permissions) -> Permissions:
        # Without SSEE the X bits are ignored, and to execute takes what to read takes.
        if self._source.ss_execute:
            return granted
        return granted | Permissions.X if granted & Permissions.R else granted & ~Permissions.X

    def _not_present(self) -> FaultReason:
        if not self._source.legacy:
            return FaultReason.SM_SS_NOT_PRESENT
        return self._reasons.write if self._request.access.writes else self._reasons.read

    def _denied_by_second_stage(self, granted: Permissions, access: Access) -> FaultReason | None:
        missing = access.needs & ~granted
        if not self._source.legacy and not granted & self._usable():
            return FaultReason.SM_SS_NOT_PRESENT
        if missing & Permissions.W:
            return self._reasons.write
        if missing & Permissions.X and self._source.ss_execute:
            return FaultReason.EXECUTE_DENIED
        return self._reasons.read if missing else None

    def _usable(self) -> Permissions:
        # What makes a page present after all levels: R or W, or X where it counts for this request.
        executes = self._source.ss_execute and self._request.access is Access.EXECUTE
        return Permissions.R | Permissions.W | (Permissions.X if executes else Permissions.NONE)

    def _mark_second(self, leaf: _Leaf, bits: int) -> Fault | None:
        if not self._source.ss_accessed_dirty or leaf.entry & bits == bits:
            return None
        if not self._snooped:
            return self._fault(FaultReason.SS_UPDATE_NOT_SNOOPED, leaf.at, leaf.level)
        leaf.entry |= bits
        if not self._store(leaf.at, leaf.entry):
            return self._fault(FaultReason.SS_UPDATE_FAILED, leaf.at, leaf.level)
        return None

    # First stage

    def _judged_first_stage(self) -> _Leaf | Fault:
        width = level_shift(self._source.fs_levels + 1)
        sign = self._request.iova >> width - 1
        if sign not in (0, (1 << 65 - width) - 1):
            return self._fault(FaultReason.NOT_CANONICAL)
        found = self._walk_first_stage()
        if isinstance(found, Fault):
            return found
        leaf, host = found
        denied = self._denied_by_first_stage(leaf.permissions)
        if denied is not None:
            return self._fault(denied, leaf.at, leaf.level)
        fault = self._mark_first(leaf, host, self._first.dirty) if self._request.access.writes else None
        return leaf if fault is None else fault

    def _walk_first_stage(self) -> tuple[_Leaf, _Leaf | None] | Fault:
        # The leaf, and (nested) where the second stage put the table that holds it.
        source, form, address = self._source, self._first, self._request.iova
        marks = form.accessed | (form.extended_accessed if source.extended_accessed else 0)
        level, table, granted = self._start(_FIRST, address, source.fs_levels, source.fs_table, EVERYTHING)
        host: _Leaf | None = None
        while True:  # an entry of level 1 is empty or a leaf
            if self._nested:
                found = self._table_through_second_stage(table, level)
                if isinstance(found, Fault):
                    return found
                host, table = found, Gpa(found.gpa)
            at = _entry_address(table, address, level)
            entry = self._memory.load(at)
            if entry is None:
                top = level == source.fs_levels
                return self._fault(FaultReason.FS_ROOT_ACCESS if top else FaultReason.FS_ENTRY_ACCESS, at, level)
            kind = form.kind(entry, level)
            permissions = form.permissions(entry)
            self._step(form, entry, kind, at, address, level, _withheld(granted, permissions, self._request))
            if kind is Kind.EMPTY:
                return self._fault(FaultReason.FS_NOT_PRESENT, at, level)
            if entry & form.reserved(level, kind):
                return self._fault(FaultReason.FS_RESERVED, at, level)
            granted &= permissions
            leaf = _Leaf(0, level_shift(level), granted, at, level, entry)
            fault = self._mark_first(leaf, host, marks)
            if fault is not None:
                return fault
            if kind is Kind.LEAF:
                leaf.gpa = form.output(entry, level) | address & (1 << leaf.shift) - 1
                leaf.permissions = self._effective(granted)
                return leaf, host
            table = form.table(entry)
            self._keep(_FIRST, address, level, table, granted)
            level -= 1

    def _table_through_second_stage(self, table: int, level: int) -> _Leaf | Fault:
        if table >= self._rules.ss_input_limit:
            return self._fault(FaultReason.FS_TABLE_BEYOND_WIDTH)
        leaf = self._walk_second_stage(table, f"of the first-stage table of level {level}")
        if isinstance(leaf, Fault):
            return leaf
        if not leaf.permissions & self._usable():
            return self._fault(FaultReason.SM_SS_NOT_PRESENT, leaf.at, leaf.level)
        if not leaf.permissions & Permissions.R:
            top = level == self._source.fs_levels
            reason = FaultReason.FS_ROOT_READ_DENIED if top else FaultReason.FS_TABLE_READ_DENIED
            return self._fault(reason, leaf.at, leaf.level)
        return leaf

    def _effective(self, granted: Permissions) -> Permissions:
        # What the entries grant, as the source's switches and the request's privilege see it.
        source, supervisor = self._source, self._privileged
        if supervisor and not source.write_protect:
            granted |= Permissions.W
        if not source.no_execute:
            granted |= Permissions.X
        if supervisor and source.supervisor_execute_prevention and granted & Permissions.USER:
            granted &= ~Permissions.X
        return granted

    def _denied_by_first_stage(self, granted: Permissions) -> FaultReason | None:
        missing = self._request.access.needs & ~granted
        if not self._privileged and not granted & Permissions.USER:
            return FaultReason.USER_DENIED
        if missing & Permissions.X:
            return FaultReason.EXECUTE_DENIED
        return FaultReason.SM_WRITE_DENIED if missing & Permissions.W else None

    def _mark_first(self, leaf: _Leaf, host: _Leaf | None, bits: int) -> Fault | None:
        if leaf.entry & bits == bits:
            return None
        if host is not None and not host.permissions & Permissions.W:
            return self._fault(FaultReason.FS_UPDATE_DENIED, host.at, host.level)
        if not self._snooped:
            return self._fault(FaultReason.FS_UPDATE_NOT_SNOOPED, leaf.at, leaf.level)
        fault = self._mark_second(host, self._second.dirty) if host is not None else None
        if fault is not None:
            return fault
        leaf.entry |= bits
        if not self._store(leaf.at, leaf.entry):
            return self._fault(FaultReason.FS_UPDATE_FAILED, leaf.at, leaf.level)
        return None

    # What both stages do

    def _store(self, at: int, entry: int) -> bool:
        return self._writer is None or self._writer.store(at, entry)

    def _step(self, form: Format, entry: int, kind: Kind, at: int, address: int, level: int, note: str) -> None:
        layout: type[Word] = form.layout(level, kind)
        index = address >> level_shift(level) & 511
        self.steps.append(Step(layout.name.replace("_", "-"), index, Gpa(at), entry, layout, level, note))


def _entry_address(table: int, address: int, level: int) -> int:
    return table + 8 * (address >> level_shift(level) & 511)


def _withheld(before: Permissions, permissions: Permissions, request: Request) -> str:
    lost = before & ~permissions & (Permissions.R | Permissions.W)
    return f"withholds {lost.text()}" if lost & request.access.needs else ""
