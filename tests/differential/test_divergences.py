"""The written list of divergences: each is really there, in each version that it names, and at the step it names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from emulator.engine import load_engine
from emulator.profile import profile_names
from tests.differential.campaign import binary_of
from tests.differential.scene import Op, Scene, differences

ROOT = Path(__file__).resolve().parent.parent
LISTED: list[dict[str, Any]] = yaml.safe_load((ROOT / "qemu_divergences.yaml").read_text())
SHOWN = [
    pytest.param(entry, version, id=f"{version}-{entry['seen'].replace(' ', '-')}")
    for entry in LISTED
    if "steps" in entry
    for version in entry["versions"]
    if version != "11.1"
]


def parsed(step: str) -> Op:
    name, *rest = step.split()
    return [name, int(rest[0], 0), rest[1]] if name == "fill" else [name, *[int(one, 0) for one in rest]]


@pytest.mark.qemu
@pytest.mark.parametrize("entry, version", SHOWN)
def test_a_listed_divergence_is_seen_where_it_is_said_to_be(entry: dict[str, Any], version: str) -> None:
    ops = [parsed(step) for step in entry["steps"]]
    scene = Scene(version, entry.get("options", ""), ops, "divergence", entry.get("loaded", True))
    found = differences(scene, binary_of(version), load_engine("python"))
    assert found, f"no longer there: {entry['what']}"
    name, offset = entry["seen"].split()
    assert found[0].op[:2] == [name, int(offset, 0)], str(found[0])


def test_the_list_says_who_is_right_and_why() -> None:
    for entry in LISTED:
        assert entry["right"] in ("ours", "qemu", "both"), entry["what"]
        assert len(entry["why"].split()) >= 4, entry["what"]
        assert sum(key in entry for key in ("steps", "shown_by", "unseen")) == 1, entry["what"]
        assert all(f"qemu-{version}" in profile_names() for version in entry["versions"])
        if "shown_by" in entry:
            assert (ROOT.parent / entry["shown_by"]).is_file()
