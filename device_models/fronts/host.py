"""What the doors of one process share: the machine, its run state, and who hears of events."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from device_models.fronts.memory_dump import DumpFormat
from device_models.fronts.version import QemuVersion
from device_models.machine import SystemMachine
from pagetables.errors import VtdError
from pagetables.images.saving import replacing

__all__ = ["Host"]

_CHUNK = 1 << 20
_REGISTERS_END = 1 << 32

Listener = Callable[[dict[str, Any]], None]


@dataclass(slots=True)
class Host:
    """A machine and the doors to it. `channels` are labels and addresses for `query-chardev`, `dump_format` is what
    `xp` was last told at any of them."""

    machine: SystemMachine
    name: str = ""
    running: bool = True
    leaving: bool = False
    listeners: list[Listener] = field(default_factory=list)
    channels: dict[str, str] = field(default_factory=dict)
    dump_format: DumpFormat = field(default_factory=DumpFormat)
    _reason: str = "guest-reset"

    def __post_init__(self) -> None:
        self.machine.on_reset.append(self._was_reset)

    @property
    def version(self) -> QemuVersion:
        """The QEMU that the machine's profile stands for."""
        return QemuVersion.of(self.machine.profile)

    def tell(self, event: str, data: Mapping[str, Any] | None = None) -> None:
        """Let every listener hear of an event."""
        seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
        stamp = {"seconds": seconds, "microseconds": nanoseconds // 1000}
        message = {"timestamp": stamp, "event": event} | ({} if data is None else {"data": dict(data)})
        for listener in list(self.listeners):
            listener(message)

    def reset(self) -> None:
        """Reset the machine on a monitor's word."""
        self._reason = "host-qmp-system-reset"
        try:
            self.machine.reset()
        finally:
            self._reason = "guest-reset"

    def run(self, running: bool) -> None:
        """Stop or continue: nothing runs here, but the state is told."""
        if running != self.running:
            self.running = running
            self.tell("RESUME" if running else "STOP")

    def remove(self, identity: str) -> None:
        """Remove a device; OptionError if there is none, or it cannot be."""
        device = self.machine.device(identity)
        self.machine.device_del(identity)
        known = {} if device.id is None else {"device": device.id}
        self.tell("DEVICE_DELETED", known | {"path": device.path})

    def save_memory(self, start: int, size: int, path: str) -> None:
        """Write the `size` bytes that a processor would read from `start` on to a file; VtdError if it cannot be."""
        end = max(_REGISTERS_END, *(first + count for first, count in self.machine.memory.regions))
        if start + size > end:
            raise VtdError(f"{size:#x} bytes at {start:#x}: memory and registers end at {end:#x}")
        try:
            with replacing(path) as file:
                for at in range(start, start + size, _CHUNK):
                    file.write(self.machine.space.read(at, min(_CHUNK, start + size - at)))
        except OSError as error:
            raise VtdError(f"could not write '{path}': {error.strerror}") from error

    def quit(self) -> None:
        """End the process when what is under way is done."""
        self.tell("SHUTDOWN", {"guest": False, "reason": "host-qmp-quit"})
        self.leaving = True

    def _was_reset(self) -> None:
        self.tell("RESET", {"guest": self._reason == "guest-reset", "reason": self._reason})
