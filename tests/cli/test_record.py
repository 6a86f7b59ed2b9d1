"""`vtd record`: a script for another machine, on standard output."""

from __future__ import annotations


def test_script_is_printed_with_notes_as_comments(vtd) -> None:
    done = vtd("record", "trace-cmd", "--seconds", 10, "--kernel", "7.0.2")
    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, "")
    assert lines[0].startswith("# 7.0.x before the stable release")
    assert lines[-2].startswith("trace-cmd record -C mono")
    assert lines[-2].endswith("sleep 10")


def test_script_is_one_json_document(printed) -> None:
    shown = printed("record", "perf", "--events", "iommu")
    assert shown["tool"] == "perf"
    assert "-e 'iommu:*'" in shown["commands"][0]
    assert "dma:*" not in shown["commands"][0]
    assert shown["notes"]


def test_what_cannot_be_recorded_is_one_line(said) -> None:
    assert "did you mean trace-cmd" in said("record", "trace-cdm")
    assert "did you mean intel_iommu" in said("record", "--events", "intel_iomu")
