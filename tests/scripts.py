"""A trace written event by event, for tests of what becomes of it. The columns are filled by hand."""

from __future__ import annotations

import numpy as np

from emulator.trace.columns import NO_PASID, NO_SOURCE, Columns
from emulator.trace.skipped import SkippedLines
from emulator.trace.spaces import Space
from emulator.trace.trace import Trace
from pagetables.address import parse_source_id

NIC = "00:03.0"
DISK = "00:04.0"
MAP, UNMAP, ACCESS, ATTACH, DETACH = 1, 2, 3, 4, 5
ACCESSES = {"-": 0, "r": 1, "w": 2, "rw": 3}


class Script:
    """Events in the order they are called; each is a microsecond after the one before."""

    def __init__(self, rule: str = "7.x", start: int = 0):
        self.rule = rule
        self.now = start
        self.rows: list[dict[str, int]] = []
        self.devices: dict[int, list[int]] = {0: []}

    def _add(self, kind: int, space: int, **values: int) -> Script:
        self.now += 1000
        row = {"time_ns": self.now, "kind": kind, "space": space, "source": NO_SOURCE, "pasid": NO_PASID}
        row |= {"iova": 0, "gpa": 0, "size": 0, "access": 0, "leaf_levels": 0, "cpu": 0, "file": 0, "gfp": 0}
        self.devices.setdefault(space, [])
        self.rows.append(row | values | {"event": len(self.rows) + 1, "line": len(self.rows) + 10})
        return self

    def wait(self, ns: int) -> Script:
        self.now += ns
        return self

    def attach(self, device: str = NIC, space: int = 0) -> Script:
        source = parse_source_id(device)
        self.devices.setdefault(space, []).append(source)
        return self._add(ATTACH, space, source=source)

    def detach(self, device: str = NIC, space: int = 0) -> Script:
        return self._add(DETACH, space, source=parse_source_id(device))

    def map(self, iova: int, gpa: int, size: int = 4096, access: str = "rw", space: int = 0, **more: int) -> Script:
        return self._add(MAP, space, iova=iova, gpa=gpa, size=size, access=ACCESSES[access], **more)

    def unmap(self, iova: int, size: int = 4096, space: int = 0, **more: int) -> Script:
        return self._add(UNMAP, space, iova=iova, size=size, **more)

    def access(self, iova: int, size: int = 8, access: str = "r", space: int = 0, device: str | None = NIC) -> Script:
        source = NO_SOURCE if device is None else parse_source_id(device)
        return self._add(ACCESS, space, iova=iova, size=size, access=ACCESSES[access], source=source)

    def trace(self) -> Trace:
        """The trace so far."""
        types = {"time_ns": np.uint64, "event": np.uint64, "iova": np.uint64, "gpa": np.uint64, "size": np.uint64}
        types |= {"space": np.uint32, "source": np.uint32, "pasid": np.uint32, "line": np.uint32}
        types |= {"cpu": np.uint16, "file": np.uint16}
        columns = Columns(
            **{name: np.array([row[name] for row in self.rows], types.get(name, np.uint8)) for name in Columns.names()}
        )
        spaces = tuple(
            Space(index, f"space {index}", tuple(dict.fromkeys(devices)), None, bool(devices))
            for index, devices in sorted(self.devices.items())
        )
        return Trace(("script",), columns, spaces, SkippedLines(), (), len(self.rows), self.rule, {})
