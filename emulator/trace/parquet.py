"""Traces as Parquet: the columns of `emulator.trace.columns`, in row groups, for tools that think in tables.

    time_ns, kind ("map", ...), space, source, pasid (null where there is none), iova, gpa, size,
    access (bit 0 read, bit 1 write; 0: not told), leaf_levels, cpu, gfp (index into GFP_CLASSES)

Spaces and the recording kernel's rule are in the file's metadata, under `vtd`. What another tool wrote needs `kind`,
`iova` and `size`, and `gpa` for maps; whatever else it lacks gets what "not told" means. pyarrow is imported when the
first such file is opened: it comes with `pip install 'vtd-emulator[arrow]'`.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO, Any, Final

import numpy as np

from emulator.trace.columns import NO_PASID, NO_SOURCE, Columns
from emulator.trace.event import REPLAYED, Event, Kind, SpaceRef
from emulator.trace.skipped import SkippedLines
from emulator.trace.spaces import Space
from emulator.trace.trace import KernelRule
from pagetables.address import PAGE_SIZE, DomainId, SourceId, format_source_id
from pagetables.errors import InputError, TraceError

__all__ = ["ROWS", "ParquetReader", "ParquetWriter"]

VERSION = 1
ROWS = 1 << 17  # of a row group
_KEY = b"vtd"
_KINDS: Final = {kind: kind.name.lower() for kind in REPLAYED}
_NONE: Final = {"source": NO_SOURCE, "pasid": NO_PASID}
_TYPES: Final[dict[str, Any]] = {
    "time_ns": np.uint64, "space": np.uint32, "source": np.uint32, "pasid": np.uint32, "iova": np.uint64,
    "gpa": np.uint64, "size": np.uint64, "access": np.uint8, "leaf_levels": np.uint8, "cpu": np.uint16, "gfp": np.uint8,
}  # fmt: skip
_ALL_PAGES = 7
_ABSENT: Final = {
    "time_ns": 0,
    "space": 0,
    **_NONE,
    "gpa": 0,
    "access": 0,
    "leaf_levels": _ALL_PAGES,
    "cpu": 0,
    "gfp": 0,
}
_NEEDED: Final = ("kind", "iova", "size")
_TOP = np.uint64((1 << 64) - 1)


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise InputError("Parquet needs pyarrow: pip install 'vtd-emulator[arrow]'") from None
    return pyarrow, pyarrow.parquet


class ParquetWriter:
    """Writes columns to `out` as they come, a row group each time `ROWS` are together; to be closed."""

    def __init__(self, out: IO[bytes], spaces: Iterable[Space], kernel_rule: KernelRule) -> None:
        self._arrow, parquet = _arrow()
        told = [
            {"name": one.name, "domain": None if one.domain_id is None else int(one.domain_id),
             "attributed": one.attributed}
            for one in spaces
        ]  # fmt: skip
        about = {"version": VERSION, "kernel_rule": kernel_rule, "spaces": told}
        kind = self._arrow.dictionary(self._arrow.int8(), self._arrow.string())
        numbers = [(name, self._arrow.from_numpy_dtype(number)) for name, number in _TYPES.items()]
        self._schema = self._arrow.schema([("kind", kind), *numbers], {_KEY: json.dumps(about).encode()})
        self._writer = parquet.ParquetWriter(out, self._schema, compression="zstd", use_dictionary=["kind", "space"])

    def write(self, columns: Columns) -> None:
        """Append rows, of whatever number."""
        for start in range(0, len(columns), ROWS):
            rows = columns.take(slice(start, start + ROWS))
            arrays = [self._kinds(rows.kind), *(self._numbers(name, rows[name]) for name in _TYPES)]
            self._writer.write_table(self._arrow.Table.from_arrays(arrays, schema=self._schema))

    def _kinds(self, kind: Any) -> Any:
        return self._arrow.DictionaryArray.from_arrays((kind - 1).astype(np.int8), list(_KINDS.values()))

    def _numbers(self, name: str, values: Any) -> Any:
        return self._arrow.array(values, mask=values == _NONE[name] if name in _NONE else None)

    def close(self) -> None:
        """Write the end of the file; without it there is no trace."""
        self._writer.close()


class ParquetReader:
    """Reads one file, row group by row group; rows that cannot be used go to `skipped`, by their number from 1."""

    def __init__(self, name: str, index: int, skipped: SkippedLines, data: bytes | None = None) -> None:
        self._arrow, parquet = _arrow()
        self.name = name
        self.index = index
        self.skipped = skipped
        with self._told():
            self._file = parquet.ParquetFile(name if data is None else io.BytesIO(data))
        present = set(self._file.schema_arrow.names)
        missing = [column for column in _NEEDED if column not in present]
        if missing:
            raise TraceError(
                f"{name}: this Parquet file has no column {missing[0]!r}; a trace needs {', '.join(_NEEDED)}"
            )
        self._present = [column for column in ("kind", *_TYPES) if column in present]
        about = self._about()
        self.kernel_rule: KernelRule = "6.x" if about.get("kernel_rule") == "6.x" else "7.x"
        self._spaces: list[dict[str, Any]] = about.get("spaces", [])

    def _told(self) -> Any:
        # pyarrow decodes the names of columns itself, and says so when it cannot.
        return _Told(self.name, (self._arrow.ArrowException, OSError, UnicodeDecodeError))

    def _about(self) -> dict[str, Any]:
        metadata = self._file.schema_arrow.metadata or {}
        try:
            about = json.loads(metadata.get(_KEY, b"{}"))
        except ValueError:
            about = None
        if not isinstance(about, dict) or not isinstance(about.get("spaces", []), list):
            raise TraceError(f"{self.name}: the metadata {_KEY.decode()!r} is no JSON object")
        if about.get("version", VERSION) != VERSION:
            raise TraceError(
                f"{self.name}: version {about['version']!r} of this Parquet form is not known; {VERSION} is"
            )
        return about

    def columns(self, progress: Callable[[int], None] | None = None) -> tuple[Columns, tuple[Space, ...]]:
        """Everything at once: usable rows, events numbered from 1, and the spaces."""
        parts, done = [], 0
        for part, total in self._groups():
            done = total
            parts.append(part)
            if progress is not None:
                progress(done)
        names = Columns.names()
        if not parts:
            parts = [self._filled({}, 0, 0)]
        columns = Columns(**{name: np.concatenate([part[name] for part in parts]) for name in names})
        return columns, self._all_spaces(columns)

    def events(self, _: Iterable[bytes] = ()) -> Iterator[Event]:
        """The same row by row, to be merged with other traces."""
        for index in range(len(self._spaces)):
            yield self._declared(index)
        for part, _total in self._groups():
            for row in part.rows():
                yield self._event(row)

    def _declared(self, index: int) -> Event:
        told = self._spaces[index]
        detail = SpaceRef(index, str(told.get("name", "")), attributed=told.get("attributed", True) is not False)
        return Event(self.index, 0, 0, 0, 0, "", Kind.SPACE, domain=told.get("domain"), detail=detail)

    def _event(self, row: dict[str, int]) -> Event:
        source = row["source"]
        return Event(
            self.index, row["line"], row["time_ns"], row["cpu"], 0, "", Kind(row["kind"]),
            device=None if source == NO_SOURCE else f"0000:{format_source_id(SourceId(source))}",
            iova=row["iova"], gpa=row["gpa"], size=row["size"], access=row["access"],
            pasid=None if row["pasid"] == NO_PASID else row["pasid"], leaf_levels=row["leaf_levels"],
            detail=SpaceRef(row["space"]), gfp=row["gfp"],
        )  # fmt: skip

    def _groups(self) -> Iterator[tuple[Columns, int]]:
        first = 0
        with self._told():
            for batch in self._file.iter_batches(ROWS, columns=self._present):
                batch.validate(full=True)  # a damaged file's indices and offsets may point anywhere
                values = {name: self._values(name, batch.column(name)) for name in self._present}
                columns = self._filled(values, first, batch.num_rows)
                first += batch.num_rows
                yield columns.take(self._usable(columns)), first

    def _values(self, name: str, column: Any) -> Any:
        if name == "kind":
            return self._kind(column)
        filled = column.fill_null(_NONE.get(name, 0)) if column.null_count else column
        return filled.cast(self._arrow.from_numpy_dtype(_TYPES[name])).to_numpy(zero_copy_only=False)

    def _kind(self, column: Any) -> Any:
        if not self._arrow.types.is_dictionary(column.type):
            column = column.dictionary_encode()
        numbers = {name: kind for kind, name in _KINDS.items()}
        known = np.array([numbers.get(name, 0) for name in column.dictionary.to_pylist()] + [0], np.uint8)
        codes = column.indices.fill_null(len(known) - 1).to_numpy(zero_copy_only=False)
        return known[codes]

    def _filled(self, values: dict[str, Any], first: int, count: int) -> Columns:
        number = np.arange(first + 1, first + count + 1)
        absent = {name: np.full(count, value, _TYPES[name]) for name, value in _ABSENT.items() if name not in values}
        if "leaf_levels" in values:  # 0: not told
            values["leaf_levels"] = np.where(values["leaf_levels"] == 0, np.uint8(_ALL_PAGES), values["leaf_levels"])
        if not values:
            values = {name: np.zeros(0, _TYPES.get(name, np.uint8)) for name in ("kind", "iova", "size")}
        return Columns(
            **absent | values,
            event=number.astype(np.uint64),
            file=np.full(count, self.index, np.uint16),
            line=number.astype(np.uint32),
        )

    def _usable(self, columns: Columns) -> Any:
        usable = np.ones(len(columns), bool)
        for wrong, why in _wrong(columns, len(self._spaces)):
            for line in columns.line[wrong & usable].tolist():
                self.skipped.add(self.name, line, why)
            usable &= ~wrong
        return usable

    def _all_spaces(self, columns: Columns) -> tuple[Space, ...]:
        count = max(len(self._spaces), int(columns.space.max(initial=0)) + 1 if len(columns) else 0)
        devices = _devices(columns, count)
        spaces = []
        for index in range(count):
            told = self._spaces[index] if index < len(self._spaces) else {}
            domain = told.get("domain")
            name = str(told.get("name", "")) or ", ".join(map(format_source_id, devices[index])) or "unnamed"
            number = DomainId(domain) if isinstance(domain, int) else None
            spaces.append(Space(index, name, devices[index], number, told.get("attributed", True) is not False))
        return tuple(spaces)


class _Told:
    # Whatever pyarrow has against a file is told as a sentence that names it.
    def __init__(self, name: str, wrong: tuple[type[Exception], ...]) -> None:
        self._name, self._wrong = name, wrong

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, why: BaseException | None, _: Any) -> None:
        if why is not None and isinstance(why, self._wrong):
            raise TraceError(f"{self._name}: not a usable Parquet file: {str(why).partition(chr(10))[0]}") from None


def _devices(columns: Columns, count: int) -> Sequence[tuple[SourceId, ...]]:
    found: list[dict[SourceId, None]] = [{} for _ in range(count)]
    for row in np.flatnonzero(columns.kind == Kind.ATTACH):
        if columns.source[row] != NO_SOURCE:
            found[int(columns.space[row])][SourceId(int(columns.source[row]))] = None
    return [tuple(one) for one in found]


def _wrong(columns: Columns, spaces: int) -> Iterator[tuple[Any, str]]:
    kind, iova, size = columns.kind, columns.iova, columns.size
    moves = (kind == Kind.MAP) | (kind == Kind.UNMAP)
    yield kind == 0, f"kind: none of {', '.join(_KINDS.values())}"
    if spaces:
        yield columns.space >= spaces, f"space: only {spaces} are declared"
    yield (columns.space >= 1 << 20), "space: too large a number"
    yield moves & ((iova | size | columns.gpa) % np.uint64(PAGE_SIZE) != 0), f"not made of whole {PAGE_SIZE}-byte pages"
    reach = (size == 0) | (_TOP - iova < size - np.uint64(1)) | (_TOP - columns.gpa < size - np.uint64(1))
    yield (kind <= Kind.ACCESS) & reach, "size: no range below 2**64"
