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
    access: npt.NDArray[np.uint8]  # bit 0 read, bit 1 write; 0: the trace does not tell
    leaf_levels: npt.NDArray[np.uint8]  # page sizes a map may use: bit 0 4 KiB, bit 1 2 MiB, bit 2 1 GiB
    cpu: npt.NDArray[np.uint16]
    file: npt.NDArray[np.uint16]  # index into Trace.files
    line: npt.NDArray[np.uint32]  # from 1
    gfp: npt.NDArray[np.uint8]  # index into GFP_CLASSES: what memory a map's caller may ask for; 0: not told

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


class Rows:
    """Columns as they grow. Space, access, leaf levels and gfp class of a row may be told later than the row."""

    def __init__(self) -> None:
        self.space = array("i")
        self.access = array("B")
        self.leaf_levels = array("B")
        self.gfp = array("B")
        self.named = bytearray()  # 1: the event itself names its device or space
        self._numbers = array("Q")
        self._block: list[Event] = []
        self._done: list[dict[str, npt.NDArray[Any]]] = []

    def __len__(self) -> int:
        return len(self.space)

    def add(self, number: int, event: Event, space: int = NO_SPACE, named: bool = False) -> int:
        """Append event `number` as a row; the row's number."""
        self._numbers.append(number)
        self._block.append(event)
        self.space.append(space)
        self.access.append(event.access)
        self.leaf_levels.append(event.leaf_levels)
        self.gfp.append(event.gfp)
        self.named.append(named)
        if len(self._block) == _BLOCK:
            self._pack()
        return len(self.space) - 1

    def _pack(self) -> None:
        values = dict(zip(Event._fields, zip(*self._block, strict=True), strict=True))
        sources = map(_source, values["kind"], values["device"])
        pasids = [NO_PASID if pasid is None else pasid for pasid in values["pasid"]]
        packed = {name: np.array(values[name], kind) for name, kind in _TYPES.items()}
        self._done.append(packed | {"source": np.array(list(sources), np.uint32), "pasid": np.array(pasids, np.uint32)})
        self._block = []

    def columns(self) -> Columns:
        """Everything so far; spaces by the numbers they had when told."""
        if self._block or not self._done:
            self._pack() if self._block else self._done.append(_EMPTY)
        joined = {name: np.concatenate([block[name] for block in self._done]) for name in self._done[0]}
        return Columns(
            event=np.array(self._numbers, np.uint64),
            space=np.array(self.space, np.int32).view(np.uint32),
            access=np.array(self.access, np.uint8),
            leaf_levels=np.array(self.leaf_levels, np.uint8),
            gfp=np.array(self.gfp, np.uint8),
            **joined,
        )


_TYPES = {
    "time_ns": np.uint64, "kind": np.uint8, "iova": np.uint64, "gpa": np.uint64, "size": np.uint64,
    "cpu": np.uint16, "file": np.uint16, "line": np.uint32,
}  # fmt: skip
_EMPTY = {name: np.zeros(0, kind) for name, kind in {**_TYPES, "source": np.uint32, "pasid": np.uint32}.items()}


def _source(kind: int, device: str | None) -> int:
    # A map or unmap belongs to its space, whoever is attached.
    source = source_of(device) if device is not None and kind > Kind.UNMAP else None
    return NO_SOURCE if source is None else source
