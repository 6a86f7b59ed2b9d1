"""A register page: declared registers over bytes, with access rules, and handlers matched when the class is made.

    class Page(RegisterFile):
        gcmd = Slot(GlobalCommand)
        gsts = Slot(GlobalStatus)

        @on_write(gcmd)
        def commanded(self, new: GlobalCommand, old: GlobalCommand) -> None: ...

The state is the bytes in `registers`; `page.gsts` reads a word from them and `page.gsts = word` is the hardware's own
hand, which no access rule binds. Software comes through `read` and `write` only (VT-d, register map: aligned accesses
of 4 or 8 bytes, 64-bit registers in two halves in any order; everything else reads 0 and writes nothing).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Self, TypeVar, overload

from pagetables.address import PAGE_SIZE
from pagetables.bits import Access
from pagetables.errors import LayoutError
from pagetables.layouts.registers import Register

__all__ = ["Copies", "RegisterFile", "Slot", "on_write"]

R = TypeVar("R", bound=Register)
F = TypeVar("F", bound="RegisterFile")

_WRITABLE = (Access.RW, Access.WO)
_CLEARED_BY_ONE = (Access.RW1C, Access.RW1CS)
_READ_AS_ZERO = (Access.WO, Access.RSVD)
_STICKY = (Access.ROS, Access.RW1CS)
_MARK = "_handles_write_of"


def _mask(layout: type[Register], *kinds: Access) -> int:
    return sum(field.mask for field in layout.fields_by_name.values() if field.access in kinds)


class Slot(Generic[R]):
    """A register of a file. On an instance it is the word now; assigning stores one, past all access rules."""

    def __init__(self, layout: type[R]) -> None:
        self.layout = layout
        self.name = ""

    def __set_name__(self, owner: type[RegisterFile], name: str) -> None:
        self.name = name

    @overload
    def __get__(self, file: None, owner: type[RegisterFile]) -> Self: ...
    @overload
    def __get__(self, file: RegisterFile, owner: type[RegisterFile]) -> R: ...
    def __get__(self, file: RegisterFile | None, owner: type[RegisterFile]) -> Self | R:
        return self if file is None else self.load(file)

    def __set__(self, file: RegisterFile, value: R) -> None:
        self.store(file, value)

    def load(self, file: RegisterFile, index: int = 0) -> R:
        """The word in `file` (its copy number `index`); 0 where the file does not implement the register."""
        offset = file.offset_of(self, index)
        if offset is None:
            return self.layout(0)
        size = self.layout.width // 8
        return self.layout.from_bytes(file.registers[offset : offset + size])

    def value(self, file: RegisterFile) -> int:
        """The word as a plain integer, for loops that have no time for fields."""
        offset = file.offset_of(self)
        if offset is None:
            return 0
        return int.from_bytes(file.registers[offset : offset + self.layout.width // 8], "little")

    def store(self, file: RegisterFile, value: R, index: int = 0) -> None:
        """Put `value` into `file`; nothing where the file does not implement the register."""
        offset = file.offset_of(self, index)
        if offset is not None:
            file.registers[offset : offset + self.layout.width // 8] = value.pack()


class Copies(Generic[R]):
    """A register that a file holds several times; on an instance, a list of words to index and assign."""

    def __init__(self, layout: type[R]) -> None:
        self.slot = Slot(layout)

    def __set_name__(self, owner: type[RegisterFile], name: str) -> None:
        self.slot.name = name

    @overload
    def __get__(self, file: None, owner: type[RegisterFile]) -> Slot[R]: ...
    @overload
    def __get__(self, file: RegisterFile, owner: type[RegisterFile]) -> _Words[R]: ...
    def __get__(self, file: RegisterFile | None, owner: type[RegisterFile]) -> Slot[R] | _Words[R]:
        return self.slot if file is None else _Words(file, self.slot)


class _Words(Generic[R]):
    def __init__(self, file: RegisterFile, slot: Slot[R]) -> None:
        self._file = file
        self._slot = slot

    def __len__(self) -> int:
        return self._file.copies_of(self._slot)

    def __getitem__(self, index: int) -> R:
        if not 0 <= index < len(self):
            raise IndexError(f"{self._slot.name} has {len(self)} copies, there is no number {index}")
        return self._slot.load(self._file, index)

    def __setitem__(self, index: int, value: R) -> None:
        self._slot.store(self._file, value, index)

    def __iter__(self) -> Iterator[R]:
        return (self[index] for index in range(len(self)))


def on_write(slot: Slot[R], *fields: str) -> Callable[[Callable[[F, R, R], None]], Callable[[F, R, R], None]]:
    """Decorator: the method gets (new, old) after software wrote `slot`.

    With `fields`, only writes that cover one of them count: a 64-bit command register acts on the half that holds its
    start bit. A field the register does not have is an error at once.
    """
    mask = 0
    for name in fields:
        mask |= slot.layout.field(name).mask

    def mark(method: Callable[[F, R, R], None]) -> Callable[[F, R, R], None]:
        setattr(method, _MARK, (slot, mask or (1 << slot.layout.width) - 1))
        return method

    return mark


@dataclass(frozen=True, slots=True)
class _Placed:
    slot: Slot[Any]
    offset: int
    writable: int
    cleared: int
    readable: int


class RegisterFile:
    """One page of registers. Subclasses declare `Slot`s and handlers; `place` puts them where capabilities say."""

    slots: ClassVar[dict[str, Slot[Any]]] = {}
    handlers: ClassVar[dict[str, list[tuple[int, str]]]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.slots = dict(cls.slots)
        cls.handlers = {name: list(known) for name, known in cls.handlers.items()}
        for value in vars(cls).values():
            slot = value.slot if isinstance(value, Copies) else value
            if isinstance(slot, Slot):
                cls.slots[slot.name] = slot
        for name, value in vars(cls).items():
            if hasattr(value, _MARK):
                cls._match(name, *getattr(value, _MARK))

    @classmethod
    def _match(cls, method: str, slot: Slot[Any], mask: int) -> None:
        if cls.slots.get(slot.name) is not slot:
            known = ", ".join(sorted(cls.slots))
            raise LayoutError(f"{cls.__name__}.{method} handles {slot.name or 'a register'}, which is not in: {known}")
        cls.handlers.setdefault(slot.name, []).append((mask, method))

    def __init__(self) -> None:
        self.registers = bytearray(PAGE_SIZE)
        self._first: dict[str, tuple[int, int, int]] = {}  # name: offset, spacing, copies
        self._at: dict[int, _Placed] = {}  # by offset, one item for each dword

    def place(self, bases: Mapping[str, int]) -> None:
        """Give every implemented register its offset; `bases` is what `mmio_base` names. LayoutError on overlap."""
        for name, slot in self.slots.items():
            layout, copies = slot.layout, self.implemented(slot.layout)
            base = 0 if layout.mmio_base is None else bases[layout.mmio_base]
            if copies:
                self._first[name] = (base + layout.mmio_offset, layout.spacing, copies)
            for index in range(copies):
                self._place(slot, base + layout.mmio_offset + index * layout.spacing)

    def _place(self, slot: Slot[Any], offset: int) -> None:
        layout = slot.layout
        if offset + layout.width // 8 > PAGE_SIZE:
            raise LayoutError(f"{layout.name} at {offset:#x} lies outside the register page of {PAGE_SIZE:#x} bytes")
        live = ~self.unimplemented(layout)
        placed = _Placed(
            slot,
            offset,
            writable=_mask(layout, *_WRITABLE) & live | self.surplus(layout),
            cleared=_mask(layout, *_CLEARED_BY_ONE) & live,
            readable=((1 << layout.width) - 1) & ~_mask(layout, *_READ_AS_ZERO) & live | self.surplus(layout),
        )
        for dword in range(offset, offset + layout.width // 8, 4):
            other = self._at.setdefault(dword, placed)
            if other is not placed:
                raise LayoutError(
                    f"{layout.name} at {offset:#x} overlaps {other.slot.layout.name} at {other.offset:#x}"
                )

    def implemented(self, layout: type[Register]) -> int:
        """How many copies of a register there are; 0 where the offset is reserved."""
        return 1

    def unimplemented(self, layout: type[Register]) -> int:
        """Bits that read 0 and ignore writes although the layout has a field there."""
        return 0

    def surplus(self, layout: type[Register]) -> int:
        """Reserved bits that can be written, and read back, all the same."""
        return 0

    def offset_of(self, slot: Slot[Any], index: int = 0) -> int | None:
        """Where a register lies in the page, or None if it is not implemented."""
        first = self._first.get(slot.name)
        return None if first is None else first[0] + index * first[1]

    def copies_of(self, slot: Slot[Any]) -> int:
        """How many copies of a register the page holds."""
        return self._first.get(slot.name, (0, 0, 0))[2]

    def power_on(self, warm: bool = False) -> None:
        """Every register at its reset value. A warm reset leaves the sticky fields."""
        for placed in dict.fromkeys(self._at.values()):
            layout = placed.slot.layout
            kept = self._raw(placed) & _mask(layout, *_STICKY) if warm else 0
            self._set_raw(placed, (layout.power_on or 0) | kept)

    def _raw(self, placed: _Placed) -> int:
        size = placed.slot.layout.width // 8
        return int.from_bytes(self.registers[placed.offset : placed.offset + size], "little")

    def _set_raw(self, placed: _Placed, value: int) -> None:
        size = placed.slot.layout.width // 8
        self.registers[placed.offset : placed.offset + size] = value.to_bytes(size, "little")

    def _covered(self, offset: int, size: int) -> tuple[_Placed, ...]:
        if size not in (4, 8) or offset % size or not 0 <= offset < PAGE_SIZE:
            return ()
        found = (self._at.get(dword) for dword in range(offset, offset + size, 4))
        return tuple(dict.fromkeys(placed for placed in found if placed is not None))

    def read(self, offset: int, size: int) -> int:
        """What software reads: 0 from reserved offsets and bits, from write-only fields and for any other size."""
        value = 0
        for placed in self._covered(offset, size):
            value |= _shifted(self._raw(placed) & placed.readable, 8 * (placed.offset - offset))
        return value & (1 << 8 * size) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        """Software writes `value`. An 8-byte access to two 32-bit registers writes both, the lower one first."""
        limit = (1 << 8 * size) - 1
        for placed in self._covered(offset, size):
            shift = 8 * (offset - placed.offset)
            self._write(placed, _shifted(value & limit, shift), _shifted(limit, shift))

    def _write(self, placed: _Placed, data: int, covered: int) -> None:
        layout = placed.slot.layout
        old = self._raw(placed)
        taken = placed.writable & covered
        new = (old & ~taken | data & taken) & ~(data & covered & placed.cleared)
        self._set_raw(placed, new)
        for mask, method in self.handlers.get(placed.slot.name, ()):
            if mask & covered:
                getattr(self, method)(layout(new), layout(old))

    def read32(self, offset: int) -> int:
        """The 32-bit register at `offset`."""
        return self.read(offset, 4)

    def read64(self, offset: int) -> int:
        """The 64-bit register at `offset`."""
        return self.read(offset, 8)

    def write32(self, offset: int, value: int) -> None:
        """Write 32 bits at `offset`."""
        self.write(offset, 4, value)

    def write64(self, offset: int, value: int) -> None:
        """Write 64 bits at `offset`."""
        self.write(offset, 8, value)

    def register_page(self) -> bytes:
        """The page as software would read it: what an image of the machine holds."""
        page = bytearray(PAGE_SIZE)
        for dword in self._at:
            page[dword : dword + 4] = self.read(dword, 4).to_bytes(4, "little")
        return bytes(page)


def _shifted(value: int, by: int) -> int:
    return value << by if by >= 0 else value >> -by
