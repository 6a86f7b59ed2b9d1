"""The native mapper: pages of tables come from Python on demand, everything else happens in C."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from emulator.native_memory import NativeMemory
from pagetables.address import GPA_LIMIT, PAGE_SIZE, Gpa, Iova, level_size
from pagetables.errors import AlreadyMapped, MappingError, NoMemory, NotMapped, OutOfPages, VtdError
from pagetables.formats import FIRST_STAGE, SECOND_STAGE
from pagetables.mapper import PageTable, Stage, TableAllocator, Unmapped, check_map, check_unmap
from pagetables.request import Permissions

if TYPE_CHECKING:
    from emulator._core import Lib

__all__ = ["NativeMapper", "Words"]

Words = Any  # whatever holds unsigned 64-bit integers in a row: array("Q"), a numpy array
ROOM = 16  # items of a list at first; it grows


class NativeMapper:
    """Maps and unmaps in one `PageTable`. `struct` is a `struct core_mapper`."""

    def __init__(self, ffi: Any, lib: Lib, memory: NativeMemory, table: PageTable, allocator: TableAllocator) -> None:
        if table.root % PAGE_SIZE:
            raise MappingError(f"the root table at {table.root:#x} is not aligned to {PAGE_SIZE:#x}", 0)
        self.table = table
        self._ffi, self._lib = ffi, lib
        self._limit = table.limit
        self._memory = memory
        self._allocator = allocator
        self._items: dict[str, Any] = {}  # keeps the arrays of the lists alive
        self.struct: Any = ffi.new("struct core_mapper *")
        self._describe()

    def _describe(self) -> None:
        table, struct = self.table, self.struct
        form = FIRST_STAGE if table.stage is Stage.FIRST else SECOND_STAGE
        struct.memory = self._memory.struct
        struct.root, struct.levels, struct.limit = table.root, table.levels, table.limit
        struct.leaf_levels = sum(1 << level for level in table.leaf_levels)
        struct.first_stage = table.stage is Stage.FIRST
        struct.present, struct.link = form.present, form.link
        struct.leaf = [form.leaf(Gpa(0), 1, Permissions(bits), snoop=table.snoop) for bits in range(4)]
        for name in ("pages", "freed", "undo"):
            self._enlarge(name, ROOM)

    def _enlarge(self, name: str, capacity: int) -> None:
        held = getattr(self.struct, name)
        items = self._ffi.new("uint64_t[]", capacity)
        if held.count:
            self._ffi.memmove(items, held.items, held.count * 8)
        held.items, held.capacity = items, capacity
        self._items[name] = items

    def map(self, iova: Iova, gpa: Gpa, size: int, permissions: Permissions) -> tuple[Gpa, ...]:
        """Map `size` bytes with the largest pages possible; table pages that larger leaves replaced. All or nothing."""
        if not self._can_hold(iova, gpa, size, permissions):
            check_map(self.table, iova, gpa, size, permissions)
        status = self._lib.core_map(self.struct, iova, gpa, size, permissions)
        if status:
            self._finish_map(status)
        return self.freed()

    def _can_hold(self, iova: int, gpa: int, size: int, permissions: int) -> bool:
        # What check_map finds nothing wrong with; it costs more than the mapping, and says what is wrong.
        all_bits = iova | gpa | size
        whole = all_bits > 0 < size and not all_bits & (PAGE_SIZE - 1)
        return whole and iova + size <= self._limit and gpa + size <= GPA_LIMIT and int(permissions) & 3 != 0

    def _finish_map(self, status: int) -> None:
        try:
            while status:
                self._help(status)
                status = self._lib.core_map_more(self.struct)
        except MappingError:
            self._lib.core_map_undo(self.struct)
            raise

    def unmap(self, iova: Iova, size: int) -> Unmapped:
        """Remove what is mapped from `iova` on, up to the first hole; tables that the range covers are handed back."""
        if not self._can_hold(iova, 0, size, 3):
            check_unmap(self.table, iova, size)
        status = self._lib.core_unmap(self.struct, iova, size)
        while status:
            self._help(status)
            status = self._lib.core_unmap_more(self.struct)
        return Unmapped(self.struct.done, self.freed())

    def split(self, iova: Iova) -> None:
        """Replace the leaf that maps `iova` by a table of leaves one level down that say the same."""
        check_unmap(self.table, iova & -PAGE_SIZE, PAGE_SIZE)
        while status := self._lib.core_split(self.struct, iova):
            self._help(status)

    def map_many(self, iovas: Words, gpas: Words, permissions: Permissions) -> None:
        """Map pages of 4 KiB, in order. What a refused page follows stays mapped."""
        ffi, lib = self._ffi, self._lib
        from_, to = ffi.from_buffer("uint64_t[]", iovas), ffi.from_buffer("uint64_t[]", gpas)
        if len(from_) != len(to):
            raise VtdError(f"{len(from_)} addresses cannot be mapped to {len(to)}")
        check_map(self.table, 0, 0, PAGE_SIZE, permissions)
        next_ = ffi.new("uint64_t *")
        while status := lib.core_map_many(self.struct, from_, to, len(from_), permissions, next_):
            if status == lib.CORE_BAD_RANGE:
                check_map(self.table, from_[next_[0]], to[next_[0]], PAGE_SIZE, permissions)
            self._help(status)

    def unmap_many(self, iovas: Words) -> int:
        """Unmap pages of 4 KiB, in order; the bytes removed. What a refused page follows stays unmapped."""
        ffi, lib = self._ffi, self._lib
        from_, next_ = ffi.from_buffer("uint64_t[]", iovas), ffi.new("uint64_t *")
        if status := lib.core_unmap_many(self.struct, from_, len(from_), next_):
            if status == lib.CORE_BAD_RANGE:
                check_unmap(self.table, from_[next_[0]], PAGE_SIZE)
            self._help(status)
        return int(self.struct.total)

    def freed(self) -> tuple[Gpa, ...]:
        """The table pages that the last map or unmap took out of the tables, in order."""
        freed = self.struct.freed
        return tuple(freed.items[0 : freed.count]) if freed.count else ()

    def reserve(self, room: int) -> None:
        """Make room for that many freed tables, so that no call has to come back for more."""
        if self.struct.freed.capacity < room:
            self._enlarge("freed", room)

    def _help(self, status: int) -> None:
        # Give the core what it stopped for, or raise what it found.
        lib, struct = self._lib, self.struct
        if status == lib.CORE_NEED_PAGE:
            self._give_page()
        elif status == lib.CORE_NEED_ROOM:
            for name in ("freed", "undo"):
                self._enlarge(name, 2 * getattr(struct, name).capacity)
        else:
            raise self._refusal(status, struct.at, struct.level)

    def _give_page(self) -> None:
        struct = self.struct
        page = self._allocator.take()
        if page is None:
            at = struct.iova + struct.done
            raise OutOfPages(f"no page for a table at {at:#x}", at)
        struct.pages.items[0] = page
        struct.pages.count = 1

    def _refusal(self, status: int, at: int, level: int) -> VtdError:
        lib = self._lib
        match status:
            case lib.CORE_ALREADY_MAPPED:
                return AlreadyMapped(f"{at:#x} is mapped already, by a page of {level_size(level):#x} bytes", at)
            case lib.CORE_IN_THE_MIDDLE:
                page = level_size(level)
                return NotMapped(f"{at:#x} lies in the middle of the page of {page:#x} bytes at {at & -page:#x}", at)
            case lib.CORE_NO_FIT:
                levels = sorted(self.table.leaf_levels)
                return MappingError(f"no page size of levels {levels} fits the rest of the range at {at:#x}", at)
            case lib.CORE_CANNOT_SPLIT:
                return MappingError(f"the page of {level_size(level):#x} bytes at {at:#x} cannot be split", at)
            case lib.CORE_NO_MEMORY:
                return NoMemory(at, level)
        return NotMapped(f"nothing is mapped at {at:#x}", at)
