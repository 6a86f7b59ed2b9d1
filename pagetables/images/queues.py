"""The queues of a unit as an image holds them: invalidation descriptors and page requests, with head and tail."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from pagetables.address import PAGE_SHIFT, PAGE_SIZE, Gpa
from pagetables.bits import Word
from pagetables.errors import NoMemory
from pagetables.images.registers import RegisterPage
from pagetables.layouts.descriptors import (
    ContextCacheInvalidate,
    DeviceTlbInvalidate,
    InterruptEntryInvalidate,
    InvalidationWait,
    IotlbInvalidate,
    PageGroupResponse,
    PasidCacheInvalidate,
    PasidDeviceTlbInvalidate,
    PasidIotlbInvalidate,
)
from pagetables.layouts.page_request import PageRequestDescriptor
from pagetables.layouts.registers import (
    ExtendedCapability,
    InvalidationQueueHead,
    InvalidationQueueTail,
    PageRequestQueueAddress,
    PageRequestQueueHead,
    PageRequestQueueTail,
    PageRequestStatus,
)
from pagetables.memory import Memory

__all__ = ["Queue", "Slot", "invalidation_queue", "page_request_queue"]

NARROW, WIDE = 16, 32  # bytes of a descriptor
ENOUGH = 2  # descriptors in even places, and none in odd ones, tell that slots have 32 bytes
_Reader = Callable[[int, int], Word | None]
_KINDS: dict[int, type[Word]] = {
    1: ContextCacheInvalidate,
    2: IotlbInvalidate,
    3: DeviceTlbInvalidate,
    4: InterruptEntryInvalidate,
    5: InvalidationWait,
    6: PasidIotlbInvalidate,
    7: PasidCacheInvalidate,
    8: PasidDeviceTlbInvalidate,
    9: PageGroupResponse,
}


@dataclass(frozen=True, slots=True)
class Slot:
    """A slot that was ever written. `word` is the descriptor, None where its type is unknown or needs a wider slot.

    `is_pending` says that the queue's reader has not reached it; others were read, or left from an earlier lap.
    """

    index: int
    at: Gpa
    raw: int
    word: Word | None
    is_pending: bool

    @property
    def name(self) -> str:
        """What the descriptor is called: `inv-iotlb`."""
        return f"unknown type {_type(self.raw):#x}" if self.word is None else self.word.name.replace("_", "-")

    @property
    def reserved_bits(self) -> int:
        """Reserved bits that are set."""
        return 0 if self.word is None else self.raw & self.word.reserved_mask


@dataclass(frozen=True, slots=True)
class Queue:
    """A ring in memory. `head` and `tail` are slots: where the reader and the writer go on; equal if it is empty."""

    address: Gpa
    size: int
    slot_size: int
    head: int
    tail: int
    is_enabled: bool
    slots: tuple[Slot, ...]
    missing: tuple[int, ...] = ()  # pages of it that are outside memory
    note: str = ""

    @property
    def length(self) -> int:
        """How many slots there are."""
        return self.size // self.slot_size

    @property
    def pending(self) -> int:
        """How many slots wait for the reader."""
        return (self.tail - self.head) % self.length


def invalidation_queue(memory: Memory, registers: RegisterPage) -> Queue | None:
    """The invalidation queue; None where the unit has none, or was never told of one."""
    if not (registers.has(InvalidationQueueHead) and registers.read(ExtendedCapability).qi):
        return None
    where = registers.queue
    if not (registers.status.qies or where.iqa):
        return None
    data, missing = _pages(memory, where.iqa << PAGE_SHIFT, PAGE_SIZE << where.qs)
    tail = int(registers.read(InvalidationQueueTail))
    size, note = _slot_size(data, bool(where.dw), bool(registers.read(ExtendedCapability).smts), tail)
    head, end = int(registers.read(InvalidationQueueHead)) // size, tail // size
    count = len(data) // size
    slots = _slots(data, where.iqa << PAGE_SHIFT, size, head % count, end % count, _invalidation)
    enabled = bool(registers.status.qies)
    return Queue(
        Gpa(where.iqa << PAGE_SHIFT), len(data), size, head % count, end % count, enabled, tuple(slots), missing, note
    )


def page_request_queue(memory: Memory, registers: RegisterPage) -> Queue | None:
    """The page request queue; None where the unit has none, or was never told of one."""
    if not (registers.has(PageRequestStatus) and registers.read(ExtendedCapability).prs):
        return None
    where = registers.read(PageRequestQueueAddress)
    if not where:
        return None
    start = where.pqa << PAGE_SHIFT
    data, missing = _pages(memory, start, PAGE_SIZE << where.pqs)
    count = len(data) // WIDE
    head = registers.read(PageRequestQueueHead).pqh % count
    tail = registers.read(PageRequestQueueTail).pqt % count
    status = registers.read(PageRequestStatus)
    note = "an overflow was recorded (PRS.PRO): requests were answered with a failure" if status.pro else ""
    slots = _slots(data, start, WIDE, head, tail, _page_request)
    return Queue(Gpa(start), len(data), WIDE, head, tail, True, tuple(slots), missing, note)


def _type(raw: int) -> int:
    return raw & 0xF | raw >> 5 & 0x70


def _invalidation(raw: int, size: int) -> Word | None:
    kind = _KINDS.get(_type(raw))
    if kind is None or kind.width // 8 > size:
        return None
    return None if raw >> kind.width else kind(raw)


def _page_request(raw: int, size: int) -> Word | None:
    return PageRequestDescriptor(raw)


def _slot_size(data: bytes, wide: bool, scalable: bool, tail: int) -> tuple[int, str]:
    # QEMU 7.2 keeps DW and uses it, but reads it back as 0: then the descriptors tell. Bytes 31:16 of a wide slot are
    # zero in every descriptor there is; a queue of narrow slots has descriptors there.
    if wide:
        return WIDE, ""
    if not scalable:
        return NARROW, ""
    used = [bool(data[at : at + NARROW].strip(b"\0")) for at in range(0, len(data), NARROW)]
    if tail & NARROW or any(used[1::2]) or sum(used[::2]) < ENOUGH:
        return NARROW, ""
    return WIDE, (
        f"IQA.DW reads 0, but all {sum(used)} descriptors stand 32 bytes apart, and the unit has scalable mode "
        "(ECAP.SMTS): slots of 32 bytes (QEMU 7.2 does not read DW back)"
    )


def _slots(data: bytes, start: int, size: int, head: int, tail: int, read: _Reader) -> Iterator[Slot]:
    count = len(data) // size
    pending = (tail - head) % count
    for index in range(count):
        raw = int.from_bytes(data[index * size : (index + 1) * size], "little")
        waits = (index - head) % count < pending
        if raw or waits:
            yield Slot(index, Gpa(start + index * size), raw, read(raw, size), waits)


def _pages(memory: Memory, start: int, size: int) -> tuple[bytes, tuple[int, ...]]:
    missing: list[int] = []
    return b"".join(_read(memory, range(start, start + size, PAGE_SIZE), missing)), tuple(missing)


def _read(memory: Memory, pages: Iterable[int], missing: list[int]) -> Iterator[bytes]:
    for at in pages:
        try:
            yield memory.read(at, PAGE_SIZE)
        except NoMemory:
            missing.append(at)
            yield bytes(PAGE_SIZE)
