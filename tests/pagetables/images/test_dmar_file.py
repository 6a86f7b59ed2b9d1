"""A DMAR table is found in every kind of file that may hold one, and nowhere else."""

from __future__ import annotations

import gzip
import io
import lzma
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagetables.errors import InputError, VtdError
from pagetables.images.dmar_file import load_dmar, parse_acpidump
from tests.pagetables.test_dmar import QEMU, VARIANTS


def dump(table: bytes, name: str = "DMAR", address: int = 0x1FFE_30EF) -> str:
    """What acpidump prints of a table."""
    lines = [f"{name} @ 0x{address >> 32:08X}{address & 0xFFFFFFFF:08X}"]
    for at in range(0, len(table), 16):
        row = table[at : at + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        lines.append(f"    {at:04X}: {' '.join(f'{byte:02X}' for byte in row):<48} {text}")
    return "\n".join(lines) + "\n\n"


OTHER = b"APIC" + bytes(range(60))


def test_the_table_itself(tmp_path) -> None:
    (tmp_path / "table").write_bytes(QEMU)
    assert load_dmar(str(tmp_path / "table")) == QEMU


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress], ids=["gzip", "xz"])
@pytest.mark.parametrize("text", [False, True], ids=["table", "acpidump"])
def test_compressed(tmp_path, pack, text: bool) -> None:
    (tmp_path / "table").write_bytes(pack(dump(QEMU).encode() if text else QEMU))
    assert load_dmar(str(tmp_path / "table")) == QEMU


def test_acpidump_of_several_tables(tmp_path) -> None:
    (tmp_path / "text").write_text(dump(OTHER, "APIC") + dump(QEMU) + dump(OTHER, "SSDT"))
    assert load_dmar(str(tmp_path / "text")) == QEMU


def test_acpidump_whose_first_table_is_dmar_is_not_taken_for_the_table(tmp_path) -> None:
    (tmp_path / "text").write_text(dump(QEMU) + dump(OTHER, "APIC"))
    assert load_dmar(str(tmp_path / "text")) == QEMU


def test_old_titles_and_odd_text_columns() -> None:
    text = "DMAR @ 0x1ffe30ef\n  0000: 44 4D 41 52 01 00 00 00 00 00 00 00 00 00 00 00  DM AR 41 42\n"
    assert parse_acpidump(text.encode()) == b"DMAR\1" + bytes(11)


def test_standard_input(monkeypatch) -> None:
    for data in (QEMU, dump(QEMU).encode()):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        assert load_dmar("-") == QEMU
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    with pytest.raises(InputError, match="standard input: no DMAR table"):
        load_dmar("-")


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_image_holds_the_table_that_its_guest_saw(variant: str, corpus) -> None:
    assert load_dmar(str(corpus / variant / "image.elf")) == (corpus / variant / "dmar.bin").read_bytes()


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "empty"),
        (b"hello\n" * 3, "no kind of image"),
        (bytes(4096), "no DMAR table in it"),
        (dump(OTHER, "APIC").encode(), "no DMAR table in it"),
        (gzip.compress(dump(OTHER, "APIC").encode()), "no DMAR table in it"),
        (b"DMAR @ 0x0\n  0010: 00\n", "line 2: a row for 0x10, expected 0x0"),
        (b"DMAR @ 0x0\n  0000: 00 0x\n", "line 2: '0x' is not a byte"),
        (gzip.compress(QEMU)[:-9], "damaged gzip data"),
    ],
    ids=["empty", "text", "zeros", "other", "other.gz", "offset", "byte", "cut"],
)
def test_what_holds_none_is_refused(tmp_path, data: bytes, what: str) -> None:
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(VtdError, match=what):
        load_dmar(str(tmp_path / "file"))


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from(["DMAR @ 0x0\n", "APIC @ 0x1\n", "  0000: ", "0010: ", "00 ", "44 ", "  .", "\n", "x", "é"])
    )
)
def test_no_text_does_more_than_be_refused(words: list[str]) -> None:
    try:
        table = parse_acpidump("".join(words).encode())
    except VtdError:
        return
    assert table is None or table


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=200))
def test_every_table_comes_back_from_its_dump(table: bytes) -> None:
    assert parse_acpidump(dump(table).encode()) == table
