"""Event interrupts of the unit itself: a message that waits while it is masked.

The fault event, the invalidation completion event, the page request event and that of performance monitoring have the
same block of registers: control, data, address, upper address (VT-d, register map).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from emulator.unit.register_file import RegisterFile, Slot
from pagetables.address import Gpa

__all__ = ["EventInterrupt", "EventMessage"]


@dataclass(frozen=True, slots=True)
class EventMessage:
    """A message-signalled interrupt: a 32-bit write of `data` to `address`. It is never remapped."""

    address: Gpa
    data: int


class EventInterrupt:
    """One event: `happened` sends its message or, while masked, leaves it pending in the control register.

    The slots are those of its block; every block has the fields of the fault event's.
    """

    def __init__(
        self,
        file: RegisterFile,
        control: Slot[Any],
        data: Slot[Any],
        address: Slot[Any],
        upper: Slot[Any],
        send: Callable[[EventMessage], None],
    ) -> None:
        self._file = file
        self._control = control
        self._data = data
        self._address = address
        self._upper = upper
        self._send = send

    def _pend(self, pending: bool) -> None:
        self._control.store(self._file, self._control.load(self._file).replace(ip=int(pending)))

    def happened(self) -> None:
        """The condition arose: the message goes out now, or waits for the mask to be cleared."""
        self._pend(True)
        self.unmasked()

    def unmasked(self) -> None:
        """The mask may have been cleared: a pending message goes out."""
        control = self._control.load(self._file)
        if not control.ip or control.im:
            return
        self._pend(False)
        upper = self._upper.load(self._file).mua << 32
        self._send(EventMessage(Gpa(upper | int(self._address.load(self._file))), int(self._data.load(self._file))))

    def withdrawn(self) -> None:
        """Software cleared the condition: nothing is pending any more."""
        self._pend(False)
