"""Pages as kdump packs them: zlib, zstd, LZO1X and Snappy, each unpacked up to a limit and no further.

LZO and Snappy are unpacked here: they are simple, dumps of RHEL are packed with LZO, and a page is small.
"""

from __future__ import annotations

import zlib

__all__ = ["Damaged", "unlzo", "unsnappy", "unzlib", "unzstd"]

LITERALS, MATCHED = 4, 0  # what an LZO instruction left behind; 1 to 3: a match, then so many literals
END_OF_STREAM = 0x4000  # a distance


class Damaged(ValueError):
    """Packed data that is not what it should be."""


def unzlib(data: bytes, limit: int) -> bytes:
    """`data` unpacked, at most `limit` bytes."""
    try:
        return zlib.decompressobj().decompress(data, limit)
    except zlib.error as error:
        raise Damaged(str(error)) from None


def unzstd(data: bytes, limit: int) -> bytes:
    """`data` unpacked; Damaged if it says or has more than `limit` bytes."""
    import zstandard

    try:
        if zstandard.frame_content_size(data) > limit:  # it would be believed
            raise Damaged("too long")
        return zstandard.ZstdDecompressor().decompress(data, max_output_size=limit)
    except zstandard.ZstdError as error:
        raise Damaged(str(error)) from None


class _Unpacker:
    # What LZO and Snappy share: literals, and copies of what came before.

    def __init__(self, data: bytes, limit: int) -> None:
        self.data = data
        self.limit = limit
        self.at = 0
        self.out = bytearray()

    def byte(self) -> int:
        return self.number(1)

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def take(self, size: int) -> bytes:
        part = self.data[self.at : self.at + size]
        if len(part) < size:
            raise Damaged("cut short")
        self.at += size
        return part

    def literals(self, size: int) -> None:
        self.out += self.take(size)
        self._check()

    def copy(self, distance: int, size: int) -> None:
        start = len(self.out) - distance
        if start < 0 or not distance or size > self.limit:
            raise Damaged("copies from outside")
        part = bytes(self.out[start : start + size])
        self.out += (part * -(-size // len(part)))[:size]  # what is copied may be what is being written
        self._check()

    def _check(self) -> None:
        if len(self.out) > self.limit:
            raise Damaged("too long")


def unsnappy(data: bytes, limit: int) -> bytes:
    """`data` unpacked; Damaged if it has more than `limit` bytes, or not as many as it says."""
    stream = _Unpacker(data, limit)
    length = _varint(stream)
    while stream.at < len(data):
        tag = stream.byte()
        size, kind = (tag >> 2) + 1, tag & 3
        if kind == 0:
            stream.literals(size if size <= 60 else stream.number(size - 60) + 1)
        elif kind == 1:
            stream.copy(tag >> 5 << 8 | stream.byte(), 4 + (tag >> 2 & 7))
        else:
            stream.copy(stream.number(2 if kind == 2 else 4), size)
    if len(stream.out) != length:
        raise Damaged(f"{len(stream.out)} bytes, {length} announced")
    return bytes(stream.out)


def _varint(stream: _Unpacker) -> int:
    value = shift = 0
    while True:
        byte = stream.byte()
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value
        shift += 7


def unlzo(data: bytes, limit: int) -> bytes:
    """`data` (LZO1X) unpacked; Damaged if it has more than `limit` bytes, or no end mark."""
    stream = _Unpacker(data, limit)
    state = MATCHED
    if data[:1] > b"\x11":  # a first run of literals, without the usual minimum
        count = stream.byte() - 17
        stream.literals(count)
        state = count if count < LITERALS else LITERALS
    while True:
        instruction = stream.byte()
        if instruction < 16 and state == MATCHED:
            stream.literals(_length(stream, instruction, 15) + 3)
            state = LITERALS
            continue
        distance, size, state = _match(stream, instruction, state)
        if distance == END_OF_STREAM:
            return bytes(stream.out)
        stream.copy(distance, size)
        stream.literals(state)


def _match(stream: _Unpacker, instruction: int, state: int) -> tuple[int, int, int]:
    # (distance, size, how many literals follow)
    if instruction >= 64:
        size = 5 + (instruction >> 5 & 3) if instruction >= 128 else 3 + (instruction >> 5 & 1)
        return (stream.byte() << 3) + (instruction >> 2 & 7) + 1, size, instruction & 3
    if instruction >= 16:
        far = instruction < 32
        size = _length(stream, instruction & (7 if far else 31), 7 if far else 31) + 2
        low = stream.number(2)
        distance = (low >> 2) + (END_OF_STREAM + ((instruction & 8) << 11) if far else 1)
        return distance, size, low & 3
    distance = (stream.byte() << 2) + (instruction >> 2)
    if state == LITERALS:
        return distance + 0x801, 3, instruction & 3
    return distance + 1, 2, instruction & 3


def _length(stream: _Unpacker, bits: int, most: int) -> int:
    # Bits of an instruction that hold a length; 0 says that it goes on, by 255 for each byte of zero.
    if bits:
        return bits
    while (byte := stream.byte()) == 0:
        most += 255
    return most + byte
