"""The note of caches: written and read again, and refused where it is damaged."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagetables.cached import (
    CachedAbsence,
    CachedContext,
    CachedInterrupt,
    CachedPasid,
    CachedTable,
    CachedTranslation,
    UnitCaches,
    caches_from_note,
    caches_from_notes,
    caches_note,
)
from pagetables.errors import ImageError

FULL = UnitCaches(
    register_base=0xFED9_0000,
    profile="spec",
    root_table=0x10_0400,
    interrupt_table=0x30_0007,
    haw=46,
    capacities={"contexts": 64, "translations": 256},
    contexts=(CachedContext(0x10, 0x102 << 64 | 0x5001, True),),
    pasids=(CachedPasid(0x10, 5, (1 << 512) - 1),),
    translations=(
        CachedTranslation(3, 0x10, None, 2, False, 0x1000, 12, 0x5000, 7),
        CachedTranslation(3, 0x10, 5, 1, True, 0xFFFF_FFFF_FFFF_F000, 21, 0x20_0000, 3, 9, True),
    ),
    tables=(CachedTable(2, 3, None, None, 4, 0, 0x20_1000, 3), CachedTable(1, 3, 0x10, 5, 2, 0, 0x20_2000, 3)),
    interrupts=(CachedInterrupt(7, 0x41_0001),),
    absences=(CachedAbsence(0x10, None, None, 0, 0, 1), CachedAbsence(0x10, 3, 0, 0x1000, 12, 6)),
)


def test_a_note_reads_back_as_it_was_written() -> None:
    assert caches_from_note(*caches_note(FULL)) == FULL
    empty = UnitCaches(0, "qemu-7.2", 0, 0)
    assert caches_from_note(*caches_note(empty)) == empty


def test_the_note_is_json_of_a_version_with_every_number_as_text() -> None:
    owner, kind, data = caches_note(FULL)
    assert (owner, kind) == ("VTD", 2)
    document = json.loads(data)
    assert document["version"] == 1
    assert document["translations"][0] == {
        "domain_id": "0x3",
        "source_id": "0x10",
        "pasid": None,
        "stage": "0x2",
        "privileged": False,
        "iova": "0x1000",
        "page_shift": "0xc",
        "gpa": "0x5000",
        "permissions": "0x7",
        "rid_pasid": "0x0",
        "dirty": False,
    }


def test_padding_behind_the_note_is_ignored() -> None:
    owner, kind, data = caches_note(FULL)
    assert caches_from_note(owner, kind, data + bytes(3)) == FULL


def test_other_notes_are_none_of_ours() -> None:
    notes = [("VTD", 1, b"registers"), caches_note(FULL), ("CORE", 2, b"\xff")]
    assert caches_from_notes(notes) == (FULL,)


def document(**changes: object) -> bytes:
    """The note's data with some keys changed; None takes one away."""
    whole = json.loads(caches_note(FULL)[2]) | changes
    return json.dumps({key: value for key, value in whole.items() if value is not None}).encode()


@pytest.mark.parametrize(
    "data, message",
    [
        (b"\xff\xfe", "damaged"),
        (b"[]", "damaged"),
        (b"{}", "damaged: KeyError: 'version'"),
        (document(version=2), "has version 2: only 1 is known here"),
        (document(contexts=None), "damaged: KeyError: 'contexts'"),
        (document(haw=46), "expected a number such as '0x1f000', got 46"),
        (document(haw="46"), "expected a number such as '0x1f000', got '46'"),
        (document(more="0x1"), "damaged: TypeError"),
        (document(contexts=[{"source_id": "0x10"}]), "damaged: TypeError"),
        (document(contexts=[{"source_id": "0x10000", "entry": "0x1", "legacy": True}]), "source_id: 0x10000 is none"),
        (document(contexts=[{"source_id": "0x10", "entry": "0x1", "legacy": "0x1"}]), "expected true or false"),
        (document(contexts=[{"source": "0x10"}]), "damaged: KeyError"),
        (document(contexts="0x10"), "damaged"),
        (document(interrupts=[{"index": None, "entry": "0x1"}]), "expected a number"),
    ],
)
def test_a_damaged_note_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        caches_from_note("VTD", 2, data)


@pytest.mark.parametrize("field, value", [("stage", "0x0"), ("stage", "0x5"), ("page_shift", "0x40")])
def test_a_number_that_means_nothing_is_refused(field: str, value: str) -> None:
    (first, *_) = json.loads(caches_note(FULL)[2])["translations"]
    with pytest.raises(ImageError, match=f"{field}: {value} is none"):
        caches_from_note("VTD", 2, document(translations=[{**first, field: value}]))


@given(st.data())
def test_no_damage_makes_it_stumble(data: st.DataObject) -> None:
    whole = bytearray(caches_note(FULL)[2])
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    try:
        found = caches_from_note("VTD", 2, bytes(whole))
    except ImageError:
        return
    assert isinstance(found, UnitCaches)
