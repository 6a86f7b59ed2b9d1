"""What a kernel log says of remapping units: their capability words, and every generation of DMAR fault line.

Linux's wording changed four times (drivers/iommu/intel/dmar.c, dmar_fault_do_one): the reason is decimal in the two
oldest forms and hexadecimal once it carries 0x; addresses are hexadecimal always; the oldest form spreads over two
lines. The kernel prints at most ten faults in five seconds, so faults that never reached the log are normal.

Numbers are read as far as the kernel can print them: a longer one is no line of the kernel's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from pagetables.address import PAGE_SHIFT, Iova, Pasid, SourceId, parse_source_id
from pagetables.errors import InputError
from pagetables.layouts.registers import FaultRecord
from pagetables.request import Access

__all__ = [
    "BURST",
    "BURST_SECONDS",
    "FaultLine",
    "KernelLog",
    "Storm",
    "UnitLine",
    "fault_of_record",
    "parse_fault_line",
    "read_kernel_log",
    "storms",
]

BURST, BURST_SECONDS = 10, 5.0  # what the kernel prints at most, faults and status lines each
NEIGHBOURHOOD = 1 << 21  # bytes: what one table of leaves spans
INTERRUPT_REASONS = range(0x20, 0x30)
_TIME = re.compile(r"\s*(?:<[0-9]{1,3}>)?\[\s*([0-9]{1,12})\.([0-9]{1,9})\]")
_TELLING = r"\[fault reason (?P<reason>0x[0-9a-f]{1,2}|[0-9]{1,3})\]\s*(?P<text>.*)"
_FAULT = re.compile(
    r"\[(?P<kind>DMA Read|DMA Write|INTR-REMAP|PAGE REQUEST)(?: (?P<pasid_new>NO_PASID|PASID 0x[0-9a-f]{1,8}))?\]\s*"
    r"Request device \[(?P<device>[0-9a-fx:.]{1,24})\]"
    r"(?: PASID (?P<pasid_old>[0-9a-f]{1,8}))?"
    r" fault (?P<what>addr|index) (?:0x)?(?P<value>[0-9a-f]{1,16})(?![0-9a-fx])"
    rf"(?:\s*{_TELLING})?",
    re.IGNORECASE | re.ASCII,
)
_REASON = re.compile(_TELLING, re.IGNORECASE | re.ASCII)
_UNIT = re.compile(
    r"(?P<name>dmar[0-9]{1,5}): reg_base_addr (?P<base>[0-9a-f]{1,16}) ver (?P<version>[0-9a-f]{1,2}:[0-9a-f]{1,2}) "
    r"cap (?P<cap>[0-9a-f]{1,16}) ecap (?P<ecap>[0-9a-f]{1,16})(?![0-9a-f])",
    re.IGNORECASE | re.ASCII,
)
_WIDTH = re.compile(r"DMAR: Host address width ([0-9]{1,3})(?![0-9])")
_STATUS = re.compile(r"handling fault status reg ([0-9a-f]{1,8})(?![0-9a-f])")
_LOST = re.compile(r"(?:dmar_fault|fault_do_one)[^:]*: ([0-9]{1,10}) callbacks suppressed")

_MOST_PASID = (1 << 20) - 1
FSTS_PPF = 2
_ACCESSES = {0: Access.WRITE, 2: Access.READ, 3: Access.ATOMIC}  # T1 T2; 01 is a page request


@dataclass(frozen=True, slots=True)
class FaultLine:
    """One fault as the kernel printed it. `address` is the faulting IOVA; for interrupt faults `index` is set instead.

    `time` is in seconds since boot (None without a time stamp), `line` counts from 1.
    """

    source_id: SourceId
    access: Access | None  # None for interrupt faults
    reason: int | None  # None where the second line of the oldest form is missing
    address: Iova | None = None
    index: int | None = None
    pasid: Pasid | None = None
    text: str = ""
    time: float | None = None
    line: int = 0
    raw: str = ""


@dataclass(frozen=True, slots=True)
class UnitLine:
    """A unit as the kernel found it: everything that is needed to configure an emulated one."""

    name: str
    base: int
    version: str
    cap: int
    ecap: int


@dataclass(slots=True)
class KernelLog:
    """What a kernel log holds: faults in order, units, the platform's host address width (bits), fault status.

    `silent` are the numbers of the lines that announce faults of which none was printed; `suppressed` counts the lines
    that the kernel says it left out; `lines` counts all.
    """

    faults: list[FaultLine] = field(default_factory=list)
    units: list[UnitLine] = field(default_factory=list)
    host_address_width: int | None = None
    statuses: list[int] = field(default_factory=list)
    silent: list[int] = field(default_factory=list)
    suppressed: int = 0
    lines: int = 0

    @property
    def is_limited(self) -> bool:
        """True if the kernel's limit of ten faults in five seconds was reached: there were more than it printed."""
        times = [fault.time for fault in self.faults if fault.time is not None]
        bursts = zip(times, times[BURST - 1 :], strict=False)
        return bool(self.suppressed) or any(0 <= last - first < BURST_SECONDS for first, last in bursts)


@dataclass(frozen=True, slots=True)
class Storm:
    """Faults of one requester, for one reason, at addresses near each other; in the order of the log, at least one."""

    faults: tuple[FaultLine, ...]

    @property
    def first(self) -> FaultLine:
        """The fault that came first."""
        return self.faults[0]

    @property
    def times(self) -> tuple[float, float] | None:
        """Seconds since boot of the first and the last, None where the log has no time stamps."""
        times = [fault.time for fault in self.faults if fault.time is not None]
        return (min(times), max(times)) if times else None

    @property
    def addresses(self) -> tuple[Iova, ...]:
        """The addresses, ascending, each once; nothing for interrupt faults."""
        return tuple(sorted({fault.address for fault in self.faults if fault.address is not None}))


def parse_fault_line(text: str) -> FaultLine:
    """The fault in one line, of any generation; InputError if there is none."""
    found = _fault(text, 1)
    if found is None:
        raise InputError(
            f"no DMAR fault in {text.strip()[:80]!r}: expected such as "
            "'DMAR: [DMA Write NO_PASID] Request device [00:05.0] fault addr 0xabcde000 [fault reason 0x05] ...'"
        )
    return found


def read_kernel_log(lines: Iterable[str]) -> KernelLog:
    """Everything of interest in a kernel log (dmesg, journal, console); lines of others are passed over."""
    log = KernelLog()
    announced: int | None = None
    for number, text in enumerate(lines, 1):
        log.lines = number
        if fault := _fault(text, number):
            log.faults.append(fault)
            announced = None
        elif status := _STATUS.search(text):
            log.statuses.append(int(status[1], 16))
            if announced is not None:
                log.silent.append(announced)
            announced = number if log.statuses[-1] & FSTS_PPF else None
        else:
            _note(log, text)
    if announced is not None:
        log.silent.append(announced)
    return log


def _note(log: KernelLog, text: str) -> None:
    if (reason := _REASON.search(text)) and log.faults and log.faults[-1].reason is None:
        # The oldest form: the reason stands on the next line.
        log.faults[-1] = replace(log.faults[-1], reason=_reason(reason["reason"]), text=reason["text"].strip())
    elif unit := _UNIT.search(text):
        base, cap, ecap = (int(unit[name], 16) for name in ("base", "cap", "ecap"))
        log.units.append(UnitLine(unit["name"], base, unit["version"], cap, ecap))
    elif width := _WIDTH.search(text):
        log.host_address_width = int(width[1])
    elif lost := _LOST.search(text):
        log.suppressed += int(lost[1])


def storms(faults: Iterable[FaultLine]) -> Iterator[Storm]:
    """Groups by requester, reason, access and neighbourhood of the address, in the order in which each group began.

    Addresses are near each other if no step between them is longer than 2 MiB.
    """
    groups: dict[tuple[int | None, ...], list[FaultLine]] = {}
    for fault in faults:
        access = None if fault.access is None else int(fault.access.writes)
        groups.setdefault((fault.source_id, fault.pasid, fault.reason, access, fault.index), []).append(fault)
    found = [Storm(part) for group in groups.values() for part in _neighbours(group)]
    order = {id(fault): place for place, fault in enumerate(fault for group in groups.values() for fault in group)}
    yield from sorted(found, key=lambda storm: (storm.first.line, order[id(storm.first)]))


def _neighbours(group: list[FaultLine]) -> Iterator[tuple[FaultLine, ...]]:
    ordered = sorted(range(len(group)), key=lambda place: (group[place].address or 0, place))
    part: list[int] = []
    for place in ordered:
        if part and (group[place].address or 0) - (group[part[-1]].address or 0) > NEIGHBOURHOOD:
            yield tuple(group[one] for one in sorted(part))
            part = []
        part.append(place)
    yield tuple(group[one] for one in sorted(part))


def fault_of_record(record: FaultRecord) -> FaultLine:
    """A fault recording register as the line that the kernel would print of it, without a time.

    PASID means something only with PP=1 (QEMU 7.2 leaves ones there).
    """
    pasid = Pasid(record.pv) if record.pp else None
    if record.fr in INTERRUPT_REASONS:
        return FaultLine(SourceId(record.sid), None, record.fr, index=record.fi >> 48 - PAGE_SHIFT, pasid=pasid)
    access = _ACCESSES.get(record.t1 << 1 | record.t2, Access.READ)
    return FaultLine(SourceId(record.sid), access, record.fr, Iova(record.fi << PAGE_SHIFT), pasid=pasid)


def _fault(text: str, number: int) -> FaultLine | None:
    match = _FAULT.search(text)
    if match is None:
        return None
    try:
        source = parse_source_id(match["device"].lower().replace("0x", ""))
    except InputError:  # no kernel names such a device
        return None
    stamp = _TIME.match(text)
    value = int(match["value"], 16)
    by_index = match["what"].lower() == "index"
    return FaultLine(
        source_id=source,
        access=None if by_index else Access.READ if match["kind"].lower().endswith("read") else Access.WRITE,
        reason=_reason(match["reason"]) if match["reason"] else None,
        address=None if by_index else Iova(value),
        index=value if by_index else None,
        pasid=_pasid(match["pasid_new"], match["pasid_old"]),
        text=(match["text"] or "").strip(),
        time=float(f"{stamp[1]}.{stamp[2]}") if stamp else None,
        line=number,
        raw=text.rstrip("\n"),
    )


def _reason(text: str) -> int:
    # Two decimal digits before Linux 5.14; values such as 37 (0x25) prove it.
    return int(text, 16) if text.lower().startswith("0x") else int(text)


def _pasid(new: str | None, old: str | None) -> Pasid | None:
    text = old if new is None else new.upper().removeprefix("PASID ")
    if text is None or text == "NO_PASID" or int(text, 16) > _MOST_PASID:  # ffffffff was how "none" was spelt
        return None
    return Pasid(int(text, 16))
