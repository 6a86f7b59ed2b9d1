"""`vtd profiles`: what exists, and what each unit says of itself."""

from __future__ import annotations

from cli.__main__ import main
from emulator.profile import profile_names
from tests.cli.conftest import ROOT


def test_every_profile_is_listed_with_its_source(printed):
    listed = printed("profiles")["profiles"]
    assert [profile["name"] for profile in listed] == profile_names()
    assert all(profile["source"] and profile["explains"] for profile in listed)
    assert len(profile_names()) == len(list((ROOT / "emulator/profiles").glob("*.yaml")))


def test_one_profile_shows_its_registers_field_by_field(printed):
    (profile,) = printed("profiles", "sapphire-rapids")["profiles"]
    assert (profile["cap"], profile["ecap"]) == ("0x19ed008c40780c66", "0x3ee9e86f050df")
    assert (profile["levels"], profile["mgaw"], profile["scalable"]) == ([4, 5], 57, True)
    assert profile["fields"]["cap"]["fro"] == 0x40


def test_people_read_a_table_that_fits_a_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["profiles"]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert all(name in out for name in profile_names())


def test_behaviours_are_explained_where_a_unit_differs(capsys):
    assert main(["profiles", "qemu-7.2"]) == 0
    assert "compress_faults: a fault of a source-id" in " ".join(capsys.readouterr().out.split())


def test_an_unknown_profile_names_what_is_near(said):
    assert "did you mean spec" in said("profiles", "spek")
