"""Registers, descriptors and completion records of the DMA engine, each bit declared once."""

from __future__ import annotations

import enum

from pagetables.bits import HW, RO, RW, RW1C, WO, Access, Bits, Reserved, Word

__all__ = [
    "REGISTERS",
    "Capability",
    "CompletionRecord",
    "Control",
    "Counters",
    "Descriptor",
    "FaultAddress",
    "Head",
    "Opcode",
    "Outcome",
    "Ring",
    "RingSpace",
    "Status",
    "Tail",
    "written",
]


class Opcode(enum.IntEnum):
    """What a descriptor asks for."""

    NOTHING = 0
    COPY = 1  # from source to destination
    FILL = 2  # destination with the 8 bytes in `source`, again and again
    COMPARE = 3  # source with destination


class Outcome(enum.IntEnum):
    """How a descriptor ended; 0 is left for software that looks whether a record was written."""

    SUCCESS = 1
    DIFFERENT = 2  # compared, and not equal
    BAD_DESCRIPTOR = 3  # unknown operation, reserved bits, or a PASID that is too large
    NOT_ENABLED = 4  # a PASID, privilege or execution that software did not enable
    BLOCKED = 5  # an access was refused
    NO_TRANSLATION = 6  # a translation request was refused
    NO_RIGHT = 7  # translated, without the right, and the page was not asked for
    PAGE_REFUSED = 8  # asked for: invalid request
    PAGE_FAILED = 9  # asked for: response failure
    PAGE_TIMEOUT = 10  # asked for: no response
    STILL_NO_RIGHT = 11  # asked for, as often as allowed, with success, and it is not there
    NOTHING_THERE = 12  # an address without memory, or no bus mastering


class Capability(Word, name="dma_engine_capability", width=64):
    """What the engine is."""

    version = RO(7, 0, "1")
    vectors = RO(15, 8, "interrupt vectors")
    order = RO(20, 16, "largest ring order")
    rsvd_63_21 = Reserved(63, 21)


class Control(Word, name="dma_engine_control", width=64):
    """Commands."""

    enable = RW(0, about="descriptors are done")
    reset = WO(1, about="1 forgets the ring and ends what is under way")
    rsvd_63_2 = Reserved(63, 2)


class Status(Word, name="dma_engine_status", width=64):
    """State."""

    running = RO(0, about="a descriptor is under way")
    halted = RW1C(1, about="a descriptor could not be read; clearing it reads again")
    lost = RW1C(2, about="a completion record could not be written")
    rsvd_7_3 = Reserved(7, 3)
    outcome = RO(15, 8, "of the last descriptor", values=Outcome)
    reason = RO(23, 16, "why the unit blocked it; a help for tests, devices are not told")
    rsvd_63_24 = Reserved(63, 24)


class Ring(Word, name="dma_engine_ring", width=64):
    """Where the descriptors are. Writing it makes head and tail 0."""

    order = RW(3, 0, "the ring has 2**X descriptors")
    rsvd_11_4 = Reserved(11, 4)
    addr = RW(63, 12, "address of the ring", address=True)


class RingSpace(Word, name="dma_engine_ring_space", width=64):
    """In whose name the ring is read."""

    pasid = RW(19, 0, "PASID")
    pp = RW(20, about="PASID present")
    pm = RW(21, about="privileged mode")
    untranslated = RW(22, about="do not ask for translations")
    rsvd_63_23 = Reserved(63, 23)


class Tail(Word, name="dma_engine_tail", width=64):
    """Doorbell: the index behind the last descriptor that is ready."""

    index = RW(15, 0)
    rsvd_63_16 = Reserved(63, 16)


class Head(Word, name="dma_engine_head", width=64):
    """The index of the descriptor that is next, or under way."""

    index = RO(15, 0)
    rsvd_63_16 = Reserved(63, 16)


class FaultAddress(Word, name="dma_engine_fault_address", width=64):
    """Where the last descriptor that failed did so."""

    addr = RO(63, 0)


class Counters(Word, name="dma_engine_counters", width=64):
    """How often, since the last reset, modulo 65536."""

    translations = RO(15, 0, "translation requests")
    hits = RO(31, 16, "device-TLB hits")
    pages = RO(47, 32, "page requests")
    invalidations = RO(63, 48, "invalidation requests")


REGISTERS: dict[int, type[Word]] = {
    0x00: Capability,
    0x08: Control,
    0x10: Status,
    0x18: Ring,
    0x20: RingSpace,
    0x28: Tail,
    0x30: Head,
    0x38: FaultAddress,
    0x40: Counters,
}
"""Registers by offset."""


class Descriptor(Word, name="dma_engine_descriptor", width=512):
    """Work for the engine, in the ring."""

    opcode = Bits(7, 0, "operation", values=Opcode)
    notify = Bits(8, about="send an interrupt when done")
    record = Bits(9, about="write a completion record")
    pp = Bits(10, about="PASID present")
    pm = Bits(11, about="privileged mode")
    exe = Bits(12, about="reads of the source ask for execute permission")
    untranslated = Bits(13, about="do not ask for translations")
    no_pages = Bits(14, about="do not ask for pages")
    rsvd_15_15 = Reserved(15)
    vector = Bits(23, 16, "interrupt vector")
    rsvd_31_24 = Reserved(31, 24)
    pasid = Bits(51, 32, "PASID")
    rsvd_63_52 = Reserved(63, 52)
    source = Bits(127, 64, "address to read, or what to fill with")
    destination = Bits(191, 128, "address to write, or to compare with")
    length = Bits(223, 192, "bytes")
    rsvd_255_224 = Reserved(255, 224)
    completion = Bits(319, 256, "address of the completion record")
    rsvd_511_320 = Reserved(511, 320)


class CompletionRecord(Word, name="dma_engine_completion", width=256):
    """What the engine writes when a descriptor is done."""

    outcome = HW(7, 0, "how it ended", values=Outcome)
    reason = HW(15, 8, "why the unit blocked it; a help for tests, devices are not told")
    index = HW(31, 16, "index of the descriptor")
    done = HW(63, 32, "bytes done")
    addr = HW(127, 64, "address at which it failed, or differs")
    time = HW(191, 128, "when, in ns of virtual time")
    rsvd_255_192 = Reserved(255, 192)


def written(kind: type[Word], old: int, value: int, mask: int) -> int:
    """A register after software wrote the bits of `mask`: RW fields take the value, ones clear RW1C fields."""
    for field in kind.fields_by_name.values():
        bits = field.mask & mask
        if field.access is Access.RW:
            old = old & ~bits | value & bits
        elif field.access is Access.RW1C:
            old &= ~(value & bits)
    return old
