"""Events from the text of `perf script`: the same tracepoints, framed otherwise, with call chains between them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from emulator.trace.event import Event
from emulator.trace.framing import PERF_FRAME, time_ns
from emulator.trace.text import TextReader

__all__ = ["PerfReader"]

_CHAIN: Final = re.compile(r"[ \t]+[0-9a-f]{1,16} .*", re.ASCII).fullmatch
_LOST: Final = re.compile(r".*PERF_RECORD_LOST(?:_SAMPLES)? lost ([0-9]{1,19})", re.ASCII).match


class PerfReader(TextReader):
    """Reads the lines of one file. Call chains, blank lines and comments are no events and not skipped."""

    def _lines(self, lines: list[str], number: int) -> Iterator[Event]:
        for line in lines:
            number += 1
            frame = PERF_FRAME.match(line)
            if frame is None:
                self._unframed(line, number)
                continue
            task, thread, cpu, seconds, fraction, _, name, text = frame.groups()
            fields = self._parsed(number, name, text)
            time = time_ns(seconds, fraction, "")
            yield Event(self.index, number, time, int(cpu or 0), int(thread), task, *fields)

    def _unframed(self, line: str, number: int) -> None:
        lost = _LOST(line)
        if lost is not None:
            self.lost[0] += int(lost[1])
            self.losses.append(number)
        elif not _CHAIN(line):
            super()._unframed(line, number)
