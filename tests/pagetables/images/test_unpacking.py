"""Pages unpacked: streams written by hand, as each format defines them, and ones that lie."""

from __future__ import annotations

import zlib

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from pagetables.images.unpacking import Damaged, unlzo, unsnappy, unzlib, unzstd

END = b"\x11\0\0"  # of LZO


@pytest.mark.parametrize(
    ("stream", "plain"),
    [
        (b"\x15abcd" + END, b"abcd"),  # a first run of 0x15 - 17 literals
        (b"\x01abcd" + END, b"abcd"),  # a run of 1 + 3
        (b"\x00\x01" + b"x" * 19 + END, b"x" * 19),  # a run of 15 + 1 + 3
        (b"\x00\x00\x01" + b"y" * 274 + END, b"y" * 274),  # a run of 15 + 255 + 1 + 3
        (b"\x15abcd\x6c\x00" + END, b"abcdabcd"),  # 01 1 011 00: 4 bytes from 4 back
        (b"\x15abcd\xac\x00" + END, b"abcdabcdab"),  # 1 01 011 00: 6 bytes from 4 back, its own among them
        (b"\x15abcd\x22\x0c\x00" + END, b"abcdabcd"),  # 001 00010, distance 3 + 1: 4 bytes
        (b"\x15abcd\x20\x02\x00\x00" + END, b"abcd" + b"d" * 35),  # 001 00000: 2 + 31 + 2 bytes from 1 back
        (b"\x15abcd\x6d\x00Z" + END, b"abcdabcdZ"),  # one literal behind a match
        (b"\x13ab\x04\x00" + END, b"abab"),  # behind two literals: 2 bytes from 2 back
        (b"\x15abcd\x6d\x00Z\x04\x00" + END, b"abcdabcdZdZ"),  # the same behind a match with a literal
    ],
)
def test_lzo_is_unpacked(stream, plain):
    assert unlzo(stream, 4096) == plain


def test_lzo_copies_from_afar():
    far = bytes(range(256)) * 80
    run = len(far) - 18
    stream = b"\x00" + bytes((run - 1) // 255) + bytes([(run - 1) % 255 + 1]) + far
    assert unlzo(stream + b"\x04\x00" + END, 1 << 15) == far + far[-0x802:][:3]  # 3 bytes from 0x802 back
    assert unlzo(stream + b"\x11\x04\x00" + END, 1 << 15) == far + far[-0x4001:][:3]  # from 0x4001 back


@pytest.mark.parametrize(
    ("stream", "plain"),
    [
        (b"\x04\x0cabcd", b"abcd"),
        (b"\x08\x0cabcd\x01\x04", b"abcdabcd"),  # 4 bytes from 4 back, one byte of distance
        (b"\x0a\x0cabcd\x16\x04\x00", b"abcdabcdab"),  # 6 bytes, two bytes of distance
        (b"\x09\x0cabcd\x13\x01\x00\x00\x00", b"abcddddd" + b"d"),  # 5 bytes, four bytes of distance
        (b"\x80\x01\xf0\x7f" + b"z" * 128, b"z" * 128),  # a literal with a byte of length
        (b"\x80\x02\xf4\xff\x00" + b"w" * 256, b"w" * 256),
    ],
)
def test_snappy_is_unpacked(stream, plain):
    assert unsnappy(stream, 4096) == plain


@pytest.mark.parametrize("unpack", [unlzo, unsnappy])
@pytest.mark.parametrize(
    "stream",
    [
        b"",
        b"\x15ab",  # cut short
        b"\x04\x0cab",
        b"\x15abcd",  # no end mark, or another length than announced
        b"\x15abcd\x70\x00" + END,  # copies from before the beginning
        b"\x08\x0cabcd\x01\x05",
        b"\x08\x0cabcd\x01\x00",  # from where it writes
        b"\x00\x00\x00\x00\x01" + b"y" * 2000 + END,
    ],
)
def test_damaged_streams_are_damaged(unpack, stream):
    with pytest.raises(Damaged):
        unpack(stream, 256)


def test_no_stream_unpacks_beyond_the_limit():
    copies = b"\x15abcd" + b"\x20" + bytes(60) + b"\x01\x00\x00"
    with pytest.raises(Damaged):
        unlzo(copies * 4 + END, 4096)
    with pytest.raises(Damaged, match="too long"):
        unsnappy(b"\x80\x20\x00a" + b"\xfe\x01\x00" * 1000, 4096)
    assert len(unzlib(zlib.compress(bytes(1 << 20)), 4096)) == 4096
    with pytest.raises(Damaged, match="too long"):
        unzstd(zstandard.ZstdCompressor().compress(bytes(1 << 20)), 4096)
    with pytest.raises(Damaged):
        unzstd(zstandard.ZstdCompressor(write_content_size=False).compress(bytes(1 << 20)), 4096)


@given(st.binary(max_size=300))
def test_any_bytes_unpack_or_are_damaged(data):
    for unpack in (unlzo, unsnappy, unzlib, unzstd):
        try:
            assert len(unpack(data, 4096)) <= 4096
        except Damaged:
            continue
