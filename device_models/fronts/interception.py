"""Who watches which interrupt lines: what qtest's `irq_intercept_in`, `irq_intercept_out` and `set_irq_in` do.

As in QEMU one device is watched at a time. A q35 machine has two groups of lines that tests watch: the inputs of the
I/O APIC, and the global interrupts (`gsi`) that the LPC bridge drives, which lead to them one to one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from device_models.objects import IO_APIC
from device_models.options import OptionError
from device_models.q35 import LpcBridge

if TYPE_CHECKING:
    from device_models.interrupt_lines import InterruptLines
    from device_models.machine import SystemMachine

__all__ = ["Interception", "InterceptionError"]

_UNNAMED = ("", "unnamed-gpio-in")
_GLOBAL_INTERRUPTS = "gsi"


class InterceptionError(ValueError):
    """A device or a line that is not there, worded as QEMU words it."""


class Interception:
    """The watched device of one machine; `tell` hears (number, level) of each change."""

    def __init__(self, machine: SystemMachine, tell: Callable[[int, int], None]) -> None:
        self.machine = machine
        self.tell = tell
        self.watched: str | None = None
        self._lines: InterruptLines | None = None

    def watch_inputs(self, path: str) -> None:
        """Watch the lines that lead to a device."""
        where = self._resolve(path)
        self._watch(where, self._inputs(where))

    def watch_outputs(self, path: str, name: str) -> None:
        """Watch the lines called `name` that a device drives."""
        where = self._resolve(path)
        self._watch(where, self._outputs(where, name))

    def set_input(self, path: str, name: str, line: int, level: int) -> None:
        """Drive a line that leads to a device, beside whoever else drives it."""
        lines = self._inputs(self._resolve(path))
        if lines is None or name not in _UNNAMED:
            raise InterceptionError(f"no input lines called {name!r}")
        if line >= lines.count:
            raise InterceptionError(f"line {line}: {path} has {lines.count}")
        lines.set(line, bool(level), source=self)

    def forget(self) -> None:
        """Watch nothing any more."""
        if self._lines is not None and self.tell in self._lines.watchers:
            self._lines.watchers.remove(self.tell)
        self.watched = self._lines = None

    def _resolve(self, path: str) -> str:
        try:
            return self.machine.objects.resolve(path)
        except OptionError:
            raise InterceptionError("Unknown device") from None

    def _inputs(self, where: str) -> InterruptLines | None:
        return self.machine.inputs if where == IO_APIC else None

    def _outputs(self, where: str, name: str) -> InterruptLines | None:
        drives = name == _GLOBAL_INTERRUPTS and isinstance(self.machine.objects.device_at(where), LpcBridge)
        return self.machine.inputs if drives else None

    def _watch(self, where: str, lines: InterruptLines | None) -> None:
        if self.watched is not None:
            if self.watched != where:
                raise InterceptionError("IRQ intercept already enabled")
            return
        if lines is None:
            raise InterceptionError("No intercepts installed")
        self.watched, self._lines = where, lines
        lines.watchers.append(self.tell)
