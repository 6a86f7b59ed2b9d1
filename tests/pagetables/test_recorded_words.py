"""Words of real guests against an independent reading of them (truth.json of the recordings)."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pagetables.address import parse_source_id
from pagetables.bits import Word
from pagetables.layouts import (
    FsPde2M,
    FsPte,
    LegacyContextEntry,
    PasidTableEntry,
    RemappedInterruptEntry,
    ScalableContextEntry,
    SsPde2M,
    SsPdpe1G,
    SsPte,
)

CUTS = Path(__file__).resolve().parents[2] / "fixtures" / "images"
SHIPPED = ("a-legacy-strict", "c-scalable", "i-firststage-k72", "t-vfio-superpages")
ALL = (*SHIPPED, "f-intremap", "h-fault", "x-tracecmd")
LEAVES = {
    "ss": {0x1000: SsPte, 0x20_0000: SsPde2M, 0x4000_0000: SsPdpe1G},
    "fs": {0x1000: FsPte, 0x20_0000: FsPde2M},
}

# What the independent reader calls a field, where it differs: it kept the names of older revisions.
RENAMED = {"slptptr": "ssptptr", "flptptr": "fsptptr", "slee": "ssee", "slade": "ssade", "flpm": "fspm", "vector": "v"}
POINTERS = ("ssptptr", "fsptptr", "pasiddirptr")


def truth_of(folder: Path) -> dict[str, Any]:
    plain = folder / "truth.json"
    return json.loads(
        plain.read_bytes() if plain.exists() else gzip.decompress((folder / "truth.json.gz").read_bytes())
    )


def compare(word: Word, entry: dict[str, Any]) -> int:
    """How many fields were compared; the word's must equal the entry's."""
    compared = 0
    for key, expected in entry.items():
        name = RENAMED.get(key, "pasiddirptr" if key == "pasid_dir" else "p" if key == "present" else key)
        if name not in word.fields() or key in ("sid", "pasid"):
            continue
        value = word.fields()[name] << 12 if name in POINTERS else word.fields()[name]
        assert value == (int(expected, 16) if isinstance(expected, str) else expected), (entry, name)
        compared += 1
    return compared


def entries(truth: dict[str, Any]) -> Iterator[tuple[type[Word], dict[str, Any]]]:
    kind = PasidTableEntry if truth["ttm"] else LegacyContextEntry
    yield from ((kind, entry) for entry in truth["attachments"])
    yield from ((ScalableContextEntry, entry) for entry in truth["scalable_contexts"])
    yield from ((RemappedInterruptEntry, entry) for entry in (truth["irt"] or {"irtes": []})["irtes"])


def check_entries(truth: dict[str, Any]) -> None:
    for layout, entry in entries(truth):
        word = layout.from_qwords(*(int(part, 16) for part in entry["raw"]))
        assert word & word.reserved_mask == 0
        assert compare(word, entry) >= 5
        if layout is RemappedInterruptEntry:
            assert word.sid == parse_source_id(entry["sid"])


def check_leaves(truth: dict[str, Any]) -> int:
    count = 0
    for table in truth["tables"]:
        for _, gpa, size, permissions, _, raw in table["maps"]:
            first_stage = table["stage"] == "first"
            layout = LEAVES["fs" if first_stage else "ss"][int(size, 16)]
            word = layout(int(raw, 16))
            assert word.addr << layout.addr.lo == int(gpa, 16)
            assert word & word.reserved_mask == 0
            assert ("W" in permissions) <= bool(word.rw if first_stage else word.w)
            count += 1
    return count


@pytest.mark.parametrize("variant", SHIPPED)
def test_shipped_entries_read_as_the_independent_reader_says(variant: str) -> None:
    check_entries(truth_of(CUTS / variant))


@pytest.mark.parametrize("variant", SHIPPED)
def test_shipped_leaves_read_as_the_independent_reader_says(variant: str) -> None:
    assert check_leaves(truth_of(CUTS / variant)) > 5000


@pytest.mark.parametrize("variant", ALL)
def test_recorded_entries_read_as_the_independent_reader_says(corpus: Path, variant: str) -> None:
    check_entries(truth_of(corpus / variant))


@pytest.mark.parametrize("variant", ALL)
def test_recorded_leaves_read_as_the_independent_reader_says(corpus: Path, variant: str) -> None:
    assert check_leaves(truth_of(corpus / variant)) > 5000
