"""One event model for everything that a trace can say.

An `Event` is one line of a trace. Five kinds are replayed (map, unmap, access, attach, detach); the others inform: they
tell to which device and domain the replayed ones belong, or are kept for the checks that read them.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

__all__ = [
    "GFP_CLASSES",
    "READ",
    "REPLAYED",
    "WRITE",
    "CacheTag",
    "Descriptor",
    "Detail",
    "Event",
    "Kind",
    "RegisterWrite",
    "Segments",
    "SpaceRef",
]

READ = 1
WRITE = 2

GFP_CLASSES = ("", "atomic", "nowait", "high", "noio", "nofs", "kernel", "memalloc")
"""What memory the caller of a map may ask for, by number; 0: the trace does not tell."""


class Kind(enum.IntEnum):
    """What happened. The first five are replayed."""

    MAP = 1
    UNMAP = 2
    ACCESS = 3
    ATTACH = 4
    DETACH = 5
    DMA_MAP = 6
    DMA_UNMAP = 7
    DMA_ALLOC = 8
    DMA_FREE = 9
    DMA_SYNC = 10
    DMA_MAP_SG = 11
    DMA_UNMAP_SG = 12
    DMA_ERROR = 13
    CACHE_TAG_ASSIGN = 14
    CACHE_TAG_UNASSIGN = 15
    CACHE_TAG_FLUSH = 16
    QI_SUBMIT = 17
    PAGE_REQUEST = 18
    FAULT = 19
    GROUP_ADD = 20
    GROUP_REMOVE = 21
    BOUNCE = 22
    OTHER = 23  # an event line that is not used; why is among the skipped
    SPACE = 24  # declares a space (JSON Lines); no event of the recorded system
    DMA_CHECK = 25  # somebody looked whether a map had failed; kernels trace none
    PAGE_FREE = 26  # pages go back to the system
    INVALIDATE = 27  # caches are told of a range; kernels show their descriptors instead (QI_SUBMIT)
    REGISTER_WRITE = 28  # software writes a register of the unit


REPLAYED = (Kind.MAP, Kind.UNMAP, Kind.ACCESS, Kind.ATTACH, Kind.DETACH)


class Segments(NamedTuple):
    """The lists of a scatter-gather event. An unmap has `physical` only."""

    iovas: tuple[int, ...]
    sizes: tuple[int, ...]
    physical: tuple[int, ...]
    truncated: bool  # the kernel prints at most 128 entries


class CacheTag(NamedTuple):
    """The tag of a cache_tag event: which unit's cache holds entries of which domain."""

    unit: str
    type: str
    pasid: int
    references: int  # users of the tag; 0 where the event does not say
    pages: bool  # a flush that prints `pages`, as kernels before 7 do


class Descriptor(NamedTuple):
    """The four qwords that software put into the invalidation queue of `unit`."""

    unit: str
    words: tuple[int, int, int, int]


class RegisterWrite(NamedTuple):
    """`value` written to the `size` bytes at `offset` of the unit's registers."""

    offset: int
    size: int
    value: int


class SpaceRef(NamedTuple):
    """A space that the trace itself declares (JSON Lines)."""

    number: int
    name: str = ""
    devices: tuple[str, ...] = ()
    attributed: bool = True


Detail = Segments | CacheTag | Descriptor | RegisterWrite | SpaceRef | str | int | None


class Event(NamedTuple):
    """One event line: where it stands, who caused it, what it says.

    Fields that a kind does not have are 0 or None. `access` is READ | WRITE, 0 where the line does not tell.
    """

    file: int  # index into Trace.files
    line: int  # from 1
    time_ns: int
    cpu: int
    pid: int
    task: str
    kind: Kind
    device: str | None = None  # as the line names it, such as 0000:00:1f.2
    domain: int | None = None  # domain-id
    iova: int = 0
    gpa: int = 0
    size: int = 0
    access: int = 0
    pasid: int | None = None
    leaf_levels: int = 0  # bit 0: 4 KiB, 1: 2 MiB, 2: 1 GiB; 0: not said
    detail: Detail = None
    gfp: int = 0  # index into GFP_CLASSES
