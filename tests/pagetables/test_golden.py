"""Golden words against the declarations, both ways. The words share nothing with the declarations."""

from __future__ import annotations

import struct
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from pagetables.bits import Access
from pagetables.layouts import LAYOUTS, STRUCTURES, find

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
ENTRIES: list[dict[str, Any]] = yaml.safe_load((FIXTURES / "layouts" / "golden.yaml").read_text())
GOLDEN = [entry for entry in ENTRIES if "word" in entry]
MASKS = [(entry["layout"], name, mask) for entry in ENTRIES for name, mask in entry.get("masks", {}).items()]

# Registers that are declared, and read as their power-on values, but do nothing: one golden word, or none, will do.
PASSIVE = ("MTRR", "PERF", "ECMD", "ECEO", "ECRSP", "ECSTS", "ECCAP", "VC", "PLM", "PHM", "PMEN", "AFLOG")
ACTING = set(STRUCTURES) | {name for name in LAYOUTS if not name.startswith(PASSIVE)}


def joined(word: int | list[int]) -> int:
    return sum(part << 64 * i for i, part in enumerate(word)) if isinstance(word, list) else word


def raw(golden: dict[str, Any]) -> int:
    return joined(golden["word"])


def memory(golden: dict[str, Any]) -> bytes:
    """The bytes a machine would hold, packed without our layouts."""
    word = golden["word"]
    if isinstance(word, list):
        return struct.pack(f"<{len(word)}Q", *word)
    return struct.pack("<I" if LAYOUTS[golden["layout"]].width == 32 else "<Q", word)


def label(golden: dict[str, Any]) -> str:
    return f"{golden['layout']}-{raw(golden):x}"


@pytest.mark.parametrize("golden", GOLDEN, ids=label)
def test_fields_make_the_golden_word(golden: dict[str, Any]) -> None:
    assert find(golden["layout"]).of(**golden["fields"]) == raw(golden)


@pytest.mark.parametrize("golden", GOLDEN, ids=label)
def test_the_golden_word_has_these_fields_and_no_others(golden: dict[str, Any]) -> None:
    layout = find(golden["layout"])
    word = layout(raw(golden))
    set_fields = {name.rstrip("_"): getattr(word, name) for name in layout.fields_by_name if getattr(word, name)}
    assert set_fields == {name: value for name, value in golden["fields"].items() if value}


@pytest.mark.parametrize("golden", GOLDEN, ids=label)
def test_the_golden_word_is_these_bytes(golden: dict[str, Any]) -> None:
    layout = find(golden["layout"])
    assert layout.from_bytes(memory(golden)) == raw(golden)
    assert layout(raw(golden)).pack() == memory(golden)


@pytest.mark.parametrize("layout, name, mask", MASKS)
def test_the_field_has_the_golden_mask(layout: str, name: str, mask: int | list[int]) -> None:
    assert find(layout).field(name).mask == joined(mask)


def test_golden_words_name_layouts_that_exist() -> None:
    assert {entry["layout"] for entry in ENTRIES} <= set(LAYOUTS)


def test_every_layout_with_behaviour_has_two_golden_words() -> None:
    counts = Counter(golden["layout"] for golden in GOLDEN)
    assert {name for name in ACTING if counts[name] < 2} == set()


@pytest.mark.parametrize("name", sorted(ACTING))
def test_every_field_is_set_in_some_golden_word(name: str) -> None:
    known = {
        field for golden in GOLDEN if golden["layout"] == name for field, value in golden["fields"].items() if value
    }
    hidden = (Access.RSVD, Access.IGN)
    fields = {key.rstrip("_") for key, field in LAYOUTS[name].fields_by_name.items() if field.access not in hidden}
    assert fields - known == set()


@pytest.mark.parametrize("name", sorted(ACTING))
def test_no_two_fields_could_be_exchanged_unseen(name: str) -> None:
    words = [golden["fields"] for golden in GOLDEN if golden["layout"] == name]
    masked = {field for layout, field, _ in MASKS if layout == name}
    seen: dict[Any, str] = {}
    for key, field in LAYOUTS[name].fields_by_name.items():
        plain = key.rstrip("_")
        if field.access in (Access.RSVD, Access.IGN) or plain in masked:
            continue
        values = (field.width, *(word.get(plain, 0) for word in words))
        assert seen.setdefault(values, key) == key


def test_no_golden_word_is_zero_everywhere() -> None:
    assert all(raw(golden) for golden in GOLDEN)
