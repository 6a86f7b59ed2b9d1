"""A DMAR table is judged: what is right is left alone, each thing wrong is named, nothing makes it stumble."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagetables.dmar_check import check_dmar
from pagetables.dmar_scopes import scope_text
from pagetables.errors import InputError
from pagetables.layouts.dmar import DeviceScope
from pagetables.severity import Severity
from tests.pagetables.test_dmar import QEMU, STRUCTURES, VARIANTS
from tests.pagetables.test_dmar import table as plain_table

BASE = 0xFED9_0000
NOTE, WARNING, ERROR = Severity


def scope(kind: int = 1, device: int = 2, function: int = 0, *, bus: int = 0, number: int = 0, flags: int = 0) -> bytes:
    return struct.pack("<6B2B", kind, 8, flags, 0, number, bus, device, function)


def drhd(*scopes: bytes, base: int = BASE, flags: int = 0, size: int = 0, segment: int = 0) -> bytes:
    rest = b"".join(scopes)
    return struct.pack("<HHBBHQ", 0, 16 + len(rest), flags, size, segment, base) + rest


def rmrr(base: int, limit: int, *scopes: bytes, segment: int = 0) -> bytes:
    rest = b"".join(scopes)
    return struct.pack("<HHHHQQ", 1, 24 + len(rest), 0, segment, base, limit) + rest


def group(kind: int, *scopes: bytes, flags: int = 0, segment: int = 0) -> bytes:
    """An ATSR, SATC or SIDP."""
    rest = b"".join(scopes)
    return struct.pack("<HHBBH", kind, 8 + len(rest), flags, 0, segment) + rest


def rhsa(base: int) -> bytes:
    return struct.pack("<HHIQI", 3, 20, 0, base, 1)


def andd(number: int, path: bytes) -> bytes:
    return struct.pack("<HH3xB", 4, 8 + len(path) + 1, number) + path + b"\0"


IOAPIC, HPET, GPU, PORT = scope(3, 0x1F, number=2, bus=0xF0), scope(4, 0x1E), scope(), scope(2, 0x1C)
PATH = b"\\_SB.PCI0.I2C0"
ALL = drhd(IOAPIC, HPET, flags=1)


def table(*structures: bytes, haw: int = 38, flags: int = 1) -> bytes:
    """A table whose flags are right, with a right checksum."""
    data = bytearray(plain_table(*structures, haw=haw))
    data[37], data[9] = flags, 0
    data[9] = -sum(data) & 0xFF
    return bytes(data)


def told(data: bytes) -> list[tuple[str, Severity, str]]:
    return [(one.check, one.severity, one.message) for one in check_dmar(data).complaints]


GOOD = {
    "one unit for all": [ALL],
    "two units": [drhd(GPU), drhd(IOAPIC, HPET, flags=1, base=BASE + 0x1000)],
    "two segments": [ALL, drhd(flags=1, base=BASE + 0x1000, segment=1)],
    "reserved memory": [ALL, rmrr(0x7D00_0000, 0x7D7F_FFFF, GPU), rmrr(0x7D80_0000, 0x7D80_0FFF, scope(1, 0x14))],
    "root ports": [ALL, group(2, PORT), group(2, flags=1)],
    "affinity": [ALL, rhsa(BASE)],
    "namespace device": [drhd(IOAPIC, scope(5, 0x15, number=1), flags=1), andd(1, PATH)],
    "integrated caches": [ALL, group(5, GPU), group(6, scope(flags=0b11111))],
    "registers of many pages": [drhd(GPU, IOAPIC, size=1), drhd(flags=1, base=BASE + 0x2000)],
}
BAD = {
    "header": ([], "no-unit", ERROR, "no DRHD"),
    "base 0": ([drhd(IOAPIC, base=0, flags=1)], "unit-base", ERROR, "DRHD at 0x30: register base 0; Linux refuses"),
    "base odd": ([drhd(IOAPIC, base=BASE + 8, flags=1)], "unit-base", ERROR, "0xfed90008 is not aligned to 4 KiB"),
    "base far": ([drhd(IOAPIC, base=1 << 39, flags=1)], "unit-base", ERROR, "beyond the host address width 39"),
    "unit flags": ([drhd(IOAPIC, flags=3)], "flags", NOTE, "reserved bits are set"),
    "unit size": ([drhd(IOAPIC, flags=1, size=0x10)], "flags", NOTE, "reserved bits are set"),
    "serves nothing": ([drhd(), drhd(IOAPIC, flags=1, base=BASE + 4096)], "unit-scope", WARNING, "serves no device"),
    "all and some": ([drhd(IOAPIC, GPU, flags=1)], "unit-scope", WARNING, "although INCLUDE_PCI_ALL is set"),
    "same base": ([drhd(GPU), ALL], "unit-overlap", ERROR, "overlap those of DRHD at 0x30"),
    "overlap": (
        [drhd(GPU, size=1), drhd(IOAPIC, flags=1, base=BASE + 0x1000)],
        "unit-overlap",
        ERROR,
        "DRHD at 0x48: its registers at 0xfed91000 overlap those of DRHD at 0x30",
    ),
    "all first": (
        [drhd(IOAPIC, flags=1), drhd(GPU, base=BASE + 0x1000)],
        "include-all",
        ERROR,
        "DRHD at 0x48 follows DRHD at 0x30, whose INCLUDE_PCI_ALL must be the last",
    ),
    "order": ([rmrr(0x1000, 0x1FFF, GPU), ALL], "order", WARNING, "DRHD at 0x50 follows a structure of type 1"),
    "unknown": ([ALL, struct.pack("<HH", 9, 4)], "unknown-type", NOTE, "structure of type 9 at 0x50 is not known"),
    "rmrr empty": ([ALL, rmrr(0x2000, 0x1FFF, GPU)], "rmrr-range", ERROR, "a limit that is not above its base"),
    "rmrr one byte": ([ALL, rmrr(0x2000, 0x2000, GPU)], "rmrr-range", ERROR, "a limit that is not above its base"),
    "rmrr base": ([ALL, rmrr(0x2008, 0x2FFF, GPU)], "rmrr-range", ERROR, "does not begin and end with a page"),
    "rmrr limit": ([ALL, rmrr(0x2000, 0x3000, GPU)], "rmrr-range", ERROR, "does not begin and end with a page"),
    "rmrr far": ([ALL, rmrr(0x2000, (1 << 40) - 1, GPU)], "rmrr-range", ERROR, "beyond the host address width"),
    "rmrr large": ([ALL, rmrr(0x4000_0000, 0x7FFF_FFFF, GPU)], "rmrr-size", WARNING, "reserves 1 GiB"),
    "rmrr nobody": ([ALL, rmrr(0x2000, 0x2FFF)], "rmrr-scope", WARNING, "is for no device"),
    "rmrr overlap": (
        [ALL, rmrr(0x2000, 0x5FFF, GPU), rmrr(0x3000, 0x3FFF, scope(1, 3)), rmrr(0x5000, 0x6FFF, scope(1, 4))],
        "rmrr-overlap",
        WARNING,
        "RMRR at 0x90: 0x5000-0x6fff overlaps RMRR at 0x50",
    ),
    "rmrr over registers": (
        [ALL, rmrr(BASE - 0x1000, BASE + 0xFFF, GPU)],
        "rmrr-overlap",
        ERROR,
        "holds the registers",
    ),
    "segment": ([ALL, rmrr(0x2000, 0x2FFF, GPU, segment=7)], "segment", WARNING, "segment 7 has no remapping unit"),
    "atsr nobody": ([ALL, group(2)], "atsr", WARNING, "names no root port"),
    "atsr both": ([ALL, group(2, PORT, flags=1)], "atsr", NOTE, "although ALL_PORTS is set"),
    "atsr endpoint": ([ALL, group(2, GPU)], "atsr", WARNING, "a scope is no bridge"),
    "satc nobody": ([ALL, group(5)], "satc", WARNING, "names no device"),
    "satc bridge": ([ALL, group(5, PORT)], "satc", WARNING, "no endpoint of the root complex"),
    "sidp bridge": ([ALL, group(6, PORT)], "sidp", WARNING, "no endpoint of the root complex"),
    "rhsa base": ([ALL, rhsa(BASE + 0x1000)], "rhsa", WARNING, "no DRHD has the register base 0xfed91000"),
    "rhsa twice": ([ALL, rhsa(BASE), rhsa(BASE)], "rhsa", WARNING, "has an RHSA already"),
    "andd twice": ([ALL, andd(1, PATH), andd(1, PATH)], "andd", ERROR, "device number 1 is given more than once"),
    "andd path": ([ALL, andd(1, b"I2C0")], "andd", WARNING, "'I2C0' is no full path"),
    "andd control": ([ALL, andd(1, b"\\\x1b[2J\xff")], "andd", WARNING, "is no full path"),
    "andd missing": ([drhd(IOAPIC, scope(5, number=3), flags=1)], "andd", WARNING, "has no ANDD that gives its name"),
    "scope type": ([drhd(IOAPIC, scope(9), flags=1)], "scope-type", WARNING, "type 9 00:02.0 is of a type"),
    "scope place": ([ALL, rmrr(0x2000, 0x2FFF, IOAPIC)], "scope-type", WARNING, "belongs into a DRHD"),
    "scope path": ([drhd(IOAPIC, scope(1, 0x20))], "scope-path", ERROR, "there is no such device or function"),
    "scope function": ([drhd(IOAPIC, scope(1, 1, 8))], "scope-path", ERROR, "there is no such device or function"),
    "scope flags": ([drhd(IOAPIC, scope(flags=1))], "scope-flags", NOTE, "reserved flags are set: 0x1"),
    "sidp flags": ([ALL, group(6, scope(flags=0x20))], "scope-flags", NOTE, "reserved flags are set: 0x20"),
    "scope twice": ([ALL, rmrr(0x2000, 0x2FFF, GPU, GPU)], "scope-twice", WARNING, "names endpoint 00:02.0 twice"),
    "two units": (
        [drhd(GPU), drhd(IOAPIC, GPU, base=BASE + 0x1000)],
        "scope-twice",
        ERROR,
        "DRHD at 0x48: endpoint 00:02.0 is served by DRHD at 0x30 already",
    ),
    "two ioapics": (
        [drhd(IOAPIC), drhd(IOAPIC, base=BASE + 0x1000)],
        "scope-twice",
        ERROR,
        "IOAPIC 2 at f0:1f.0 is served",
    ),
    "two hpets": ([drhd(IOAPIC, HPET), drhd(HPET, base=BASE + 0x1000)], "scope-twice", ERROR, "HPET 0 at 00:1e.0 is"),
    "no ioapic": ([drhd(flags=1)], "ioapic", WARNING, "no DRHD names an IOAPIC"),
}


@pytest.mark.parametrize("structures", GOOD.values(), ids=GOOD)
def test_what_is_right_is_left_alone(structures: list[bytes]) -> None:
    assert told(table(*structures)) == []


@pytest.mark.parametrize(("structures", "check", "severity", "says"), BAD.values(), ids=BAD)
def test_what_is_wrong_is_named(structures: list[bytes], check: str, severity: Severity, says: str) -> None:
    found = [message for name, worst, message in told(table(*structures)) if (name, worst) == (check, severity)]
    assert [one for one in found if says in one], told(table(*structures))


@pytest.mark.parametrize("name", [name for name in BAD if name not in ("header", "base 0")])
def test_nothing_else_is_said_of_a_table_with_one_thing_wrong(name: str) -> None:
    structures, check, *_ = BAD[name]
    assert {one for one, *_ in told(table(*structures))} <= {check, "order", "ioapic", "rmrr-overlap"}


@pytest.mark.parametrize(
    ("haw", "flags", "check", "severity"),
    [(10, 1, "width", ERROR), (52, 1, "width", WARNING), (38, 0x11, "flags", NOTE), (38, 2, "flags", WARNING)],
)
def test_the_header_is_judged(haw: int, flags: int, check: str, severity: Severity) -> None:
    assert (check, severity) in {one[:2] for one in told(table(ALL, haw=haw, flags=flags))}


def test_without_interrupt_remapping_no_ioapic_is_missed() -> None:
    assert told(table(drhd(flags=1), flags=0)) == []


def test_a_wrong_checksum_is_told_and_the_table_is_read() -> None:
    data = bytearray(table(ALL))
    data[9] ^= 0xFF
    report = check_dmar(bytes(data))
    assert [(one.check, one.offset) for one in report.complaints] == [("checksum", 9)]
    assert (len(report.placed), report.worst) == (1, ERROR)


@pytest.mark.parametrize(
    ("change", "offset", "says", "left"),
    [
        (lambda data: data + b"more", 80, "4 bytes follow the table", 1),
        (lambda data: data[:-4], 48, "has length 32, and 28 bytes are left", 0),
        (lambda data: data[:4] + b"\x04\0\0\0" + data[8:], 4, "less than a header of 48", 1),
        (lambda data: data[:50] + b"\0\0" + data[52:], 48, "has length 0, expected 4 or more; 32 bytes", 0),
        (lambda data: data[:50] + b"\x0c\0" + data[52:], 48, "DRHD at offset 0x30 has length 12, expected 16", 0),
        (lambda data: data[:65] + b"\x07" + data[66:], 48, "length 7, expected 6 and 2 for each hop", 0),
    ],
    ids=["longer", "shorter", "header", "zero", "short structure", "odd scope"],
)
def test_damage_is_named_and_what_comes_before_is_read(change, offset: int, says: str, left: int) -> None:
    report = check_dmar(change(table(ALL)))
    assert [one for one in report.complaints if says in one.message and one.offset == offset], report.complaints
    assert len(report.placed) == left


def test_a_damaged_structure_does_not_hide_what_follows() -> None:
    report = check_dmar(table(ALL, struct.pack("<HH", 3, 8) + bytes(4), rmrr(0x2000, 0x2FFF, GPU)))
    assert [one.name for one in report.placed] == ["DRHD at 0x30", "RMRR at 0x58"]
    assert [one.check for one in report.complaints] == ["structure"]


def test_complaints_come_in_the_order_of_the_table() -> None:
    offsets = [one.offset or 0 for one in check_dmar(table(*STRUCTURES.values())).complaints]
    assert offsets == sorted(offsets)
    assert len(offsets) > 3


@pytest.mark.parametrize("data", [b"", b"DMAR", b"APIC" + bytes(100)])
def test_what_is_no_dmar_table_is_refused(data: bytes) -> None:
    with pytest.raises(InputError, match="DMAR table"):
        check_dmar(data)


def test_real_tables_are_right() -> None:
    assert told(QEMU) == []


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_tables_of_the_recordings_are_right(variant: str, corpus) -> None:
    assert told((corpus / variant / "dmar.bin").read_bytes()) == []


def test_scopes_in_words() -> None:
    assert scope_text(DeviceScope(1, 0, ((0x1C, 0), (0, 1)))) == "endpoint 00:1c.0/00.1"
    assert scope_text(DeviceScope(5, 0, ((0x15, 0),), enum_id=3)) == "namespace device 3 at 00:15.0"


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=300))
def test_no_bytes_make_it_stumble(body: bytes) -> None:
    assert check_dmar(table() + body).table
    check_dmar(table()[:48] + body)


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_no_damage_makes_it_stumble(data: st.DataObject) -> None:
    raw = bytearray(table(*STRUCTURES.values(), ALL, rmrr(0x2000, 0x2FFF, GPU), andd(1, PATH)))
    for _ in range(data.draw(st.integers(1, 6))):
        raw[data.draw(st.integers(4, len(raw) - 1))] = data.draw(st.integers(0, 255))
    report = check_dmar(bytes(raw[: data.draw(st.integers(48, len(raw)))]))
    assert all(one.message for one in report.complaints)
