"""The way in for programs: one object, asked everything."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pagetables import images
from pagetables.address import parse_source_id
from pagetables.errors import ImageError, InputError
from pagetables.fault import Fault, FaultReason
from pagetables.request import Access, Translation
from tests.conftest import FIXTURES

FOLDER = FIXTURES / "images" / "t-vfio-superpages"
FAULT = "DMAR: [DMA Write NO_PASID] Request device [00:05.0] fault addr 0x10100000 [fault reason 0x05] PTE Write"


@pytest.fixture
def image():
    """A shipped image with its registers."""
    with images.open(FOLDER / "image.elf.gz", registers=FOLDER / "registers.json") as opened:
        yield opened


def test_scan_gives_every_space_or_those_of_one_device(image) -> None:
    (unit,) = image.scan()
    (one,) = image.scan("00:05.0")
    assert len(unit.spaces) == 18
    assert [space.source_id for space in one.spaces] == [parse_source_id("00:05.0")]
    assert image.scan(parse_source_id("00:05.0"))[0].spaces == one.spaces
    assert image.scan("00:05.0", pasid=3)[0].mode == "legacy"


def test_walk_takes_text_or_types(image) -> None:
    assert isinstance(image.walk("00:05.0", 0x10100000).outcome, Translation)
    denied = image.walk(parse_source_id("00:05.0"), 0x10100000, Access.WRITE).outcome
    assert isinstance(denied, Fault)
    assert denied.reason is FaultReason.WRITE_DENIED
    assert image.walk("00:05.0", 0x10100000, "w").outcome == denied
    assert image.walk("00:05.0", 0, pasid=1).outcome.reason is FaultReason.PASID_IN_LEGACY_MODE


def test_explain_takes_a_line_of_the_kernel(image) -> None:
    explanation = image.explain(FAULT)
    assert explanation.agrees
    assert "not for writing" in explanation.sentence


def test_audit_and_diff_know_the_image(image) -> None:
    assert "VTD101" in {finding.rule.id for finding in image.audit().findings}
    assert image.diff(image).is_empty


def test_root_table_address_stands_in_for_registers() -> None:
    with images.open(FOLDER / "image.elf.gz", rtaddr=0x7F09000) as opened:
        assert len(opened.scan()[0].spaces) == 18


def test_what_cannot_be_used_is_refused_with_its_name(tmp_path) -> None:
    (tmp_path / "raw").write_bytes(bytes(4096))
    with pytest.raises(ImageError, match="no registers"):
        images.open(tmp_path / "raw")
    with images.open(tmp_path / "raw", rtaddr=0) as opened, pytest.raises(InputError, match="not a device"):
        opened.walk("nothing", 0)


def test_package_of_images_loads_nothing_by_itself() -> None:
    code = "import sys, pagetables.images; sys.exit('construct' in sys.modules or 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=FIXTURES.parent, check=False)
    assert done.returncode == 0
