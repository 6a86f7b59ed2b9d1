"""iommu-testdev, QEMU's device that writes through a unit and looks from the other side whether it arrived.

Registers, in BAR 0 of 4 KiB, accesses of 4 bytes only:

    00h  reading it does what is armed, and reads 0      14h  1 arms, 0 disarms (reads 0)
    04h, 08h  address of the write, low and high         18h  attributes: 0 secure, 2:1 space, 3 space is valid
    0Ch  length                                          1Ch, 20h  where it should arrive, low and high
    10h  result

Armed and triggered it writes 12345678h, again and again, `length` bytes in all, through the unit, and reads system
memory at the second address directly. The result is 0 if that has the pattern; FFFFFFFFh is idle, FFFFFFFEh armed,
DEAD0001h length 0, DEAD0002h the write was blocked, DEAD0003h nothing to read, DEAD0004h something else is there,
DEAD0005h not armed, DEAD0006h space and security contradict each other (0 is the secure space, 1 the other).
As QEMU's, the device does not ask whether it is bus master, and sends neither interrupts nor PASIDs.
"""

from __future__ import annotations

import enum

from device_models.memory_region import MemoryRegion, Operations, Sizes
from device_models.pci.function import PciFunction
from pagetables.request import Access

__all__ = ["IommuTestdev", "Result"]

PATTERN = (0x12345678).to_bytes(4, "little")
_TRIGGER, _RESULT, _DOORBELL, _ATTRIBUTES = 0x00, 0x10, 0x14, 0x18
_HALVES = {0x04: ("iova", 0), 0x08: ("iova", 32), 0x1C: ("gpa", 0), 0x20: ("gpa", 32), 0x0C: ("length", 0)}
_NON_SECURE = 1 << 1  # space 1, not secure, not valid: what the attributes are after reset
_PIECE = 1 << 20  # a length may be 4 GiB; memory is looked at in pieces
_DWORD = Sizes(4, 4)


class Result(enum.IntEnum):
    """What the result register says."""

    SUCCESS = 0
    IDLE = 0xFFFF_FFFF
    ARMED = 0xFFFF_FFFE
    BAD_LENGTH = 0xDEAD_0001
    WRITE_FAILED = 0xDEAD_0002
    READ_FAILED = 0xDEAD_0003
    MISMATCH = 0xDEAD_0004
    NOT_ARMED = 0xDEAD_0005
    BAD_ATTRIBUTES = 0xDEAD_0006


class IommuTestdev(PciFunction):
    """1b36:0005."""

    TYPE = "iommu-testdev"
    EXPLAINS = "A test device for IOMMU"
    VENDOR, DEVICE, CLASS = 0x1B36, 0x0005, 0x00FF

    iova = gpa = length = 0
    result: int = Result.IDLE
    armed = False
    attributes = _NON_SECURE

    def realize(self) -> None:
        """BAR 0."""
        super().realize()
        operations = Operations(self._read, self._write, _DWORD, _DWORD)
        self.add_bar(0, MemoryRegion("iommu-testdev.bar0", 0x1000, operations))

    def reset(self) -> None:
        """Nothing armed, nothing done."""
        super().reset()
        self.iova = self.gpa = self.length = 0
        self.result, self.armed, self.attributes = Result.IDLE, False, _NON_SECURE

    def _read(self, offset: int, size: int) -> int:
        if offset == _TRIGGER:
            self.result = self._go() if self.armed else Result.NOT_ARMED
            self.armed = False
        elif offset in _HALVES:
            name, shift = _HALVES[offset]
            value: int = getattr(self, name)
            return value >> shift & 0xFFFF_FFFF
        return {_RESULT: self.result, _ATTRIBUTES: self.attributes}.get(offset, 0)

    def _write(self, offset: int, size: int, value: int) -> None:
        if offset in _HALVES:
            name, shift = _HALVES[offset]
            kept = getattr(self, name) & ~(0xFFFF_FFFF << shift)
            setattr(self, name, kept | value << shift)
        elif offset == _RESULT:
            self.result = value
        elif offset == _ATTRIBUTES:
            self.attributes = value
        elif offset == _DOORBELL:
            self.armed = bool(value & 1)
            self.result = Result.ARMED if self.armed else Result.IDLE

    def _go(self) -> Result:
        if not self.length:
            return Result.BAD_LENGTH
        if self._contradictory():
            return Result.BAD_ATTRIBUTES
        pieces = [(at, min(_PIECE, self.length - at)) for at in range(0, self.length, _PIECE)]
        written = [self._put(at, _pattern(size)) for at, size in pieces]
        if not all(written):
            return Result.WRITE_FAILED
        for at, size in pieces:
            found, complete = self.machine.space.load(self.gpa + at, size)
            if not complete:
                return Result.READ_FAILED
            if found != _pattern(size):
                return Result.MISMATCH
        return Result.SUCCESS

    def _put(self, at: int, data: bytes) -> bool:
        # Past `dma_write`, which asks for bus mastering.
        return self.machine.dma.write_all(self.request(self.iova + at, Access.WRITE), data) is None

    def _contradictory(self) -> bool:
        secure, space, valid = self.attributes & 1, self.attributes >> 1 & 3, self.attributes >> 3 & 1
        return bool(valid and space in (0, 1) and secure != (space == 0))


def _pattern(size: int) -> bytes:
    return (PATTERN * (-(-size // 4)))[:size]
