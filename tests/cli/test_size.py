"""`vtd size`: how much memory tables and their supplies take."""

from __future__ import annotations

import json

import pytest


def document(vtd, *arguments: str):
    done = vtd("size", *arguments, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def test_a_static_aperture_of_a_supply_takes_what_its_levels_add_up_to(vtd) -> None:
    aperture = document(vtd, "--window", "256M", "--devices", "8", "--levels", "3")["aperture"]
    assert aperture == {
        "pages_per_device": 130,
        "pages": 1040,
        "bytes": 1040 * 4096,
        "tables_by_level": {"1": 128, "2": 1, "3": 1},
        "mapped_pages_per_device": 65536,
    }


def test_levels_above_the_window_have_one_table_each_and_windows_may_be_larger_than_memory(vtd) -> None:
    sized = document(vtd, "--window", "1T", "--devices", "2", "--levels", "5", "--memory", "16M")
    assert sized["aperture"]["tables_by_level"] == {"1": 524288, "2": 1024, "3": 2, "4": 1, "5": 1}
    assert sized["aperture"]["pages"] == 2 * 525316


def test_every_supply_is_sized_by_what_it_holds_and_how_deep_its_class_digs(vtd) -> None:
    sized = document(vtd, "--memory", "16M", "--levels", "3")  # 4096 pages, min 128, 3/8 of it 48
    supplies = {one["name"]: one for one in sized["supplies"]}
    assert supplies["static"]["burst"] is None
    assert supplies["os"] == {
        "name": "os",
        "idle_pages": 0,
        "idle_bytes": 0,
        "burst": {"tables": 4048, "scattered_maps": 2024},
        "burst_without_memory": {"tables": 0, "scattered_maps": 0},
    }
    assert supplies["mempool"]["burst"]["tables"] == 4096 - 64
    assert supplies["os+memalloc"]["burst"]["tables"] == 4096
    assert supplies["coherent-pool"]["burst"] == supplies["coherent-pool"]["burst_without_memory"]
    assert supplies["respool"]["burst_without_memory"] == {"tables": 64, "scattered_maps": 32}


def test_people_get_a_table_that_fits_a_terminal(vtd) -> None:
    done = vtd("size", "--window", "4G", "--devices", "16", "--levels", "4", env={"COLUMNS": "80"})
    assert done.returncode == 0
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "32,864 pages, 128.4 MiB" in done.stdout
    for name in ("respool", "prealloc-worker", "static"):
        assert name in done.stdout


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("--window", "1000"), "not made of whole pages"),
        (("--window", "1T", "--levels", "3"), "reach 39 bits"),
        (("--window", "lots"), "is not a size"),
        (("--memory", "100K"), "the zone has 25 pages"),
        (("--memory", "5"), "not whole pages"),
        (("--devices", "0"), "not in the range"),
    ],
)
def test_a_wrong_size_is_one_line_that_teaches(vtd, arguments: tuple[str, ...], message: str) -> None:
    done = vtd("size", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_more_devices_than_a_segment_has_are_refused(said):
    assert "65537 is not in the range" in said("size", "--devices", 65537)
