"""What a kernel log says of remapping units: their capability words, and every generation of DMAR fault line.

Linux's wording changed four times (drivers/iommu/intel/dmar.c, dmar_fault_do_one): the reason is decimal in the two
oldest forms and hexadecimal once it carries 0x; addresses are hexadecimal always; the oldest form spreads over two
lines. The kernel prints at most ten faults in five seconds, so faults that never reached the log are normal.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from pagetables.address import Iova, Pasid, SourceId, parse_source_id
from pagetables.errors import InputError
from pagetables.request import Access

__all__ = ["FaultLine", "KernelLog", "UnitLine", "parse_fault_line", "read_kernel_log", "storms"]

_TIME = re.compile(r"^\s*(?:<\d+>)?\[\s*(\d+)\.(\d{1,9})\]")
_FAULT = re.compile(
    r"\[(?P<kind>DMA Read|DMA Write|INTR-REMAP|PAGE REQUEST)(?: (?P<pasid_new>NO_PASID|PASID 0x[0-9a-f]+))?\]\s*"
    r"Request device \[(?P<device>[0-9a-fx:.]+)\]"
    r"(?: PASID (?P<pasid_old>[0-9a-f]+))?"
    r" fault (?P<what>addr|index) (?P<value>(?:0x)?[0-9a-f]+)"
    r"(?:\s*\[fault reason (?P<reason>(?:0x)?[0-9a-f]+)\]\s*(?P<text>.*))?",
    re.IGNORECASE,
)
_REASON = re.compile(r"\[fault reason (?P<reason>(?:0x)?[0-9a-f]+)\]\s*(?P<text>.*)", re.IGNORECASE)
_UNIT = re.compile(
    r"(?P<name>dmar\d+): reg_base_addr (?P<base>[0-9a-f]+) ver (?P<version>\d+:\d+) "
    r"cap (?P<cap>[0-9a-f]+) ecap (?P<ecap>[0-9a-f]+)",
    re.IGNORECASE,
)
_WIDTH = re.compile(r"DMAR: Host address width (\d+)")
_STATUS = re.compile(r"handling fault status reg ([0-9a-f]+)")
_LOST = re.compile(r"(dmar_fault|fault_do_one).*callbacks suppressed|(\d+) callbacks suppressed")

_NO_PASID = 0xFFFF_FFFF


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
    """What a kernel log holds: faults in order, units, the platform's host address width (bits), fault status."""

    faults: list[FaultLine] = field(default_factory=list)
    units: list[UnitLine] = field(default_factory=list)
    host_address_width: int | None = None
    statuses: list[int] = field(default_factory=list)
    suppressed: int = 0


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
    for number, text in enumerate(lines, 1):
        if fault := _fault(text, number):
            log.faults.append(fault)
        elif (reason := _REASON.search(text)) and log.faults and log.faults[-1].reason is None:
            # The oldest form: the reason stands on the next line.
            log.faults[-1] = replace(log.faults[-1], reason=_reason(reason["reason"]), text=reason["text"].strip())
        elif unit := _UNIT.search(text):
            log.units.append(
                UnitLine(
                    unit["name"], int(unit["base"], 16), unit["version"], int(unit["cap"], 16), int(unit["ecap"], 16)
                )
            )
        elif width := _WIDTH.search(text):
            log.host_address_width = int(width[1])
        elif status := _STATUS.search(text):
            log.statuses.append(int(status[1], 16))
        elif lost := _LOST.search(text):
            log.suppressed += int(lost[2] or 0)
    return log


def storms(faults: Iterable[FaultLine]) -> Iterator[list[FaultLine]]:
    """Groups of faults by the same requester, for the same reason, in the order in which each group began."""
    groups: dict[tuple[int, int | None, int | None], list[FaultLine]] = {}
    for fault in faults:
        groups.setdefault((fault.source_id, fault.pasid, fault.reason), []).append(fault)
    yield from groups.values()


def _fault(text: str, number: int) -> FaultLine | None:
    match = _FAULT.search(text)
    if match is None:
        return None
    stamp = _TIME.match(text)
    value = int(match["value"], 16)
    by_index = match["what"] == "index"
    return FaultLine(
        source_id=parse_source_id(match["device"].replace("0x", "")),
        access=None if by_index else Access.READ if match["kind"].endswith("Read") else Access.WRITE,
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
    if new is not None and new != "NO_PASID":
        return Pasid(int(new.removeprefix("PASID "), 16))
    if old is not None and int(old, 16) != _NO_PASID:
        return Pasid(int(old, 16))
    return None
