"""The replay loop in C: columns of events, maps and unmaps with strict invalidation, and Python for everything else.

The loop is the software side and the unit at once, but they still meet in bytes: it writes descriptors into the queue,
writes IQT, executes the queue, and polls the status word, exactly as `UnitDriver` and `RemappingUnit` do. What it
cannot do it leaves undone, and says so: the caller does that event in Python and goes on.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any

from emulator.engine import QueueState
from emulator.mapping.driver import UnitDriver
from emulator.native import NativeEngine
from emulator.native_mapper import NativeMapper, Words
from pagetables.address import Gpa
from pagetables.errors import VtdError
from pagetables.layouts.descriptors import InvalidationWait, IotlbInvalidate, PasidIotlbInvalidate

if TYPE_CHECKING:
    from emulator._core import Lib

__all__ = ["NEVER", "EventColumns", "NativeReplay", "Stop"]

NEVER = (1 << 64) - 1
HALF = 1 << 63  # as far as a limit may go, so that sums of addresses in the core do not wrap
COUNTERS = (
    "maps",
    "unmaps",
    "unknown_access",
    "page_invalidations",
    "domain_invalidations",
    "pasid_page_invalidations",
    "pasid_invalidations",
)
ROOM = 4096  # table pages that one unmap may free without Python's help


class Stop(enum.IntEnum):
    """Why the loop returned."""

    END = 0  # every event is done
    LEFT = 1  # the event at `position` is for Python; nothing of it was done
    DEADLINE = 2  # the event at `position` is not before the deadline; not done
    FREED = 3  # the events before `position` are done; table pages wait in `freed`


class EventColumns:
    """Columns of events in contiguous memory (numpy arrays), of which C sees the bytes. All have one length."""

    TYPES = (
        ("kind", "uint8_t[]"),
        ("space", "uint32_t[]"),
        ("iova", "uint64_t[]"),
        ("gpa", "uint64_t[]"),
        ("size", "uint64_t[]"),
        ("access", "uint8_t[]"),
        ("leaf_levels", "uint8_t[]"),
        ("time", "uint64_t[]"),
    )

    def __init__(self, engine: NativeEngine, **columns: Words) -> None:
        self._views = [engine.ffi.from_buffer(kind, columns[name]) for name, kind in self.TYPES]
        lengths = {len(view) for view in self._views}
        if len(lengths) != 1:
            raise VtdError(f"columns of events differ in length: {sorted(lengths)}")
        self.length: int = lengths.pop()
        self.struct: Any = engine.ffi.new("struct core_events *", tuple(self._views))


class NativeReplay:
    """Replays events on a driver and a unit whose queue state is `queue`. `maps`, `unmaps`, `unknown_access` count."""

    def __init__(
        self, engine: NativeEngine, driver: UnitDriver, queue: QueueState, spaces: int, always: int = 0
    ) -> None:
        capabilities = driver.capabilities
        if capabilities.cap.cm or capabilities.cap.rwbf:
            raise VtdError("a unit in caching mode, or one that buffers writes, hears of each map: replay in Python")
        if queue.slot == 32 and not (capabilities.ecap.smts or capabilities.ecap.adms):
            raise VtdError("the queue is wider than the unit's modes allow")
        self.maps = self.unmaps = self.unknown_access = 0
        self.position = 0
        self._lib: Lib = engine.lib
        self._engine, self._driver, self._queue = engine, driver, queue
        self._mappers: dict[int, NativeMapper] = {}
        self._spaces = spaces
        self._domains = engine.ffi.new("struct core_domain[]", max(spaces, 1))
        self._position = engine.ffi.new("uint64_t *")
        self._struct: Any = engine.ffi.new("struct core_driver *")
        self._struct.always = always
        self._describe()

    def _describe(self) -> None:
        struct, queue, capabilities = self._struct, self._driver.queue, self._driver.capabilities
        struct.queue_base, struct.queue_size, struct.slot = queue.base, queue.size, queue.slot
        struct.status = queue.status
        mask = capabilities.largest_address_mask
        struct.mask_limit = 0 if mask is None else mask + 1
        struct.iotlb = IotlbInvalidate.of(type_lo=2, dr=capabilities.cap.drd, dw=capabilities.cap.dwd)
        struct.pasid_iotlb = PasidIotlbInvalidate.of(type_lo=6)
        struct.wait = InvalidationWait.of(type_lo=5, sw=1)

    def serve(self, space: int, mapper: NativeMapper, domain_id: int, iova_limit: int, gpa_limit: int) -> None:
        """From now on the loop does the events of `space`, in the tables of `mapper`."""
        mapper.reserve(ROOM)
        self._mappers[space] = mapper
        self._domains[space] = (mapper.struct, min(iova_limit, HALF), min(gpa_limit, HALF), domain_id)

    def leave(self, space: int) -> None:
        """From now on the events of `space` are left to Python."""
        if self._mappers.pop(space, None) is not None:
            self._domains[space] = (self._engine.ffi.NULL, 0, 0, 0)

    def run(self, events: EventColumns, end: int | None = None, deadline: int = NEVER) -> Stop:
        """Do events from `position` on, before `end` and before `deadline` (ns); why it stopped.

        After LEFT the caller does the event and sets `position` to the next one. After FREED it gives `freed` back.
        """
        self._enter()
        stop = self._lib.core_replay(
            self._struct,
            self._domains,
            self._spaces,
            events.struct,
            events.length if end is None else min(end, events.length),
            deadline,
            self._position,
        )
        self._return()
        if stop == self._lib.CORE_STOP_QUEUE:  # the unit takes over, as after any write of IQT
            self._driver.queue.ring()
            stop = Stop.FREED
        return Stop(stop)

    def freed(self, space: int) -> tuple[Gpa, ...]:
        """The table pages that the last event, of `space`, took out of the tables."""
        mapper = self._mappers.get(space)
        return mapper.freed() if mapper is not None else ()

    def _enter(self) -> None:
        self._struct.unit = self._engine.unit(self._queue)
        self._struct.tail, self._struct.sequence = self._driver.queue.tail, self._driver.queue.sequence
        self._position[0] = self.position

    def _return(self) -> None:
        struct, queue, counts = self._struct, self._driver.queue, self._driver.counts
        queue.tail, queue.sequence = struct.tail, struct.sequence
        self.position = self._position[0]
        self.maps += struct.maps
        self.unmaps += struct.unmaps
        self.unknown_access += struct.unknown_access
        pages, pasid_pages = struct.page_invalidations, struct.pasid_page_invalidations
        domains, pasids = struct.domain_invalidations, struct.pasid_invalidations
        counts.page += pages + pasid_pages
        counts.domain += domains
        counts.pasid += pasids
        counts.wait += pages + pasid_pages + domains + pasids
        queue.submitted[IotlbInvalidate.name] += pages + domains
        queue.submitted[PasidIotlbInvalidate.name] += pasid_pages + pasids
        queue.submitted[InvalidationWait.name] += pages + pasid_pages + domains + pasids
        for name in COUNTERS:
            setattr(struct, name, 0)
