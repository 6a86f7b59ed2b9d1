"""A trace as columns: what is replayed, one row an event, ready for C without a copy."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from emulator.trace.event import Event, Kind
from emulator.trace.spaces import source_of

__all__ = ["NO_PASID", "NO_SOURCE", "NO_SPACE", "Columns", "Rows"]

NO_SOURCE = 0xFFFF_FFFF
NO_PASID = 0xFFFF_FFFF
NO_SPACE = -1

_BLOCK = 1 << 16


@dataclass(frozen=True, slots=True)
class Columns:
    """The replayable events in order of time, and in order of line where times are equal."""

    event: npt.NDArray[np.uint64]  # number of the event line among all lines, from 1
    time_ns: npt.NDArray[np.uint64]
    kind: npt.NDArray[np.uint8]  # Kind
    space: npt.NDArray[np.uint32]  # index into Trace.spaces
    source: npt.NDArray[np.uint32]  # source-id that attaches, detaches or accesses; NO_SOURCE where none is named
    pasid: npt.NDArray[np.uint32]  # NO_PASID for accesses without PASID
    iova: npt.NDArray[np.uint64]
    gpa: npt.NDArray[np.uint64]
    size: npt.NDArray[np.uint64]
    access: npt.NDArray[np.uint8]  # bit 0 read, bit 1 write
    leaf_levels: npt.NDArray[np.uint8]  # page sizes a map may use: bit 0 4 KiB, bit 1 2 MiB, bit 2 1 GiB
    cpu: npt.NDArray[np.uint16]
    file: npt.NDArray[np.uint16]  # index into Trace.files
    line: npt.NDArray[np.uint32]  # from 1

    def __len__(self) -> int:
        return len(self.kind)

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        column: npt.NDArray[Any] = getattr(self, name)
        return column

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(column.name for column in fields(cls))

    def take(self, which: npt.NDArray[Any] | slice) -> Columns:
        """The rows that a mask, a slice or an index array chooses."""
        return Columns(*(self[name][which] for name in self.names()))

    def rows(self) -> Iterator[dict[str, int]]:
        """Each row as a dictionary of Python integers: for reading, not for speed."""
        names = self.names()
        for values in zip(*(self[name].tolist() for name in names), strict=True):
            yield dict(zip(names, values, strict=True))


_TYPES = {
    "event": np.uint64, "time_ns": np.uint64, "kind": np.uint8, "source": np.uint32, "pasid": np.uint32,
    "iova": np.uint64, "gpa": np.uint64, "size": np.uint64, "cpu": np.uint16, "file": np.uint16, "line": np.uint32,
}  # fmt: skip


class Rows:
    """Columns as they grow. Space, access and leaf levels of a row may be told later than the row."""

    def __init__(self) -> None:
        self.space = array("i")
        self.access = array("B")
        self.leaf_levels = array("B")
        self.named = bytearray()  # 1: the event itself names its device or space
        self._block: list[tuple[int, ...]] = []
        self._done: list[dict[str, npt.NDArray[Any]]] = []

    def __len__(self) -> int:
        return len(self.space)

    def add(self, number: int, event: Event, space: int = NO_SPACE, named: bool = False) -> int:
        """Append event `number` as a row; the row's number."""
        file, line, time_ns, cpu, _, _, kind, device, _, iova, gpa, size, access, pasid, levels, _ = event
        source = source_of(device) if device is not None and kind > Kind.UNMAP else None
        self._block.append((
            number, time_ns, kind, NO_SOURCE if source is None else source, NO_PASID if pasid is None else pasid,
            iova, gpa, size, cpu, file, line,
        ))  # fmt: skip
        self.space.append(space)
        self.access.append(access)
        self.leaf_levels.append(levels)
        self.named.append(named)
        if len(self._block) == _BLOCK:
            self._pack()
        return len(self.space) - 1

    def _pack(self) -> None:
        values = zip(*self._block, strict=True)
        self._done.append({name: np.array(column, _TYPES[name]) for name, column in zip(_TYPES, values, strict=True)})
        self._block = []

    def columns(self) -> Columns:
        """Everything so far; spaces by the numbers they had when told."""
        if self._block:
            self._pack()
        joined = {
            name: np.concatenate([block[name] for block in self._done]) if self._done else np.zeros(0, kind)
            for name, kind in _TYPES.items()
        }
        return Columns(
            space=np.array(self.space, np.int32).view(np.uint32),
            access=np.array(self.access, np.uint8),
            leaf_levels=np.array(self.leaf_levels, np.uint8),
            **joined,
        )
