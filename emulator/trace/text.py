"""Events from ftrace text and from the text of trace-cmd report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from emulator.trace.event import Event, Kind
from emulator.trace.framing import FRAME, lost_events, overwritten_events, time_ns
from emulator.trace.skipped import SkippedLines
from emulator.trace.tracepoints import FOREIGN, PARSERS, Fields
from pagetables.errors import TraceError

__all__ = ["TextReader"]

_NOT_AN_EVENT = "not an event line"
_NOT_OURS = "not an IOMMU or DMA event"
_MOST_LINES = (1 << 32) - 1


class TextReader:
    """Reads the lines of one file; `skipped` and `lost` gather what is not an event."""

    def __init__(self, name: str, index: int, skipped: SkippedLines) -> None:
        self.name = name
        self.index = index
        self.skipped = skipped
        self.lost: Counter[int] = Counter()  # CPU -> events reported lost
        self.losses: list[int] = []  # lines that report losses
        self.overwritten = 0

    def events(self, pieces: Iterable[bytes]) -> Iterator[Event]:
        """One event for each event line; lines that are not used come as Kind.OTHER."""
        number = 0
        for piece in pieces:
            lines = piece.decode("utf-8", "replace").replace("\r\n", "\n").split("\n")
            if lines[-1] == "":
                lines.pop()
            yield from self._lines(lines, number)
            number += len(lines)
            if number > _MOST_LINES:
                raise TraceError(
                    f"{self.name}: more than {_MOST_LINES} lines; split the file, several are merged by time"
                )

    def _lines(self, lines: list[str], number: int) -> Iterator[Event]:
        match, parsers, index, new = FRAME.match, PARSERS, self.index, tuple.__new__
        for line in lines:
            number += 1
            frame = match(line)
            if frame is None:
                self._unframed(line, number)
                continue
            task, pid, cpu, seconds, fraction, ticks, name, text = frame.groups()
            parse = parsers.get(name)
            fields = FOREIGN if parse is None else parse(text)
            if not fields or isinstance(fields, str):
                fields = self._unused(number, name, fields)
            # Microseconds are the rule.
            time = (
                int(seconds + fraction) * 1000 if seconds and len(fraction) == 6 else time_ns(seconds, fraction, ticks)
            )
            yield new(Event, (index, number, time, int(cpu), int(pid), task, *fields, 0))

    def _parsed(self, number: int, name: str, text: str) -> Fields:
        # The fields of the event `name`, from `kind` on.
        parse = PARSERS.get(name)
        fields = FOREIGN if parse is None else parse(text)
        return fields if fields and not isinstance(fields, str) else self._unused(number, name, fields)

    def _unused(self, number: int, name: str, found: Fields | str | None) -> Fields:
        why = f"{name}: the text is not what any known kernel prints" if found is None else found or _NOT_OURS
        self.skipped.add(self.name, number, str(why))
        return (Kind.OTHER, None, None, 0, 0, 0, 0, None, 0, name)

    def _unframed(self, line: str, number: int) -> None:
        if line.startswith("#"):
            self.overwritten += overwritten_events(line)
            return
        lost = lost_events(line)
        if lost is not None:
            self.lost[lost[0]] += lost[1]
            self.losses.append(number)
        elif line.strip() and not (number == 1 and line.startswith("cpus=")):
            self.skipped.add(self.name, number, _NOT_AN_EVENT)
