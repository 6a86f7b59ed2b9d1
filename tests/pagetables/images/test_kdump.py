"""kdump-compressed dumps, plain and flattened: our own, QEMU's, and ones that lie."""

from __future__ import annotations

import random
import re
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagetables.errors import ImageError, NoMemory
from pagetables.images.flattened import Flattened
from pagetables.images.kdump import KdumpImage
from pagetables.images.opening import open_image
from tests.pagetables.images.elf_bytes import Core, Load
from tests.pagetables.images.kdump_bytes import PACKERS, PAGE, flatten, kdump, snappy
from tests.required import need_qemu

HIGH = 0x123456  # a frame above 4 GiB
PAGES = {1: bytes(range(256)) * 16, 2: b"\xa5" * PAGE, 9: bytes(PAGE), HIGH: random.Random(1).randbytes(PAGE)}


def opened(tmp_path, data: bytes):
    """The image that `data` is."""
    (tmp_path / "vmcore").write_bytes(data)
    return open_image(tmp_path / "vmcore")


@pytest.mark.parametrize("packer", PACKERS)
@pytest.mark.parametrize("form", [bytes, flatten])
def test_pages_are_memory_and_those_left_out_are_not(tmp_path, packer, form):
    image = opened(tmp_path, form(kdump(PAGES, packer)))
    assert image.container == "kdump-compressed dump"
    for frame, page in PAGES.items():
        assert image.read(frame * PAGE, PAGE) == page
    assert image.regions == ((PAGE, 2 * PAGE), (9 * PAGE, PAGE), (HIGH * PAGE, PAGE))
    assert tuple(image.touched()) == image.regions
    assert image.load(PAGE + 8) == int.from_bytes(bytes(range(8, 16)), "little")
    assert image.load(3 * PAGE) is None
    assert image.load((HIGH + 1) * PAGE) is None
    assert image.load(1 << 60) is None
    with pytest.raises(NoMemory):
        image.read(2 * PAGE, PAGE + 1)


def test_reads_cross_pages(tmp_path):
    image = opened(tmp_path, kdump(PAGES))
    assert image.read(2 * PAGE - 4, 8) == b"\xfc\xfd\xfe\xff\xa5\xa5\xa5\xa5"


def test_a_page_of_zeros_that_was_left_out_reads_as_zero(tmp_path):
    image = opened(tmp_path, kdump(PAGES, ram={5}, level=1))
    assert image.read(5 * PAGE, PAGE) == bytes(PAGE)
    assert image.load(6 * PAGE) is None
    assert (5 * PAGE, PAGE) not in tuple(image.touched())
    assert (5 * PAGE, PAGE) in image.regions


def test_where_other_pages_were_left_out_too_nothing_is_taken_for_zero(tmp_path):
    assert opened(tmp_path, kdump(PAGES, ram={5}, level=31)).load(5 * PAGE) is None


def test_an_older_dump_with_one_bitmap_is_read(tmp_path):
    image = opened(tmp_path, kdump(PAGES, one_bitmap=True, version=5))
    assert image.read(2 * PAGE, 2) == b"\xa5\xa5"


def test_many_pages_are_found_by_their_rank(tmp_path):
    frames = random.Random(2).sample(range(100_000), 3000)
    pages = {frame: frame.to_bytes(8, "little") * 512 for frame in frames}
    image = opened(tmp_path, kdump(pages, frames=100_000))
    assert all(image.load(frame * PAGE) == frame for frame in frames)
    assert sum(size for _, size in image.regions) == len(frames) * PAGE


def test_a_flattened_elf_core_is_read(tmp_path):
    core = bytes(Core([Load(0x1000, PAGES[HIGH], size=2 * PAGE), Load(1 << 32, PAGES[1])]))
    image = opened(tmp_path, flatten(core))
    assert image.container == "ELF core"
    assert image.read(0x1000, 2 * PAGE) == PAGES[HIGH] + bytes(PAGE)
    assert image.read(1 << 32, PAGE) == PAGES[1]
    assert image.regions == ((0x1000, 2 * PAGE), (1 << 32, PAGE))


@pytest.mark.parametrize("packer", PACKERS)
def test_drgn_reads_the_same(tmp_path, packer):
    drgn = pytest.importorskip("drgn", reason="NOT RUN: drgn, the oracle for kdump, is not installed")
    image = opened(tmp_path, kdump(PAGES, packer))
    program = drgn.Program()
    program.set_core_dump(str(tmp_path / "vmcore"))
    for frame in PAGES:
        assert program.read(frame * PAGE, PAGE, True) == image.read(frame * PAGE, PAGE)


def monitor(path: Path, *commands: str) -> None:
    """Start QEMU's machine, stopped, and have its monitor run `commands`."""
    arguments = ["-accel", "tcg", "-M", "q35", "-m", "16", "-nodefaults", "-display", "none", "-S", "-monitor", "stdio"]
    with open(path / "monitor.txt", "wb") as log:
        machine = subprocess.Popen(
            ["qemu-system-x86_64", *arguments], stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=path
        )
        machine.communicate("".join(f"{command}\n" for command in (*commands, "quit")).encode(), timeout=60)


def test_what_qemu_dumps_is_read_in_every_form(tmp_path):
    need_qemu()
    forms = ("-z kdump", "elf")
    monitor(tmp_path, *(f"dump-guest-memory {form}" for form in forms), "pmemsave 0 0x1000000 raw")
    packed, core, raw = (open_image(tmp_path / name) for name in ("kdump", "elf", "raw"))
    assert (packed.container, core.container, raw.container) == ("kdump-compressed dump", "ELF core", "raw memory")
    assert packed.regions == core.regions
    for start, size in core.regions:
        assert packed.read(start, size) == core.read(start, size)
    assert packed.read(0, 0x1000000) == raw.read(0, 0x1000000)


def replaced(data: bytes, at: int, value: bytes) -> bytes:
    """`data` with `value` at `at`."""
    return data[:at] + value + data[at + len(value) :]


DUMP = kdump(PAGES)
BLOCKS = -(-(HIGH + 1) // (8 * PAGE))
DESCRIPTORS = (2 + 2 * BLOCKS) * PAGE


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (DUMP[:4100], r"cut short: 4100 bytes, its headers alone have 8192"),
        (DUMP[: 3 * PAGE], "bitmaps up to .* the dump ends at 0x3000: cut short"),
        (kdump(PAGES, block_size=65536), "blocks of 65536 bytes; expected 4096"),
        (kdump(PAGES, split=1), "one part of a split dump: .*--reassemble"),
        (kdump(PAGES, frames=1 << 26, bitmap_blocks=1), "bitmaps of 0x1000 bytes, too few for 0x4000000 pages"),
        (replaced(DUMP, PAGE + 96, struct.pack("<Q", 1 << 63)), "pages; physical addresses end at"),
        (replaced(DUMP, 436, struct.pack("<I", (1 << 32) - 1)), "bitmaps up to .* cut short"),
        (flatten(b"other" + DUMP), "flattened, but neither"),
        (flatten(DUMP)[:3000], "3000 bytes, a flattened dump's header has 4096"),
        (flatten(DUMP)[:-16], r"no end mark after the record"),
        (flatten(DUMP)[:-1000], r"bytes for offset .* cut short\?"),
        (replaced(flatten(DUMP), 4096, struct.pack(">q", 1 << 61)), "bytes for offset 0x2000000000000000 of the dump"),
        (replaced(flatten(DUMP), 16, struct.pack(">q", 2)), "flattened dump of type 2, version 1; expected 1 and 1"),
    ],
)
def test_headers_that_lie_are_refused(tmp_path, data, message):
    with pytest.raises(ImageError, match=f"vmcore: .*{message}"):
        opened(tmp_path, data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (DUMP[:DESCRIPTORS], "page 0x1000: its descriptor at .* cut short"),
        (DUMP[: DESCRIPTORS + 24], "page 0x1000: .* cut short"),
        (replaced(DUMP, DESCRIPTORS, struct.pack("<QI", 1 << 60, 8)), "page 0x1000: 0x8 bytes at 0x1000000000000000"),
        (replaced(DUMP, DESCRIPTORS + 8, struct.pack("<I", 1 << 31)), "page 0x1000: 0x80000000 bytes at"),
        (replaced(DUMP, DESCRIPTORS + 8, struct.pack("<II", 16, 0)), "page 0x1000: 16 bytes at .* once unpacked"),
        (replaced(DUMP, DESCRIPTORS + 12, struct.pack("<I", 2)), "page 0x1000: damaged data at"),
        (replaced(DUMP, DESCRIPTORS + 12, struct.pack("<I", 4)), "page 0x1000: damaged data at"),
        (replaced(DUMP, DESCRIPTORS + 12, struct.pack("<I", 0x20)), "page 0x1000: damaged data at"),
        (replaced(DUMP, DESCRIPTORS + 96, bytes(50)), "page 0x1000: damaged data at"),
    ],
)
def test_a_damaged_page_is_named(tmp_path, data, message):
    image = opened(tmp_path, data)
    with pytest.raises(ImageError, match=f"vmcore: {message}"):
        image.read(PAGE, PAGE)


@given(st.lists(st.tuples(st.integers(0, 200), st.binary(min_size=1, max_size=40)), max_size=12), st.data())
def test_a_flattened_dump_is_what_its_records_wrote_in_their_order(records, draw):
    written = bytearray(max((at + len(part) for at, part in records), default=0))
    body = b""
    for at, part in records:
        written[at : at + len(part)] = part
        body += struct.pack(">qq", at, len(part)) + part
    head = struct.pack(">16sqq", b"makedumpfile", 1, 1).ljust(PAGE, b"\0")
    dump = Flattened("file", head + body + struct.pack(">qq", -1, -1))
    assert len(dump) == len(written)
    start, stop = sorted(draw.draw(st.tuples(st.integers(0, 260), st.integers(0, 260))))
    assert dump[start:stop] == written[start:stop]


FLIPS = st.lists(st.tuples(st.integers(0, len(DUMP) - 1), st.integers(0, 255)), max_size=6)
HEADS = st.lists(st.tuples(st.sampled_from([*range(424, 445), *range(4104, 4208)]), st.integers(0, 255)), max_size=4)


@given(FLIPS, HEADS, st.integers(0, len(DUMP)), st.booleans())
def test_no_dump_does_more_than_fail_in_our_words(flips, heads, cut, flat):
    data = bytearray(DUMP)
    for at, value in flips + heads:
        data[at] = value
    data = bytes(data[:cut]) if cut % 3 == 0 else bytes(data)
    try:
        dump = Flattened("file", flatten(data)) if flat else data
        image = KdumpImage("file", data, dump, -1)
        for start, size in list(image.regions)[:4]:
            image.read(start, min(size, 4 * PAGE))
    except ImageError as error:
        assert re.match("file: ", str(error))  # noqa: PT017  # both ends are good ones


def test_a_snappy_page_that_unpacks_to_more_is_refused(tmp_path):
    bomb = b"\x80\x20" + bytes([0, 65]) + bytes([0xFE, 1, 0]) * 100_000
    assert len(snappy(bytes(PAGE))) < 2 * PAGE
    data = kdump({1: bytes(PAGE)}, "snappy")
    data = replaced(data, len(data) - 4101, bomb[:4101])
    with pytest.raises(ImageError, match=r"page 0x1000: damaged data at .*: too long"):
        opened(tmp_path, data).read(PAGE, 8)
