"""`vtd inspect --html`: a page that needs nothing else, and, where Chromium is there, one that works."""

from __future__ import annotations

import struct

import pytest

from cli.__main__ import main
from cli.html_page import LISTED
from pagetables.images.elf import write_elf
from pagetables.images.registers import RegisterPage
from pagetables.memory import PhysicalMemory
from tests.conftest import FIXTURES
from tests.pages import assert_needs_nothing_else, browser, data_of, visited

IMAGES = FIXTURES / "images"


@pytest.fixture
def page(tmp_path):
    """Writes the page of an image; its path."""

    def write(image, *arguments):
        assert main(["inspect", str(image), "--html", str(tmp_path / "page.html"), *map(str, arguments)]) == 0
        return tmp_path / "page.html"

    return write


def test_a_page_needs_nothing_from_elsewhere(page):
    assert_needs_nothing_else(page(IMAGES / "t-vfio-superpages/image.elf.gz").read_text(encoding="utf-8"))


def test_every_device_and_run_is_in_the_page(page):
    (unit,) = data_of(page(IMAGES / "t-vfio-superpages/image.elf.gz"))["units"]
    assert len(unit["devices"]) == 18
    (device,) = (device for device in unit["devices"] if device["name"] == "00:05.0")
    runs = unit["sets"][device["set"]]["runs"]
    assert ["0x80000000", 1 << 30, "0x40000000", 3, 30, None] in runs
    assert ["0x10100000", 4096, "0xe564000", 1, 12, None] in runs
    assert sum(run[1] for run in runs) == 285 * 4096 + (7 << 21) + (1 << 30)
    assert len(unit["interrupts"]) == 31
    assert "256 slots" in unit["queues"][0]["title"]


def test_devices_on_the_same_tables_share_them(page):
    (unit,) = data_of(page(IMAGES / "a-legacy-strict/image.elf.gz"))["units"]
    sets = {device["name"]: device["set"] for device in unit["devices"]}
    assert sets["00:1f.0"] == sets["00:1f.2"] != sets["00:03.0"]
    assert len(unit["sets"]) == len(set(sets.values()) - {None})


HOSTILE = '</script><img src=x onerror="document.title=1"> & \u2028'


def test_a_hostile_name_stays_a_name(page, tmp_path):
    (tmp_path / "pci.txt").write_text(f"00:05.0 {HOSTILE}\n", encoding="utf-8")
    written = page(IMAGES / "t-vfio-superpages/image.elf.gz", "--pci", tmp_path / "pci.txt")
    assert "<img" not in written.read_text(encoding="utf-8")
    (unit,) = data_of(written)["units"]
    (device,) = (device for device in unit["devices"] if device["name"] == "00:05.0")
    assert device["label"].startswith("</script><img")


def many(path, count):
    """An image of one device with `count` pages that do not continue each other."""
    memory = PhysicalMemory([(0, 1 << 30)])
    for at, entry in ((0x1000, 0x2001), (0x2000 + 16 * 0x18, 0x3001), (0x3000, 0x4003), (0x4000, 0x5003)):
        memory.store(at, entry)
    memory.store(0x2000 + 16 * 0x18 + 8, 1 << 8 | 2)
    for number in range((count + 511) // 512):
        memory.store(0x5000 + 8 * number, 0x10000 + number * 4096 | 3)
        frames = range(number * 512, min(count, (number + 1) * 512))
        memory.write(0x10000 + number * 4096, b"".join(struct.pack("<Q", 0x1000 * 2 * frame | 3) for frame in frames))
    write_elf(path, memory, [RegisterPage.of_root_table(0x1000).note()])
    return path


def test_very_many_runs_are_drawn_together(page, tmp_path):
    (unit,) = data_of(page(many(tmp_path / "many.elf", LISTED + 512)))["units"]
    (tables,) = unit["sets"]
    assert (tables["total"], tables["cut"]) == (LISTED + 512, True)
    assert len(tables["runs"]) <= 5000
    assert sum(run[6] for run in tables["runs"]) == LISTED + 512
    assert sum(run[7] for run in tables["runs"]) == (LISTED + 512) * 4096


def test_an_empty_table_makes_a_page(page, tmp_path):
    write_elf(tmp_path / "empty.elf", PhysicalMemory([(0, 0x4000)]), [RegisterPage.of_root_table(0x1000).note()])
    (unit,) = data_of(page(tmp_path / "empty.elf"))["units"]
    assert (unit["devices"], unit["sets"], unit["findings"]) == ([], [], [])


def test_a_page_that_cannot_be_written_leaves_nothing(tmp_path, capsys):
    target = tmp_path / "no" / "page.html"
    assert main(["inspect", str(IMAGES / "c-scalable/image.elf.gz"), "--html", str(target)]) == 2
    assert "No such file or directory" in capsys.readouterr().err


# What a visitor does, and what the map says after each step.
VISIT = """
<script>
const shown = [], canvas = document.querySelector("canvas"), detail = document.querySelector(".detail");
const note = (what) => shown.push([what, canvas.dataset.window, Number(canvas.dataset.drawn), detail.textContent]);
const key = (name) => canvas.dispatchEvent(new KeyboardEvent("keydown", {key: name, bubbles: true, cancelable: true}));
const box = canvas.getBoundingClientRect();
const at = (type, x) =>
  canvas.dispatchEvent(new PointerEvent(type, {clientX: box.left + x * box.width, clientY: box.top + 80}));
note("start");
canvas.dispatchEvent(new WheelEvent("wheel", {deltaY: -100, clientX: box.left + 10, cancelable: true})); note("wheel");
key("+"); note("plus"); key("ArrowRight"); note("right"); key("0"); note("all");
document.querySelector('[aria-label="Zoom in"]').click(); note("button");
at("pointerdown", 0.5); at("pointermove", 0.3); at("pointerup", 0.3); note("drag");
key("0"); key("n"); note("next");
const search = document.querySelector('input[type="search"]');
search.value = "@SEARCH@"; search.oninput();
const rows = [...document.querySelectorAll("tbody")].find((body) => !body.closest("details")).rows;
document.body.append(Object.assign(document.createElement("pre"), {id: "seen", textContent: JSON.stringify({
  shown, rows: [...rows].map((row) => row.cells[0].textContent), ready: document.documentElement.dataset.ready,
  devices: document.querySelectorAll(".devices button").length, images: document.querySelectorAll("img").length})}));
</script>
"""


@pytest.fixture
def visit(tmp_path):
    """Opens a page in Chromium and does what VISIT does; what it saw, without a word on the console."""
    browser()

    def run(path, fragment="", search="0x80000123"):
        text = path.read_text(encoding="utf-8").replace("</body>", VISIT.replace("@SEARCH@", search) + "</body>")
        path.write_text(text, encoding="utf-8")
        return visited(f"file://{path}{fragment}", tmp_path / "profile", "--window-size=1200,900")

    return run


def test_the_map_draws_and_zooms(page, visit):
    seen = visit(page(IMAGES / "t-vfio-superpages/image.elf.gz"), "#00:05.0")
    assert (seen["ready"], seen["devices"]) == ("yes", 18)
    steps = {name: (window, drawn, detail) for name, window, drawn, detail in seen["shown"]}
    assert steps["start"][1] == 34
    windows = [window for window, _, _ in steps.values()]
    low, high = zip(*(map(float, window.split()) for window in windows), strict=True)
    spans = dict(zip(steps, (b - a for a, b in zip(low, high, strict=True)), strict=True))
    assert spans["start"] == 1 > spans["wheel"] > spans["plus"] == pytest.approx(spans["right"])
    assert steps["plus"][0] != steps["right"][0]
    assert steps["plus"][1] < 34
    assert steps["all"][0] == steps["start"][0]
    assert spans["button"] == pytest.approx(0.5) == spans["drag"]
    assert steps["drag"][0] != steps["button"][0]
    assert "0x10000000" in steps["next"][2]
    assert "pages of 4 KiB" in steps["next"][2]
    assert seen["rows"] == ["0x80000000"]


def test_a_hostile_name_makes_no_element(page, visit, tmp_path):
    (tmp_path / "pci.txt").write_text(f"00:05.0 {HOSTILE}\n", encoding="utf-8")
    written = page(IMAGES / "t-vfio-superpages/image.elf.gz", "--pci", tmp_path / "pci.txt")
    seen = visit(written, "#00:05.0")
    assert (seen["images"], seen["devices"]) == (0, 18)


def test_first_stage_tables_draw(page, visit):
    seen = visit(page(IMAGES / "i-firststage-k72/image.elf.gz"), search="fff")
    assert seen["shown"][0][2] > 0
    assert seen["rows"]


def test_very_many_runs_draw(page, visit, tmp_path):
    seen = visit(page(many(tmp_path / "many.elf", LISTED + 512)), search="")
    assert 0 < seen["shown"][0][2] <= 5000
    assert len(seen["rows"]) == 400
