"""What a unit has cached, as values that an image can hold: the note of the caches, version 1.

The note has our owner and type 2. Its data is a JSON object in UTF-8: `version`, then the fields of `UnitCaches` by
name, entries as objects with the fields of their class; every number is text (`"0x1f000"`). Readers must refuse
versions they do not know.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pagetables.errors import ImageError

__all__ = [
    "CachedAbsence",
    "CachedContext",
    "CachedInterrupt",
    "CachedPasid",
    "CachedTable",
    "CachedTranslation",
    "UnitCaches",
    "caches_from_note",
    "caches_from_notes",
    "caches_note",
]

T = TypeVar("T")
NOTE_OWNER, NOTE_TYPE, VERSION = "VTD", 2, 1
_LARGEST = 1 << 512  # more than any entry holds
_LIMITS = {"source_id": 1 << 16, "page_shift": 64, "level": 6, "stage": 5}


@dataclass(frozen=True, slots=True)
class CachedContext:
    """A context entry: its tag, the raw word, and whose mode it is of."""

    source_id: int
    entry: int
    legacy: bool


@dataclass(frozen=True, slots=True)
class CachedPasid:
    """A PASID table entry: its tags and the raw word."""

    source_id: int
    pasid: int
    entry: int


@dataclass(frozen=True, slots=True)
class CachedTranslation:
    """An entry of the IOTLB. `stage` is the translation type (PGTT), `pasid` None for requests without one, which
    invalidations know by `rid_pasid`."""

    domain_id: int
    source_id: int
    pasid: int | None
    stage: int
    privileged: bool
    iova: int
    page_shift: int
    gpa: int
    permissions: int
    rid_pasid: int = 0
    dirty: bool = False


@dataclass(frozen=True, slots=True)
class CachedTable:
    """An entry of the paging-structure caches: the entry of `level` for `address` leads to `table`."""

    stage: int
    domain_id: int
    source_id: int | None
    pasid: int | None
    level: int
    address: int
    table: int
    permissions: int


@dataclass(frozen=True, slots=True)
class CachedInterrupt:
    """An interrupt remapping entry: its index and the raw word."""

    index: int
    entry: int


@dataclass(frozen=True, slots=True)
class CachedAbsence:
    """That something was not present, or bad: requests end in fault `reason` because of it. `pasid` is the request's,
    `rid_pasid` what stands for it where it had none."""

    source_id: int
    domain_id: int | None
    pasid: int | None
    address: int
    page_shift: int
    reason: int
    rid_pasid: int = 0


@dataclass(frozen=True, slots=True)
class UnitCaches:
    """All that one unit has cached. `root_table` and `interrupt_table` are RTADDR and IRTA as they were latched,
    `capacities` how many entries each cache can hold, by its name here."""

    register_base: int
    profile: str
    root_table: int
    interrupt_table: int
    haw: int = 52
    capacities: Mapping[str, int] = field(default_factory=dict)
    contexts: tuple[CachedContext, ...] = ()
    pasids: tuple[CachedPasid, ...] = ()
    translations: tuple[CachedTranslation, ...] = ()
    tables: tuple[CachedTable, ...] = ()
    interrupts: tuple[CachedInterrupt, ...] = ()
    absences: tuple[CachedAbsence, ...] = ()


_ENTRIES: dict[str, type[Any]] = {
    "contexts": CachedContext,
    "pasids": CachedPasid,
    "translations": CachedTranslation,
    "tables": CachedTable,
    "interrupts": CachedInterrupt,
    "absences": CachedAbsence,
}


def caches_note(caches: UnitCaches) -> tuple[str, int, bytes]:
    """The note that holds `caches` in an image: owner, type, data."""
    document = {"version": VERSION, **_plain(dataclasses.asdict(caches))}
    return NOTE_OWNER, NOTE_TYPE, json.dumps(document, separators=(",", ":")).encode()


def caches_from_note(owner: str, kind: int, data: bytes) -> UnitCaches | None:
    """What a note says of caches, None if it is another kind of note; ImageError for one that is damaged."""
    if (owner, kind) != (NOTE_OWNER, NOTE_TYPE):
        return None
    try:
        document = json.loads(data.rstrip(b"\0"))
        version = document.pop("version")
        if version != VERSION:
            raise ImageError(f"the image's note of caches has version {version!r}: only {VERSION} is known here")
        entries: dict[str, Any] = {
            name: tuple(_entry(kind_of, one) for one in document.pop(name)) for name, kind_of in _ENTRIES.items()
        }
        capacities = {str(name): _number(size) for name, size in document.pop("capacities").items()}
        plain: dict[str, Any] = {
            name: value if name == "profile" else _number(value) for name, value in document.items()
        }
        return UnitCaches(**plain, **entries, capacities=capacities)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ImageError(f"the image's note of caches is damaged: {type(error).__name__}: {error}") from None


def caches_from_notes(notes: Iterable[tuple[str, int, bytes]]) -> tuple[UnitCaches, ...]:
    """What the notes of an image say of caches, a unit each; ImageError if one is damaged."""
    found = (caches_from_note(*note) for note in notes)
    return tuple(caches for caches in found if caches is not None)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_plain(inner) for inner in value]
    return value if isinstance(value, bool | str) or value is None else f"{value:#x}"


def _entry(kind: type[T], found: Mapping[str, Any]) -> T:
    hints = typing.get_type_hints(kind)
    return kind(**{name: _value(name, hints[name], value) for name, value in found.items()})


def _value(name: str, hint: Any, value: Any) -> Any:
    if hint is bool:
        if not isinstance(value, bool):
            raise ValueError(f"{name}: expected true or false, got {value!r}")
        return value
    optional = isinstance(hint, types.UnionType)
    number = None if optional and value is None else _number(value)
    if number is not None and not (name == "stage") <= number < _LIMITS.get(name, _LARGEST):
        raise ValueError(f"{name}: {number:#x} is none")
    return number


def _number(text: Any) -> int:
    if not isinstance(text, str) or not text.startswith("0x"):
        raise ValueError(f"expected a number such as '0x1f000', got {text!r}")
    return int(text, 16)
