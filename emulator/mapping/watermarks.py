"""Who may ask for a page, and how deep each class of request may dig: Linux's GFP classes and a zone's watermarks.

Source: mm/page_alloc.c and include/linux/gfp_types.h. A request of order 0 is refused when it would leave fewer free
pages than its floor. That PF_MEMALLOC may take everything is from memory, not read in the source.

    KERNEL, NOFS, NOIO   min, after direct reclaim (NOFS writes no files, NOIO writes nothing at all)
    NOWAIT               min
    HIGH                 1/2 of min    __GFP_HIGH alone, or GFP_ATOMIC with __GFP_NOMEMALLOC
    ATOMIC               3/8 of min    __GFP_HIGH of a caller that cannot block
    MEMALLOC             0
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

from pagetables.address import PAGE_SHIFT, PAGE_SIZE
from pagetables.errors import InputError, near

__all__ = ["Gfp", "Watermarks"]

MIN_FREE_KIB = (128, 262144)  # what min_free_kbytes is clamped to


class Gfp(enum.Enum):
    """The class of a page request: what it may wait for and how deep it may dig."""

    KERNEL = "kernel"
    NOFS = "nofs"
    NOIO = "noio"
    NOWAIT = "nowait"
    HIGH = "high"
    ATOMIC = "atomic"
    MEMALLOC = "memalloc"

    @classmethod
    def named(cls, text: str) -> Gfp:
        """The class called `text` (`kernel`, `atomic`, ...); InputError for any other name."""
        known = {gfp.value: gfp for gfp in cls}
        if text not in known:
            raise InputError(f"no class of request is called {text!r}; {near(text, known)}")
        return known[text]

    @property
    def may_sleep(self) -> bool:
        """True if the caller may wait: for reclaim, or for somebody who gives a page back."""
        return self in (Gfp.KERNEL, Gfp.NOFS, Gfp.NOIO)

    @property
    def may_write(self) -> bool:
        """True if reclaim on the caller's behalf may start I/O at all (__GFP_IO)."""
        return self in (Gfp.KERNEL, Gfp.NOFS)

    @property
    def may_write_files(self) -> bool:
        """True if reclaim on the caller's behalf may enter a file system (__GFP_FS)."""
        return self is Gfp.KERNEL

    @property
    def without_waiting(self) -> Gfp:
        """The class that is left when the caller gives up waiting and I/O; the reserves it may use stay."""
        return Gfp.NOWAIT if self.may_sleep else self


@dataclass(frozen=True, slots=True)
class Watermarks:
    """Free pages: `min` is the floor of ordinary requests, `low` wakes the reclaimer, `high` lets it sleep."""

    min: int
    low: int
    high: int

    @classmethod
    def of(cls, managed: int, min_free_kib: int | None = None, scale: int = 10) -> Watermarks:
        """The marks of a zone of `managed` pages; `scale` is watermark_scale_factor, in 1/10000 of the zone."""
        if min_free_kib is None:
            least, most = MIN_FREE_KIB
            min_free_kib = min(max(math.isqrt(16 * managed * (PAGE_SIZE >> 10)), least), most)
        floor = min_free_kib * 1024 >> PAGE_SHIFT
        step = max(floor // 4, managed * scale // 10000)
        return cls(floor, floor + step, floor + 2 * step)

    def floor(self, gfp: Gfp) -> int:
        """Free pages that a request of this class must leave."""
        half = self.min - self.min // 2
        match gfp:
            case Gfp.MEMALLOC:
                return 0
            case Gfp.ATOMIC:  # __GFP_HIGH takes off a half, a caller that cannot block a quarter of what was taken
                return half - self.min // 2 // 4
            case Gfp.HIGH:
                return half
            case _:
                return self.min
