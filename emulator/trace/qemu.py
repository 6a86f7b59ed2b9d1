"""Events from QEMU's own log of its emulated unit (`-trace 'vtd_*' -D FILE`): what devices did, as the unit saw it.

Each successful translation is an access, each blocked one a fault; invalidation descriptors and register writes are
what software did. An access keeps the guest-physical address that QEMU translated it to. The log does not tell
whether a successful access read or wrote, nor how long it was: it counts as one byte, and as a write only where the
page cannot be read. Source: hw/i386/trace-events of QEMU 7.2 to 11.1; the time stamps are those of `-msg timestamp=on`,
`PID@SECONDS:` before QEMU 10.1 and ISO 8601 since.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

from emulator.trace.event import READ, WRITE, Descriptor, Event, Kind, RegisterWrite
from emulator.trace.framing import QEMU_FRAME, time_ns
from emulator.trace.skipped import SkippedLines
from pagetables.address import SourceId, format_source_id

__all__ = ["QemuReader", "is_wait"]

_HEX = "0x([0-9a-f]{1,16})"
_PAGE = re.compile(rf"IOTLB page (?:hit|update) +sid {_HEX} iova {_HEX} slpte {_HEX} domain {_HEX}", re.ASCII).match
_TRANSLATE = re.compile(
    rf"dev ([0-9a-f]{{2}}):([0-9a-f]{{2}})\.([0-9a-f]{{2}}) iova {_HEX} -> gpa {_HEX} mask {_HEX}", re.ASCII
).match
_FAULT = re.compile(rf"sid {_HEX} fault ([0-9]{{1,3}}) addr {_HEX} write ([01])", re.ASCII).match
_DESCRIPTOR = re.compile(rf"invalidate desc type (\S+) high {_HEX} low {_HEX}", re.ASCII).match
_WRITE = re.compile(rf"addr {_HEX} size {_HEX} value {_HEX}", re.ASCII).match
_RIGHTS = READ | WRITE
_WAIT = 5
_NO_FORM = "the text is not what any known QEMU prints"
_NOT_AN_EVENT = "not a vtd_* event of QEMU"


class _Page(NamedTuple):
    source: int
    iova: int
    entry: int


Fields = tuple[Any, ...]


def is_wait(descriptor: Descriptor) -> bool:
    """True for an invalidation wait descriptor: software adds these on its own, and Linux traces none."""
    return descriptor.words[0] & 0xF == _WAIT


class QemuReader:
    """Reads the lines of one file; `skipped` gathers what cannot be used, events that tell nothing of DMA are left out.

    `timed` says whether the lines carry time stamps; without them every event happens at 0, in order.
    """

    def __init__(self, name: str, index: int, skipped: SkippedLines) -> None:
        self.name = name
        self.index = index
        self.skipped = skipped
        self.timed = False
        self._page = _Page(-1, 0, 0)
        self._parsers: dict[str, Callable[[str], Fields | None]] = {
            "vtd_iotlb_page_hit": self._note_page,
            "vtd_iotlb_page_update": self._note_page,
            "vtd_dmar_translate": self._access,
            "vtd_dmar_fault": _fault,
            "vtd_inv_desc": _descriptor,
            "vtd_reg_write": _register_write,
        }

    def events(self, pieces: Iterable[bytes]) -> Iterator[Event]:
        """Accesses, faults, descriptors (Kind.QI_SUBMIT) and register writes, in the order of the lines."""
        number = 0
        for piece in pieces:
            lines = piece.decode("utf-8", "replace").removesuffix("\n").split("\n")
            for line in lines:
                number += 1
                frame = QEMU_FRAME.match(line)
                if frame is None:
                    if line.strip():
                        self.skipped.add(self.name, number, _NOT_AN_EVENT)
                    continue
                parse = self._parsers.get(frame[5])
                fields = () if parse is None else parse(frame[6])
                if fields:
                    yield Event(self.index, number, self._time(frame), 0, 0, "", *fields)
                elif fields is None:
                    self.skipped.add(self.name, number, f"{frame[5]}: {_NO_FORM}")
                    yield Event(self.index, number, self._time(frame), 0, 0, "", Kind.OTHER)

    def _time(self, frame: re.Match[str]) -> int:
        seconds, fraction, date, rest = frame.group(1, 2, 3, 4)
        if seconds is not None:
            self.timed = True
            return time_ns(seconds, fraction, "")
        if date is not None:
            self.timed = True
            return time_ns(_since_1970(date), rest, "")
        return 0

    def _note_page(self, text: str) -> Fields | None:
        found = _PAGE(text)
        if found is None:
            return None
        self._page = _Page(int(found[1], 16), int(found[2], 16), int(found[3], 16))
        return ()

    def _access(self, text: str) -> Fields | None:
        found = _TRANSLATE(text)
        if found is None:
            return None
        bus, slot, function, iova, gpa, mask = (int(number, 16) for number in found.groups())
        source, inside, access = bus << 8 | (slot & 31) << 3 | function & 7, 0, 0
        page, self._page = self._page, _Page(-1, 0, 0)
        if page.source == source and page.iova & ~mask == iova & ~mask:
            inside = page.iova & mask
            access = WRITE if page.entry & _RIGHTS == WRITE else 0
        return (Kind.ACCESS, _device(source), None, iova | inside, gpa | inside, 1, access, None, 0, None)


def _fault(text: str) -> Fields | None:
    found = _FAULT(text)
    if found is None:
        return None
    access = WRITE if found[4] == "1" else READ
    device = _device(int(found[1], 16) & 0xFFFF)
    return (Kind.FAULT, device, None, int(found[3], 16), 0, 1, access, None, 0, int(found[2]))


def _descriptor(text: str) -> Fields | None:
    found = _DESCRIPTOR(text)
    if found is None:
        return None
    words = (int(found[3], 16), int(found[2], 16), 0, 0)
    return (Kind.QI_SUBMIT, None, None, 0, 0, 0, 0, None, 0, Descriptor("", words))


def _register_write(text: str) -> Fields | None:
    found = _WRITE(text)
    if found is None:
        return None
    detail = RegisterWrite(int(found[1], 16), int(found[2], 16), int(found[3], 16))
    return (Kind.REGISTER_WRITE, None, None, 0, 0, 0, 0, None, 0, detail)


@lru_cache(maxsize=1024)
def _device(source: int) -> str:
    return f"0000:{format_source_id(SourceId(source))}"


@lru_cache(maxsize=16)
def _since_1970(date: str) -> str:
    try:
        return str(max(int(datetime.fromisoformat(f"{date}+00:00").timestamp()), 0))
    except ValueError:
        return "0"
