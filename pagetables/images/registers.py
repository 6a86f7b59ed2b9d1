"""The registers of a unit as an image or a file beside it holds them."""

from __future__ import annotations

import io
import json
import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pagetables.address import PAGE_SIZE
from pagetables.capabilities import Capabilities
from pagetables.errors import ImageError
from pagetables.images.compressed import compression, unpack
from pagetables.images.elf_format import MAGIC, Note
from pagetables.images.regset import as_text, register_text
from pagetables.layouts.registers import (
    REGISTERS,
    Capability,
    ExtendedCapability,
    FaultRecord,
    GlobalStatus,
    InterruptRemappingTableAddress,
    InvalidationQueueAddress,
    Register,
    RootTableAddress,
    Version,
)

__all__ = ["DEFAULT_BASE", "NOTE_OWNER", "RegisterPage", "load_registers", "load_units"]

R = TypeVar("R", bound=Register)

NOTE_OWNER = "VTD"  # our notes: type 1, the register base as a qword, then the page
RECORDED_OWNER = "VTDCORPUS"  # of recordings: type 1, the registers that QEMU answers, at its usual base
DEFAULT_BASE = 0xFED9_0000
SHORTEST = 0x100  # bytes: up to the page request registers every unit has something
LONGEST_FILE = 1 << 20

_EXPECTED = (
    "expected registers.json, a raw register page of 0x100 to 0x1000 bytes, the text of debugfs `iommu_regset`, "
    "or what QEMU's `xp` prints"
)


@dataclass(frozen=True, slots=True)
class RegisterPage:
    """The register bytes of one unit, from offset 0 on; `base` is None where nobody said where they were.

    `known` are the offsets of the 32-bit words that somebody read, all of them if None; the others are 0 in `data`.
    """

    base: int | None
    data: bytes
    known: frozenset[int] | None = None

    def has(self, register: type[Register], index: int = 0) -> bool:
        """True if the bytes reach as far as `register`, and are known there."""
        offset = self._offset(register, index)
        end = offset + register.width // 8
        return end <= len(self.data) and (self.known is None or self.known.issuperset(range(offset, end, 4)))

    def read(self, register: type[R], index: int = 0) -> R:
        """The value of `register`, the `index`-th of its copies; ImageError if the bytes do not reach as far."""
        offset = self._offset(register, index)
        value = self.data[offset : offset + register.width // 8]
        if len(value) * 8 < register.width:
            raise ImageError(
                f"{register.name} is at {offset:#x}, but only {len(self.data):#x} register bytes are there"
            )
        return register.from_bytes(value)

    def capabilities(self, haw: int = 52) -> Capabilities:
        """What the unit says it can do, on a platform with `haw` physical address bits."""
        return Capabilities(self.read(Capability), self.read(ExtendedCapability), haw)

    @property
    def status(self) -> GlobalStatus:
        """GSTS."""
        return self.read(GlobalStatus)

    @property
    def root_table(self) -> RootTableAddress:
        """RTADDR as it was last written; the unit uses what it was at the last GCMD.SRTP."""
        return self.read(RootTableAddress)

    @property
    def interrupt_table(self) -> InterruptRemappingTableAddress:
        """IRTA as it was last written."""
        return self.read(InterruptRemappingTableAddress)

    @property
    def queue(self) -> InvalidationQueueAddress:
        """IQA. QEMU 7.2 reads DW as 0 whatever the guest wrote."""
        return self.read(InvalidationQueueAddress)

    def pending_faults(self) -> Iterator[FaultRecord]:
        """The fault records that software has not cleared."""
        for index in range(self.read(Capability).nfr + 1):
            if self.has(FaultRecord, index) and (record := self.read(FaultRecord, index)).f:
                yield record

    def _offset(self, register: type[Register], index: int) -> int:
        base = {"fro": lambda: self.read(Capability).fro, "iro": lambda: self.read(ExtendedCapability).iro}
        moved = base[register.mmio_base]() * 16 if register.mmio_base in base else 0
        return moved + register.mmio_offset + index * register.spacing

    @classmethod
    def of_root_table(cls, rtaddr: int) -> RegisterPage:
        """The page of a unit of which only RTADDR is known: it translates, and can do everything."""
        cap = Capability.of(nd=6, sagaw=0b1110, mgaw=56, sslps=3, fs1gp=1, fs5lp=1, pi=1, zlr=1)
        supported = ("c", "dt", "pt", "sc", "mts", "nest", "prs", "ers", "srs", "eafs", "pasid", "smts", "ssads")
        ecap = ExtendedCapability.of(**dict.fromkeys((*supported, "ssts", "fsts", "smpwcs", "rps", "adms"), 1), pss=19)
        status = GlobalStatus.of(tes=1, rtps=1)
        return cls(None, _page({"VER": 0x10, "CAP": cap, "ECAP": ecap, "GSTS": status, "RTADDR": rtaddr}))

    @classmethod
    def from_notes(cls, notes: Iterable[Note]) -> tuple[RegisterPage, ...]:
        """The register pages that an image carries, one for each unit."""
        return tuple(page for note in notes if (page := _from_note(note)) is not None)

    def note(self) -> tuple[str, int, bytes]:
        """The note that holds this page in an image: owner, type, data."""
        base = DEFAULT_BASE if self.base is None else self.base
        return NOTE_OWNER, 1, struct.pack("<Q", base) + self.data.ljust(PAGE_SIZE, b"\0")

    def as_text(self) -> str:
        """This page as QEMU's `xp` prints it; `load_units` reads it back."""
        return as_text(DEFAULT_BASE if self.base is None else self.base, self.data, self.known)


def load_registers(path: str | os.PathLike[str]) -> RegisterPage:
    """The registers in the file at `path`, which holds one unit; ImageError otherwise."""
    first, *others = load_units(path)
    if others:
        bases = ", ".join(f"{page.base:#x}" for page in (first, *others))
        raise ImageError(f"{os.fspath(path)}: registers of {1 + len(others)} units ({bases}); expected those of one")
    return first


def load_units(path: str | os.PathLike[str]) -> tuple[RegisterPage, ...]:
    """The registers of each unit in the file at `path`, also compressed; ImageError where it has none.

    The file is registers.json, a raw page, the text of debugfs `iommu_regset`, or what QEMU's `xp` prints.
    """
    name = os.fspath(path)
    data = _contents(name)
    if data.lstrip()[:1] == b"{":
        return (_from_json(name, data),)
    if not data or data.startswith(MAGIC):
        raise ImageError(f"{name}: {'an ELF file, not registers' if data else 'empty'}; {_EXPECTED}")
    if (units := register_text(name, data)) is not None:
        return tuple(_checked(name, RegisterPage(unit.base, unit.page, unit.known)) for unit in units)
    if not SHORTEST <= len(data) <= PAGE_SIZE or len(data) % 4:
        raise ImageError(f"{name}: {len(data)} bytes are no register page; {_EXPECTED}")
    return (_checked(name, RegisterPage(DEFAULT_BASE, data)),)


def _checked(name: str, page: RegisterPage) -> RegisterPage:
    version = page.read(Version)
    if not version.maj or version & Version.reserved_mask:
        raise ImageError(f"{name}: {int(version):#010x} at offset 0 is no VT-d version; {_EXPECTED}")
    return page


def _contents(name: str) -> bytes:
    with open(name, "rb") as file:
        head = file.read(16)
        kind = compression(head)
        if kind is None:
            return head + file.read(LONGEST_FILE)
        file.seek(0)
        plain = io.BytesIO()
        unpack(name, file, kind, plain, LONGEST_FILE)
        return plain.getvalue()


def _from_note(note: Note) -> RegisterPage | None:
    if (note.owner, note.type) == (RECORDED_OWNER, 1) and len(note.data) >= SHORTEST:
        return RegisterPage(DEFAULT_BASE, note.data[:PAGE_SIZE])
    if (note.owner, note.type) == (NOTE_OWNER, 1) and len(note.data) == 8 + PAGE_SIZE:
        return RegisterPage(int.from_bytes(note.data[:8], "little"), note.data[8:])
    return None


def _from_json(name: str, data: bytes) -> RegisterPage:
    try:
        document = json.loads(data)
        base = int(document.get("base", hex(DEFAULT_BASE)), 0)
        if "raw_hex" in document:
            page = bytes.fromhex(document["raw_hex"])
        else:
            page = _page({key: int(value, 0) for key, value in document["regs"].items() if key in REGISTERS})
    except KeyError:
        raise ImageError(f"{name}: neither `raw_hex` nor `regs` in it: not registers; {_EXPECTED}") from None
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ImageError(f"{name}: not registers.json: {error}; {_EXPECTED}") from None
    if not SHORTEST <= len(page) <= PAGE_SIZE:
        raise ImageError(f"{name}: `raw_hex` has {len(page)} bytes; {_EXPECTED}")
    return RegisterPage(base, page)


def _page(values: Mapping[str, Any]) -> bytes:
    page = bytearray(PAGE_SIZE)
    for name, value in values.items():
        register = REGISTERS[name]
        if register.mmio_base is None:
            size = register.width // 8
            page[register.mmio_offset : register.mmio_offset + size] = register(value).pack()
    return bytes(page)
