"""Where the kernel lies: System.map, hints and /proc/iomem, and whatever else calls itself that."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pagetables.audit.regions import (
    Hints,
    Region,
    RegionKind,
    parse_hints,
    parse_symbols,
    read_hints,
    read_symbols,
)
from pagetables.errors import InputError, VtdError

MAP = b"""0000000000000000 D __per_cpu_start
ffffffff81000000 T _text
ffffffff81000000 T _stext
ffffffff82000000 T _etext
ffffffff82000000 R __start_rodata
ffffffff82400000 R __end_rodata
ffffffff82800000 D _sdata
ffffffff82a00000 D _edata
ffffffff82c10000 D init_top_pgt
ffffffff82c10001 D level3_kernel_pgt
ffffffffa0000000 t nvme_probe\t[nvme]
"""
IOMEM = b"""00000000-00000fff : Reserved
00001000-1ffccfff : System RAM
  0e000000-0effffff : Kernel code
  0f000000-0fb8cfff : Kernel rodata
  10738000-10bfffff : Kernel bss
fee00000-fee00fff : Local APIC
"""
YAML = b"""
kernel: {phys_base: 0x1000000, offset: 0x200000}
regions:
  - {name: queues, start: 0x1000, end: 0x1fff, devices: [00:05.0, "0000:01:00.0"]}
  - {start: 4096, size: 0x2_000, kind: tables}
"""


def test_a_system_map_tells_the_kernel_where_it_was_linked() -> None:
    assert parse_symbols(MAP) == (
        Region("kernel text", RegionKind.TEXT, 0x100_0000, 0x100_0000),
        Region("kernel read-only data", RegionKind.RODATA, 0x200_0000, 0x40_0000),
        Region("kernel data", RegionKind.DATA, 0x280_0000, 0x20_0000),
        Region("init_top_pgt", RegionKind.TABLES, 0x2C1_0000, 0x1000),  # level3_kernel_pgt is no page
    )


def test_a_moved_kernel_is_where_the_hints_say() -> None:
    regions = parse_symbols(MAP, hints=Hints(phys_base=-0x80_0000, kernel_offset=0x1000_0000))
    assert regions[0].start == 0x100_0000 - 0x80_0000 + 0x1000_0000


def test_stext_stands_in_for_text() -> None:
    (only,) = parse_symbols(b"ffffffff81000000 T _stext\nffffffff81001000 T _etext\n")
    assert (only.start, only.size) == (0x100_0000, 0x1000)


def test_iomem_tells_memory_and_the_kernel_but_not_bss() -> None:
    hints = parse_hints(IOMEM)
    assert hints == Hints(
        (
            Region("System RAM", RegionKind.RAM, 0x1000, 0x1FFC_C000),
            Region("Kernel code", RegionKind.TEXT, 0xE00_0000, 0x100_0000),
            Region("Kernel rodata", RegionKind.RODATA, 0xF00_0000, 0xB8_D000),
        )
    )


def test_yaml_tells_regions_and_where_the_kernel_is() -> None:
    assert parse_hints(YAML) == Hints(
        (
            Region("queues", RegionKind.PRIVATE, 0x1000, 0x1000, (0x0028, 0x0100)),
            Region("page tables of the CPU", RegionKind.TABLES, 0x1000, 0x2000),
        ),
        0x100_0000,
        0x20_0000,
    )
    assert parse_hints(b"kernel:\nregions:\n") == Hints()


def test_a_file_that_is_far_too_long_is_refused(tmp_path) -> None:
    (tmp_path / "hints").write_bytes(bytes((1 << 20) + 1))
    with pytest.raises(InputError, match="longer than 1048576 bytes"):
        read_hints(str(tmp_path / "hints"))


def test_files_are_read(tmp_path) -> None:
    (tmp_path / "map").write_bytes(MAP)
    (tmp_path / "iomem").write_bytes(IOMEM)
    assert read_symbols(str(tmp_path / "map")) == parse_symbols(MAP)
    assert read_hints(str(tmp_path / "iomem")) == parse_hints(IOMEM)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "no symbols in it"),
        (b"hello\n", "no symbols in it"),
        (b"0000000000000000 T _text\n0000000000000000 T _etext\n", "shows them to root only"),
        (b"ffffffff81000000 T start\n", "none of"),
        (b"0000000000001000 T _text\n0000000000002000 T _etext\n", "no physical address; phys_base"),
    ],
)
def test_what_is_no_system_map_is_refused(data: bytes, what: str) -> None:
    with pytest.raises(InputError, match=what):
        parse_symbols(data, "file")


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "expected `kernel` and `regions`"),
        (b"- 1\n", "expected `kernel` and `regions`"),
        (b"a: [", "neither YAML nor"),
        (b"ring: 1\n", "expected `kernel` and `regions`"),
        (b"regions: 5\n", "`regions` is not a list"),
        (b"regions: [5]\n", "region 1: expected a table of name"),
        (b"regions: [{start: 1, size: 2, colour: red}]\n", "region 1: expected a table of name"),
        (b"regions: [{start: 1}]\n", "either `size` or `end`"),
        (b"regions: [{start: 1, size: 1, end: 1}]\n", "either `size` or `end`"),
        (b"regions: [{start: one, size: 1}]\n", "region 1: start: 'one' is not a number"),
        (b"regions: [{start: [1], size: 1}]\n", "is not a number"),
        (b"regions: [{start: 5, end: 2}]\n", "no physical address"),
        (b"regions: [{start: -1, size: 2}]\n", "no physical address"),
        (b"regions: [{start: 1, size: 1, kind: ring}]\n", "kind 'ring'; expected one of text, "),
        (b"regions: [{start: 1, size: 1, devices: 00:05.0}]\n", "`devices` is not a list"),
        (b"regions: [{start: 1, size: 1, devices: [5]}]\n", "'5' is not a device"),
        (b"regions: [{start: 1, size: 1, name: [5]}]\n", "`name` is not a text"),
        (b"kernel: {phys: 1}\n", "kernel: expected a table of phys_base, offset"),
        (b"kernel: {offset: x}\n", "offset: 'x' is not a number"),
        (b"00000000-00000000 : System RAM\n", "shows them to root only"),
        (b"0-fffffffffffffffff : System RAM\n", "no physical address"),
    ],
)
def test_what_is_no_hint_is_refused(data: bytes, what: str) -> None:
    with pytest.raises(InputError, match=what):
        parse_hints(data, "file")


TEXTS = st.text(alphabet="0123456789abcdefT _textdru-:[]{}&*\n ,", max_size=200).map(str.encode)
WORDS = ["regions:", "- ", "start: 1", "size: ", "0x10", "[", "{", "}", "\n", "  ", "devices", ": "]


@settings(deadline=None)
@given(st.binary(max_size=200) | TEXTS)
@example(b"regions: &a [*a]\n")
@example(b"kernel: &a {phys_base: *a}\n")
@example(b"? [1]\n: 2\n")
@example(b"!!python/object:os.system x\n")
@example(b"[" * 500)
def test_no_hints_and_no_symbols_do_more_than_refuse(data: bytes) -> None:
    for parse in (parse_hints, parse_symbols):
        try:
            parse(data)
        except VtdError:
            continue


@settings(deadline=None)
@given(st.lists(st.sampled_from(WORDS)))
def test_hints_that_are_nearly_right_do_no_more_than_refuse(words: list[str]) -> None:
    try:
        parse_hints("".join(words).encode())
    except VtdError:
        return
