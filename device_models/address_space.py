"""Address spaces: memory regions as a processor, or a device, sees them.

A space renders its root into ranges that do not overlap, and does accesses on them: RAM at once, registers in pieces
of the sizes that their regions take. Where there is nothing, memory reads as zeros and ports read as ones, and writes
are lost: as in QEMU. (Hardware reads ones in both; a space says which with `unassigned`.)
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from device_models.memory_region import MemoryRegion, Operations
from pagetables.errors import NoMemory

__all__ = ["AddressSpace", "FlatRange"]

_LARGEST = 8


@dataclass(frozen=True, slots=True)
class FlatRange:
    """Addresses from `start` up to `end` are `region`, from its byte `offset` on."""

    start: int
    end: int
    region: MemoryRegion
    offset: int


class AddressSpace:
    """What `root` looks like from outside."""

    def __init__(self, name: str, root: MemoryRegion, unassigned: int = 0x00) -> None:
        self.name = name
        self.root = root
        self.unassigned = unassigned
        self._ranges: list[FlatRange] | None = None
        self._starts: list[int] = []
        root.spaces.append(self)

    def outdated(self) -> None:
        """The regions changed; the next access renders them."""
        self._ranges = None

    def ranges(self) -> list[FlatRange]:
        """The flat view: what is where, by address."""
        if self._ranges is None:
            self._ranges = sorted(_rendered(self.root), key=lambda flat: flat.start)
            self._starts = [flat.start for flat in self._ranges]
        return self._ranges

    def lookup(self, address: int) -> FlatRange | None:
        """What is at `address`, or None."""
        ranges = self.ranges()
        at = bisect_right(self._starts, address) - 1
        return ranges[at] if at >= 0 and address < ranges[at].end else None

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes at `address`."""
        return self.load(address, size)[0]

    def write(self, address: int, data: bytes) -> None:
        """Write `data` at `address`."""
        self.store(address, data)

    def read_number(self, address: int, size: int) -> int:
        """The little-endian number of `size` bytes at `address`."""
        return int.from_bytes(self.read(address, size), "little")

    def write_number(self, address: int, size: int, value: int) -> None:
        """Write the low `size` bytes of `value` at `address`."""
        self.write(address, (value & (1 << 8 * size) - 1).to_bytes(size, "little"))

    def load(self, address: int, size: int) -> tuple[bytes, bool]:
        """`size` bytes at `address`, and True if something answered for each of them."""
        flat = self.lookup(address)
        if flat is not None and flat.region.ram is not None and address + size <= flat.end:
            found = _load(flat, address, size)  # what nearly every access is
            return (bytes([self.unassigned]) * size, False) if found is None else (found, True)
        data, complete, done = bytearray(), True, 0
        while done < size:
            piece, flat = self._piece(address + done, size - done)
            answer = None if flat is None else _load(flat, address + done, piece)
            complete &= answer is not None
            data += bytes([self.unassigned]) * piece if answer is None else answer
            done += piece
        return bytes(data), complete

    def store(self, address: int, data: bytes) -> bool:
        """Write `data` at `address`; True if something took each byte of it."""
        complete, done = True, 0
        while done < len(data):
            piece, flat = self._piece(address + done, len(data) - done)
            chunk = data[done : done + piece]
            complete &= flat is not None and _store(flat, address + done, chunk)
            done += piece
        return complete

    def _piece(self, address: int, size: int) -> tuple[int, FlatRange | None]:
        # How much of an access goes in one step, and where to.
        flat = self.lookup(address)
        if flat is None:
            at = bisect_right(self._starts, address)
            following = self._starts[at] if at < len(self._starts) else address + size
            return min(size, following - address), None
        if flat.region.operations is None:
            return min(size, flat.end - address), flat
        # Registers decode by their address alone: port CF8h takes four bytes though CF9h is another device's.
        return _bus_size(flat.region.operations, address - flat.start + flat.offset, size), flat


def _bus_size(operations: Operations, offset: int, size: int) -> int:
    # The largest aligned power of two that the bus lets through.
    limit = min(size, operations.valid.largest or _LARGEST)
    aligned = offset & -offset
    if aligned:
        limit = min(limit, aligned)
    return 1 << limit.bit_length() - 1


def _load(flat: FlatRange, address: int, size: int) -> bytes | None:
    region, offset = flat.region, address - flat.start + flat.offset
    if region.ram is not None:
        try:
            return region.ram.memory.read(region.ram.start + offset, size)
        except NoMemory:
            return None
    if region.operations is None or size < region.operations.valid.smallest:
        return None
    return _read(region.operations, offset, size).to_bytes(size, "little")


def _store(flat: FlatRange, address: int, data: bytes) -> bool:
    region, offset = flat.region, address - flat.start + flat.offset
    if region.ram is not None:
        try:
            region.ram.memory.write(region.ram.start + offset, data)
        except NoMemory:
            return False
        return True
    if region.operations is None or len(data) < region.operations.valid.smallest:
        return False
    _write(region.operations, offset, data)
    return True


def _step(operations: Operations, size: int) -> int:
    sizes = operations.implemented
    return max(min(size, sizes.largest), sizes.smallest)


def _read(operations: Operations, offset: int, size: int) -> int:
    step, value = _step(operations, size), 0
    for at in range(0, size, step):
        value |= (operations.read(offset + at, step) & (1 << 8 * step) - 1) << 8 * at
    return value & (1 << 8 * size) - 1


def _write(operations: Operations, offset: int, data: bytes) -> None:
    size, value = len(data), int.from_bytes(data, "little")
    step = _step(operations, size)
    for at in range(0, size, step):
        operations.write(offset + at, step, value >> 8 * at & (1 << 8 * step) - 1)


def _rendered(root: MemoryRegion) -> list[FlatRange]:
    ranges: list[FlatRange] = []
    _render(root, 0, 0, root.size, ranges)
    return ranges


def _render(region: MemoryRegion, base: int, low: int, high: int, ranges: list[FlatRange]) -> None:
    # `base` is the address of the region's first byte, [low, high) what may be seen of it.
    low, high = max(low, base), min(high, base + region.size)
    if not region.enabled or low >= high:
        return
    if region.alias is not None:
        _render(region.alias, base - region.alias_offset, low, high, ranges)
        return
    for child in region.children:
        _render(child, base + child.address, low, high, ranges)
    if region.ram is not None or region.operations is not None:
        holes = list(_holes(low, high, ranges))
        ranges += [FlatRange(start, end, region, start - base) for start, end in holes]


def _holes(low: int, high: int, ranges: list[FlatRange]) -> Iterator[tuple[int, int]]:
    for flat in sorted(ranges, key=lambda known: known.start):
        if flat.end <= low or flat.start >= high:
            continue
        if flat.start > low:
            yield low, flat.start
        low = max(low, flat.end)
    if low < high:
        yield low, high
