"""Interrupts as processors get them, and as they look on the bus: one dword written to FEExxxxxh.

A message that is not remapped names vector and processor itself (compatibility format); one that is remapped is built
from its interrupt remapping entry in the same form (VT-d, "Interrupt Remapping").
"""

from __future__ import annotations

from dataclasses import dataclass

from pagetables.address import Gpa, SourceId
from pagetables.layouts.interrupt import CompatibilityMsiAddress, CompatibilityMsiData
from pagetables.layouts.values import DeliveryMode, DestinationMode, TriggerMode
from pagetables.request import Request

__all__ = ["Interrupt", "compatibility_interrupt"]

_PREFIX = 0xFEE  # address bits 31:20
_ADDRESS = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class Interrupt:
    """One interrupt on its way to a processor.

    `destination` is an APIC id or a logical destination: 8 bits, or 32 with `x2apic`. `delivery_mode` is a
    DeliveryMode; a message that is not remapped can also hold the reserved values 3 and 6. `source_id` is who sent it
    and no part of the message. `asserted` is the message's level bit, always set in remapped ones.
    """

    source_id: SourceId
    vector: int
    destination: int
    destination_mode: DestinationMode = DestinationMode.PHYSICAL
    delivery_mode: int = DeliveryMode.FIXED
    trigger: TriggerMode = TriggerMode.EDGE
    redirection_hint: bool = False
    x2apic: bool = False
    remapped: bool = False
    asserted: bool = True

    def message(self) -> tuple[Gpa, int]:
        """The write that a processor's local APIC sees: address (bits 63:40 hold a destination's bits 31:8), data."""
        address = CompatibilityMsiAddress.of(
            fee=_PREFIX, dest=self.destination & 0xFF, rh=int(self.redirection_hint), dm=self.destination_mode
        )
        data = CompatibilityMsiData.of(
            vec=self.vector, dlm=self.delivery_mode, level=int(self.asserted), tm=self.trigger
        )
        return Gpa((self.destination & ~0xFF) << 32 | int(address)), int(data)


def compatibility_interrupt(request: Request, data: bytes) -> Interrupt:
    """What a message says by itself: the dword `data` that `request` writes to the interrupt range."""
    address = CompatibilityMsiAddress(request.iova & _ADDRESS)
    payload = CompatibilityMsiData.from_bytes(data)
    return Interrupt(
        source_id=request.source_id,
        vector=payload.vec,
        destination=address.dest,
        destination_mode=DestinationMode(address.dm),
        delivery_mode=payload.dlm,
        trigger=TriggerMode(payload.tm),
        redirection_hint=bool(address.rh),
        asserted=bool(payload.level),
    )
