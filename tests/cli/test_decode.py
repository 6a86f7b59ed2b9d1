"""`vtd decode`: words in, meanings out, and one line for everything that cannot be decoded."""

from __future__ import annotations

import json
import subprocess

import pytest

from pagetables.layouts import LAYOUTS


def document(done: subprocess.CompletedProcess[str]):
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def test_an_entry_of_two_words_is_decoded(vtd) -> None:
    assert document(vtd("decode", "legacy-context-entry", "0x1000_0003", "0x102", "--json")) == {
        "layout": "legacy_context_entry",
        "word": "0x1020000000010000003",
        "qwords": ["0x10000003", "0x102"],
        "fields": {"p": 1, "fpd": 1, "tt": 0, "ssptptr": 0x10000, "aw": 2, "did": 1},
        "reserved_set": "0x0",
        "ignored_set": "0x0",
    }


def test_one_long_number_is_the_same_entry(vtd) -> None:
    long = vtd("decode", "LEGACY_CONTEXT_ENTRY", str(0x102 << 64 | 0x1000_0003), "--json")
    assert long.stdout == vtd("decode", "legacy-context-entry", "0x10000003", "0x102", "--json").stdout


def test_reserved_and_ignored_bits_that_are_set_are_told_apart(vtd) -> None:
    decoded = document(vtd("decode", "ss-pte", "0x4010_0000_0000_0081", "--json"))
    assert decoded["reserved_set"] == "0x4000000000000000"
    assert decoded["ignored_set"] == "0x10000000000080"


def test_people_are_shown_addresses_and_names(vtd) -> None:
    shown = vtd("decode", "legacy-context-entry", "0x1000_0007", "0x102").stdout
    assert "63:12   SSPTPTR   0x10000   0x10000000: second-stage root" in shown
    assert "3:2   TT              1   device tlb: translation type" in shown
    assert "reserved" not in shown


def test_people_are_shown_what_may_not_be_set(vtd) -> None:
    shown = vtd("decode", "ss-pte", "0x4000_0000_0000_0081").stdout
    assert "62   (reserved)" in shown
    assert "7   (ignored)" in shown
    assert "reserved bits are set: 0x4000000000000000" in shown


def test_a_value_that_is_not_assigned_is_called_reserved(vtd) -> None:
    assert "reserved value: table mode" in vtd("decode", "rtaddr", "0x800").stdout


def test_a_register_is_found_by_its_name_and_says_where_it_is(vtd) -> None:
    shown = vtd("decode", "GSTS", "0xc7000000").stdout
    assert "At 0x1c of the register page" in shown
    assert "31   TES         1" in shown
    assert "At ECAP.IRO*16+0x8" in vtd("decode", "iotlb", "0").stdout


def test_a_fault_record_names_its_reason(vtd) -> None:
    assert "5   write denied: fault reason" in vtd("decode", "frcd", "0xabcde000", "0x80ffff0500000028").stdout


def test_standard_input_is_one_entry_a_line(vtd, start) -> None:
    process = start("decode", "legacy-root-entry", "-", "--json", stdin=subprocess.PIPE)
    out, err = process.communicate("0x79b9001 0\n\n0x8024001 0x0\n")
    assert (process.returncode, err) == (0, "")
    assert [entry["fields"]["ctp"] for entry in json.loads(out)] == [0x79B9, 0x8024]


def test_empty_standard_input_is_no_entry(start) -> None:
    process = start("decode", "gsts", "-", "--json", stdin=subprocess.PIPE)
    assert process.communicate("") == ("[]\n", "")


def test_a_bad_line_of_standard_input_is_named(start) -> None:
    process = start("decode", "gsts", "-", "--json", stdin=subprocess.PIPE)
    out, err = process.communicate("1\n\nx\n")
    assert (process.returncode, out) == (2, "")
    assert err == "vtd: standard input, line 3: 'x' is not a number: expected decimal, or hexadecimal with 0x\n"


def test_the_list_names_every_layout(vtd) -> None:
    listed = document(vtd("decode", "--list", "--json"))["layouts"]
    assert {entry["name"]: entry["bits"] for entry in listed} == {name: cls.width for name, cls in LAYOUTS.items()}
    shown = vtd("decode", "--list").stdout
    assert "legacy-context-entry" in shown
    assert "GSTS" in shown


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_name_in_the_list_can_be_decoded_and_shown(name: str) -> None:
    from click.testing import CliRunner

    from cli.commands.decode import command

    shown = CliRunner().invoke(command, [name, str((1 << LAYOUTS[name].width) - 1)], catch_exceptions=False)
    assert shown.exit_code == 0
    assert ("reserved bits are set" in shown.stdout) == bool(LAYOUTS[name].reserved_mask)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "Missing argument 'LAYOUT': a name of --list (see vtd decode --help)"),
        (["ss-pte"], "ss-pte: expected one word of 64 bits, got none"),
        (["ss-pte", "1", "2"], "ss-pte: expected one word of 64 bits, got 2"),
        (["inv-iotlb", "1", "2", "3"], "inv-iotlb: expected 2 words of 64 bits, lowest first, or one of 128, got 3"),
        (["ss-pte", "0x10000000000000000"], "ss-pte: 0x10000000000000000 does not fit 64 bits"),
        (["inv-iotlb", "0x10000000000000000", "0"], "inv-iotlb: 0x10000000000000000 does not fit 64 bits"),
        (["GSTS", "0x100000000"], "GSTS: 0x100000000 does not fit 32 bits"),
        (["GSTS", "--", "-1"], "GSTS: -0x1 does not fit 32 bits"),
        (["GSTS", "beef"], "'beef' is not a number: expected decimal, or hexadecimal with 0x"),
        (["GSTS", "-", "1"], "'-' is not a number: expected decimal, or hexadecimal with 0x"),
        (["ss-ptee", "1"], "no layout is called 'ss-ptee'; did you mean ss_pte or fs_pte?"),
        (["ss-ptee", "-"], "no layout is called 'ss-ptee'; did you mean ss_pte or fs_pte?"),
    ],
)
def test_what_cannot_be_decoded_is_one_line(vtd, arguments: list[str], message: str) -> None:
    done = vtd("decode", *arguments, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"vtd: {message[:-1]}")
    assert done.stderr.count("\n") == 1
