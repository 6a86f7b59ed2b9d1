"""edu, QEMU's teaching device: an inverter, a factorial, interrupts, and DMA of up to 4 KiB through a buffer.

Registers, in BAR 0 (below 80h of 4 bytes only, above also of 8):

    00h  identification 010000EDh       20h  status: 1 computing, 80h interrupt when the factorial is done
    04h  reads inverted                 24h  interrupt status        60h  raise        64h  acknowledge
    08h  factorial of what is written   80h  source    88h  destination    90h  count    98h  command
    A0h  result of the last DMA         A8h  where it failed          (with dma-status=on only)

Command: 1 run, 2 to memory (else from memory), 4 interrupt 100h at the end. The buffer is at 40000h, and DMA ends
100 ms after the command. As in QEMU nothing tells whether DMA worked, a blocked read leaves zeros in the buffer, and a
reset of the machine leaves these registers alone. A range outside the buffer moves nothing here. With `dma-status=on`
A0h reads 0 after success, 80000000h + the fault reason after a fault, FFFFFFFFh where there was no memory or no right
to be bus master, and A8h the address of the fault.
"""

from __future__ import annotations

from device_models.dma import DmaError
from device_models.memory_region import MemoryRegion, Operations, Sizes
from device_models.pci.function import PciFunction
from device_models.properties import Switch, Unsigned
from emulator.clock import MILLISECOND, Timer
from pagetables.fault import Fault

__all__ = ["Edu"]

IDENTIFICATION = 0x010000ED
BUFFER, BUFFER_SIZE = 0x40000, 4096
RUN, TO_MEMORY, INTERRUPT = 1, 2, 4
INTERRUPT_WHEN_DONE = 0x80
FACTORIAL_DONE, DMA_DONE = 0x001, 0x100
NO_ANSWER = 0xFFFF_FFFF
_ALL_ONES = (1 << 64) - 1
_LATENCY = 100 * MILLISECOND
_DMA = {0x80: "source", 0x88: "destination", 0x90: "count", 0x98: "command"}
_VANISHES = 34  # 2**32 divides the factorial of 34 and of everything above


class Edu(PciFunction):
    """1234:11e8."""

    TYPE = "edu"
    EXPLAINS = "educational device: factorial, interrupts, DMA"
    VENDOR, DEVICE, CLASS, REVISION, PIN = 0x1234, 0x11E8, 0x00FF, 0x10, 1

    dma_mask = Unsigned(64, (1 << 28) - 1, name="dma_mask", shown=False, live=True)
    dma_status = Switch(False, "the result of DMA can be read at A0h")

    def realize(self) -> None:
        """BAR 0 and a 64-bit MSI."""
        super().realize()
        self.buffer = bytearray(BUFFER_SIZE)
        self.inverted = self.result = self.status = self.interrupts = 0
        self.source = self.destination = self.count = self.command = 0
        self.error: DmaError | None = None
        self._timer: Timer | None = None
        self.add_msi()
        operations = Operations(self._read, self._write, Sizes(4, 8), Sizes(4, 8))
        self.add_bar(0, MemoryRegion("edu-mmio", 1 << 20, operations))

    def unrealize(self) -> None:
        """DMA that is under way does not happen."""
        timer = getattr(self, "_timer", None)
        if timer is not None:
            timer.cancel()
        super().unrealize()

    # -- registers ----------------------------------------------------------------------------------------------------

    def _read(self, offset: int, size: int) -> int:
        if offset < 0x80 and size != 4:
            return _ALL_ONES
        if offset in _DMA:
            value: int = getattr(self, _DMA[offset])
            return value
        plain = {
            0x00: IDENTIFICATION,
            0x04: self.inverted,
            0x08: self.result,
            0x20: self.status,
            0x24: self.interrupts,
        }
        if self.dma_status:
            plain |= {0xA0: _status(self.error), 0xA8: _address(self.error)}
        return plain.get(offset, _ALL_ONES)

    def _write(self, offset: int, size: int, value: int) -> None:
        if offset < 0x80 and size != 4:
            return
        if offset in _DMA:
            self._write_dma(_DMA[offset], value)
        elif offset == 0x04:
            self.inverted = ~value & 0xFFFF_FFFF
        elif offset == 0x08:
            self._compute(value)
        elif offset == 0x20:
            self.status = self.status & ~INTERRUPT_WHEN_DONE | value & INTERRUPT_WHEN_DONE
        elif offset == 0x60:
            self._raise(value)
        elif offset == 0x64:
            self._acknowledge(value)

    def _compute(self, number: int) -> None:
        # QEMU's thread takes a moment of real time; of virtual time there is nothing to take.
        self.result = _factorial(number)
        if self.status & INTERRUPT_WHEN_DONE:
            self._raise(FACTORIAL_DONE)

    def _raise(self, bits: int) -> None:
        self.interrupts |= bits
        if not self.interrupts:
            return
        if self.messages_enabled:
            self.notify()
        else:
            self.set_interrupt(True)

    def _acknowledge(self, bits: int) -> None:
        self.interrupts &= ~bits
        if not self.interrupts and not self.messages_enabled:
            self.set_interrupt(False)

    # -- DMA ----------------------------------------------------------------------------------------------------------

    def _write_dma(self, name: str, value: int) -> None:
        starts = name == "command"
        if self.command & RUN or (starts and not value & RUN):
            return
        setattr(self, name, value)
        if starts:
            self._timer = self.machine.clock.after(_LATENCY, self._move)

    def _move(self) -> None:
        self._timer = None
        self.error = self._to_memory() if self.command & TO_MEMORY else self._from_memory()
        self.command &= ~RUN
        if self.command & INTERRUPT:
            self._raise(DMA_DONE)

    def _within(self, address: int) -> int | None:
        inside = address >= BUFFER and address + self.count <= BUFFER + BUFFER_SIZE
        return address - BUFFER if inside else None

    def _from_memory(self) -> DmaError | None:
        at = self._within(self.destination)
        if at is None:
            return None
        answer = self.dma_read(self.source & self.dma_mask, self.count)
        self.buffer[at : at + self.count] = answer.data
        return answer.error

    def _to_memory(self) -> DmaError | None:
        at = self._within(self.source)
        if at is None:
            return None
        return self.dma_write(self.destination & self.dma_mask, bytes(self.buffer[at : at + self.count]))


def _factorial(number: int) -> int:
    result = 1
    for factor in range(2, number + 1 if number < _VANISHES else 0):
        result = result * factor & 0xFFFF_FFFF
    return result if number < _VANISHES else 0


def _status(error: DmaError | None) -> int:
    if isinstance(error, Fault):
        return 1 << 31 | int(error.reason)
    return 0 if error is None else NO_ANSWER


def _address(error: DmaError | None) -> int:
    return error.request.iova if isinstance(error, Fault) else 0
