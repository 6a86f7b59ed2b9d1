"""Words and their fields: a word is its raw integer, seen through a layout that tiles it.

A layout is a class. Every bit of the word is declared exactly once, from bit 0 upwards, as a field, as reserved or
as ignored; a hole or an overlap fails when the class is created. A value of the class is an `int`: it compares,
hashes and packs as one, and never changes.

    class SsPte(Word, width=64):
        r = Bits(0)
        w = Bits(1)
        ...

    SsPte.of(r=1, addr=0x1234)      SsPte(0x1234001).addr      SsPte.addr.mask
"""

from __future__ import annotations

import enum
from typing import Any, ClassVar, Never, Self, overload

from pagetables.errors import LayoutError, UnknownField, near

__all__ = ["Access", "Bits", "HW", "Ignored", "RO", "ROS", "RW", "RW1C", "RW1CS", "Reserved", "WO", "Word"]


class Access(enum.Enum):
    """Who may change a field, and how; the value is the tag used in fixtures/layouts."""

    SW = "SW"  # written by software, in memory
    HW = "HW"  # written by hardware, in memory
    RSVD = "RSVD"  # reserved: must be zero; checked where the specification checks it
    IGN = "IGN"  # ignored: never checked
    RO = "RO"  # register: read only
    RW = "RW"  # register: read and write
    WO = "WO"  # register: reads return 0
    ROS = "ROS"  # register: read only, keeps its value over a warm reset
    RW1C = "RW1C"  # register: writing 1 clears
    RW1CS = "RW1CS"  # register: writing 1 clears, keeps its value over a warm reset


class Bits:
    """A field of a `Word`: bits `hi` to `lo`, inclusive, counted from bit 0.

    Of a word it reads as a plain integer, since a guest can write any value; `values` names those with a meaning.
    `address` marks a field that holds the upper bits of an address (or offset) which lies in place in its qword.
    """

    access: ClassVar[Access] = Access.SW

    def __init__(
        self,
        hi: int,
        lo: int | None = None,
        about: str = "",
        *,
        values: type[enum.IntEnum] | None = None,
        address: bool = False,
    ) -> None:
        self.hi = hi
        self.lo = hi if lo is None else lo
        self.about = about
        self.values = values
        self.address = address
        self.name = ""
        if not 0 <= self.lo <= self.hi:
            raise LayoutError(f"bits {self.hi}:{self.lo}: expected high bit, then low bit, counted from 0")
        self.limit = (1 << self.width) - 1

    def __set_name__(self, owner: type[Word], name: str) -> None:
        self.name = name

    @overload
    def __get__(self, word: None, owner: type[Word]) -> Self: ...
    @overload
    def __get__(self, word: Word, owner: type[Word]) -> int: ...
    def __get__(self, word: Word | None, owner: type[Word]) -> Self | int:
        return self if word is None else int(word) >> self.lo & self.limit

    def __set__(self, word: Word, value: Never) -> None:  # Never: a type checker refuses it, too
        raise AttributeError(f"a word never changes: use replace({self.name}=...), which returns another")

    @property
    def width(self) -> int:
        """Number of bits."""
        return self.hi - self.lo + 1

    @property
    def mask(self) -> int:
        """The field's bits, in place."""
        return self.limit << self.lo

    @property
    def label(self) -> str:
        """The manual's name: upper case, without the underscore that keeps Python's keywords apart."""
        return self.name.rstrip("_").upper()

    def place(self, value: int) -> int:
        """`value` shifted into place; LayoutError if it does not fit."""
        if not 0 <= value <= self.limit:
            raise LayoutError(f"{self.name}={value:#x} does not fit bits {self.hi}:{self.lo} (at most {self.limit:#x})")
        return int(value) << self.lo


class HW(Bits):
    """Written by hardware (accessed and dirty bits, logs)."""

    access = Access.HW


class RO(Bits):
    """Register field: software can only read it."""

    access = Access.RO


class RW(Bits):
    """Register field: software reads and writes it."""

    access = Access.RW


class WO(Bits):
    """Register field: writes act, reads return 0."""

    access = Access.WO


class ROS(Bits):
    """Register field: read only, sticky over a warm reset."""

    access = Access.ROS


class RW1C(Bits):
    """Register field: writing 1 clears the bit, writing 0 leaves it."""

    access = Access.RW1C


class RW1CS(Bits):
    """Register field: writing 1 clears the bit; sticky over a warm reset."""

    access = Access.RW1CS


class Reserved(Bits):
    """Must be zero."""

    access = Access.RSVD


class Ignored(Bits):
    """Never looked at by hardware."""

    access = Access.IGN


class Word(int):
    """Base of all layouts. A subclass gives `width` (bits) and declares fields from bit 0 upwards, or inherits both."""

    width: ClassVar[int] = 0
    name: ClassVar[str] = ""
    fields_by_name: ClassVar[dict[str, Bits]] = {}
    reserved_mask: ClassVar[int] = 0
    ignored_mask: ClassVar[int] = 0

    def __init_subclass__(cls, *, width: int | None = None, name: str | None = None, **more: Any) -> None:
        super().__init_subclass__(**more)
        if width is not None:
            cls.width = width
        cls.name = name if name is not None else cls.__name__.lower()
        own = {key: value for key, value in vars(cls).items() if isinstance(value, Bits)}
        if own:
            cls._check_names(own)
            cls._check_tiling(own)
            cls.fields_by_name = own
            cls.reserved_mask = sum(f.mask for f in own.values() if f.access is Access.RSVD)
            cls.ignored_mask = sum(f.mask for f in own.values() if f.access is Access.IGN)

    @classmethod
    def _check_names(cls, fields: dict[str, Bits]) -> None:
        if cls.fields_by_name:
            raise LayoutError(f"{cls.__name__}: declares fields of its own and inherits others; expected one of both")
        hidden = [name for name in fields if any(hasattr(base, name) for base in cls.__bases__)]
        if hidden:
            raise LayoutError(f"{cls.__name__}.{hidden[0]}: hides what every word has under that name; append a _")

    @classmethod
    def _check_tiling(cls, fields: dict[str, Bits]) -> None:
        expected = 0
        for field in fields.values():
            if field.lo != expected:
                raise LayoutError(f"{cls.__name__}.{field.name}: starts at bit {field.lo}, expected {expected}")
            expected = field.hi + 1
        if expected != cls.width:
            raise LayoutError(f"{cls.__name__}: declared up to bit {expected - 1}, but the word has {cls.width} bits")

    def __new__(cls, value: int = 0) -> Self:
        if not 0 <= value < 1 << cls.width:
            raise LayoutError(f"{cls.__name__}: {value:#x} does not fit {cls.width} bits")
        return super().__new__(cls, value)

    @classmethod
    def field(cls, name: str) -> Bits:
        """The field called `name` (any case); UnknownField with what is near otherwise."""
        key = name.lower()
        found = cls.fields_by_name.get(key) or cls.fields_by_name.get(key + "_")
        if found is None:
            raise UnknownField(f"{cls.__name__} has no field {name!r}; {near(key, cls.fields_by_name)}")
        return found

    @classmethod
    def of(cls, **values: int) -> Self:
        """A word with the fields given, everything else 0."""
        return cls(0).replace(**values)

    def replace(self, **values: int) -> Self:
        """The same word with the fields given changed."""
        raw = int(self)
        for name, value in values.items():
            field = self.field(name)
            raw = raw & ~field.mask | field.place(value)
        return type(self)(raw)

    def fields(self) -> dict[str, int]:
        """The manual's field names, in lower case, to values; in bit order, without reserved and ignored bits."""
        shown = (field for field in self.fields_by_name.values() if field.access not in (Access.RSVD, Access.IGN))
        return {field.label.lower(): int(self) >> field.lo & field.limit for field in shown}

    @classmethod
    def from_bytes(  # type: ignore[override]  # a word knows its own length and byte order
        cls, data: bytes | bytearray | memoryview
    ) -> Self:
        """The word stored little-endian in `data`, which must be exactly `width` bits long."""
        if len(data) * 8 != cls.width:
            raise LayoutError(f"{cls.__name__} is {cls.width // 8} bytes, got {len(data)}")
        return cls(int.from_bytes(bytes(data), "little"))

    def pack(self) -> bytes:
        """The word as it lies in memory: little-endian, `width` bits."""
        return int(self).to_bytes(self.width // 8, "little")

    @classmethod
    def from_qwords(cls, *qwords: int) -> Self:
        """The word from its 64-bit parts, lowest first: exactly as many as it has."""
        expected = max(cls.width // 64, 1)
        if len(qwords) != expected or not all(0 <= part < 1 << 64 for part in qwords):
            given = ", ".join(f"{part:#x}" for part in qwords)
            raise LayoutError(f"{cls.__name__} is made of {expected} words of 64 bits, got {given or 'none'}")
        return cls(sum(part << 64 * i for i, part in enumerate(qwords)))

    def qwords(self) -> tuple[int, ...]:
        """The word in 64-bit parts, lowest first."""
        return tuple((int(self) >> shift) & (1 << 64) - 1 for shift in range(0, max(self.width, 64), 64))

    def __repr__(self) -> str:
        shown = " ".join(f"{name}={value:#x}" for name, value in self.fields().items() if value)
        return f"<{type(self).__name__} {int(self):#x}{' ' + shown if shown else ''}>"
