"""Scripts that look at a machine and drive it: a monitor's commands, and those of qtest (writel, write, clock_step).

monitor = DrivingMonitor(host)
monitor.execute("writel 0xfed90018 0x40000000")      # "OK"
monitor.execute("info iommu")
"""

from __future__ import annotations

from device_models.fronts.host import Host
from device_models.fronts.monitor import Monitor
from device_models.fronts.qtest import QtestServer

__all__ = ["DrivingMonitor"]

_QTEST = frozenset(
    f"{verb}{width}"
    for verb, widths in (("read", "bwlq"), ("write", "bwlq"), ("in", "bwl"), ("out", "bwl"))
    for width in widths
) | {"read", "write", "memset", "b64read", "b64write", "clock_step", "clock_set", "set_irq_in"}


class DrivingMonitor(Monitor):
    """A monitor that takes qtest's commands too: those that drive a machine as software and time would."""

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self._qtest = QtestServer(host.machine)

    def execute(self, line: str) -> str:
        """The answer to a line: whole lines, or nothing. A qtest command's is OK with its value, or FAIL with words."""
        name = line.split(maxsplit=1)[0] if line.strip() else ""
        if name not in _QTEST:
            return super().execute(line)
        answer = self._qtest.ask(line)
        self.failed = answer.startswith("FAIL")
        return f"{answer}\n"
