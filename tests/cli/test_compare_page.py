"""`vtd compare --html`: the page of compared presets needs nothing else, and, where Chromium is there, it works."""

from __future__ import annotations

import json

import pytest

from cli.__main__ import main
from cli.compare_columns import COLUMNS
from cli.compare_page import SAMPLES
from emulator.presets import find_preset
from tests.conftest import FIXTURES
from tests.pages import assert_needs_nothing_else, browser, data_of, visited

TRACE = FIXTURES / "traces" / "i-firststage-k72.txt.xz"
SWAP = FIXTURES / "pressure" / "usb-swap.yaml"
FEW = ["linux-7", "gart-lazy", "static"]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page that compares a few presets, and one of them as recorded, with late devices."""
    path = tmp_path_factory.mktemp("page") / "page.html"
    assert main(["compare", str(TRACE), "--preset", ",".join(FEW), "--set", "accesses=late", "--html", str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def pressed(tmp_path_factory):
    """A page with two groups: recorded and re-allocated addresses, under pressure that ends in a deadlock."""
    path = tmp_path_factory.mktemp("pressed") / "page.html"
    grid = ["--grid", "iova=recorded,rbtree", "--set", "pool=mempool", "--set", "kernel.size=64M"]
    trace = str(FIXTURES / "traces" / "a-legacy-strict.txt.xz")
    assert main(["compare", trace, *grid, "--pressure", str(SWAP), "--html", str(path)]) == 0
    return path


def test_a_page_of_compared_presets_needs_nothing_from_elsewhere(page):
    assert_needs_nothing_else(page.read_text(encoding="utf-8"))


def test_a_page_holds_the_numbers_of_every_compared_preset(page, printed):
    data = data_of(page)
    (group,) = data["groups"]
    runs = printed("compare", TRACE, "--preset", ",".join(FEW), "--set", "accesses=late")["runs"]
    assert [one["name"] for one in group["runs"]] == FEW
    for shown, one in zip(group["runs"], runs, strict=True):
        assert shown["map"] == one["map_ns"]
        assert shown["failed"] == one["failed"]
        assert shown["stale"]["max"] == one["stale_window"]["max_ns"]
        assert (
            dict(zip((column["name"] for column in data["columns"]), shown["values"], strict=True))["stale hits"]
            == (one["accesses"]["hits"])
        )


def test_a_page_names_the_seed_of_each_compared_preset_and_explains_each_column(page):
    data = data_of(page)
    for name, one in zip(FEW, data["systems"], strict=True):
        assert (one["name"], one["seed"], one["explains"]) == (name, find_preset(name).seed, find_preset(name).explains)
        assert one["set"] == {"accesses": "late"}
    assert [(column["name"], column["about"]) for column in data["columns"]] == [
        (one.name, one.about) for one in COLUMNS
    ]


def test_pages_over_time_add_up_to_what_a_compared_preset_held(page, printed):
    (one,) = printed("compare", TRACE, "--preset", "static", "--set", "accesses=late")["runs"]
    (shown,) = (run for run in data_of(page)["groups"][0]["runs"] if run["name"] == "static")
    assert len(shown["series"]) <= SAMPLES + 1
    times = [row[0] for row in shown["series"]]
    assert times == sorted(times)
    assert times[0] == 0
    columns = one["series_columns"]
    last = dict(zip(columns, one["series"][-1], strict=True))
    assert sum(shown["series"][-1][1:]) == last["live"] + last["idle"]
    assert all(value >= 0 for row in shown["series"] for value in row)


def test_recorded_and_reallocated_addresses_are_groups_of_their_own_on_a_page(pressed):
    groups = data_of(pressed)["groups"]
    assert [(group["title"], [run["name"] for run in group["runs"]]) for group in groups] == [
        ("addresses as recorded, under usb-swap.yaml", ["recorded"]),
        ("addresses re-allocated, under usb-swap.yaml", ["rbtree"]),
    ]
    assert "swap-out waits for" in groups[0]["runs"][0]["deadlocks"][0]


def test_a_hostile_trace_name_stays_a_name_on_a_page(tmp_path):
    name = tmp_path / "<img src=x onerror=1>&.jsonl"
    line = {"event": "map", "device": "00:03.0", "iova": "0x1000", "gpa": "0x5000", "size": 4096, "access": "rw"}
    name.write_text(json.dumps(line) + "\n")
    assert main(["compare", str(name), "--preset", "gart", "--html", str(tmp_path / "page.html")]) == 0
    assert "<img" not in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert data_of(tmp_path / "page.html")["trace"] == name.name


# What a visitor does in a frame of the page, and what is there then.
VISIT = """
<script>
const frame = document.querySelector("iframe");
addEventListener("load", () => setTimeout(() => {
  const page = frame.contentDocument, all = (selector) => [...page.querySelectorAll(selector)];
  const table = page.querySelector("table"), rows = () => [...table.tBodies[0].rows];
  const names = () => rows().map((row) => row.cells[0].textContent);
  const seen = {ready: page.documentElement.dataset.ready, before: names(), overflow: page.documentElement.scrollWidth};
  const head = [...table.tHead.rows[0].cells].find((cell) => cell.textContent === "unmap, median");
  head.querySelector("button").click(); seen.up = names(); seen.sorted = head.getAttribute("aria-sort");
  head.querySelector("button").click(); seen.down = names();
  seen.plots = all("svg").map((svg) =>
    [svg.getAttribute("aria-label"), svg.children.length, svg.clientWidth, svg.clientHeight]);
  const shapes = all("svg rect, svg circle, svg polygon, svg text");
  seen.shapes = shapes.length;
  seen.outside = shapes.filter((shape) => {
    const box = shape.getBoundingClientRect(), room = shape.ownerSVGElement.getBoundingClientRect();
    const wide = box.right > room.right + 16 || box.left < room.left - 8;
    return wide || box.bottom > room.bottom + 6 || box.top < room.top - 8;
  }).map((shape) => shape.outerHTML.slice(0, 120));
  seen.tables = all("table").length; seen.headings = all("h2, h3").map((one) => one.textContent);
  seen.back = getComputedStyle(page.body).backgroundColor; seen.text = getComputedStyle(page.body).color;
  seen.points = all("polygon").map((one) => one.getAttribute("points")).filter((one) => one.includes("NaN")).length;
  document.body.append(Object.assign(document.createElement("pre"), {id: "seen", textContent: JSON.stringify(seen)}));
}, 300));
</script>
"""


@pytest.fixture
def visit(tmp_path):
    """Opens a page in Chromium in a frame of some width, and does what VISIT does; without a word on the console."""
    browser()

    def run(path, width, dark=False):
        frame = tmp_path / f"frame-{width}.html"
        style = f"width: {width}px; height: 900px; border: 0"
        frame.write_text(f'<body><iframe src="file://{path}" style="{style}"></iframe>{VISIT}</body>', encoding="utf-8")
        options = ["--window-size=1400,1000", "--allow-file-access-from-files", "--virtual-time-budget=4000"]
        options += ["--blink-settings=preferredColorScheme=0"] if dark else []
        return visited(f"file://{frame}", tmp_path / "profile", *options)

    return run


@pytest.mark.parametrize("width", [1280, 390])
def test_compared_presets_are_drawn_inside_a_window_of_any_width(page, visit, width):
    seen = visit(page, width)
    assert seen["ready"] == "yes"
    assert seen["overflow"] <= width
    labels = [label for label, _, _, _ in seen["plots"]]
    assert [label for label in labels if "over time" in label] == [f"pages of {name} over time" for name in FEW]
    assert {"invalidations", "map: median, 99 %, longest", "stale: mean, longest"} <= set(labels)
    assert all(shapes > 3 and 200 < wide <= width and high > 40 for _, shapes, wide, high in seen["plots"])
    assert seen["shapes"] > 40
    assert seen["outside"] == []
    assert (seen["tables"], seen["points"]) == (3, 0)


def test_a_click_sorts_compared_presets(page, visit):
    seen = visit(page, 1280)
    assert seen["before"] == FEW
    assert seen["up"] == ["linux-7", "gart-lazy", "static"]  # 99 ns, 209 ns, and a wait for each unmap
    assert seen["down"] == ["static", "gart-lazy", "linux-7"]
    assert seen["sorted"] == "ascending"


def test_a_page_of_compared_presets_is_dark_where_a_visitor_likes_it(page, visit):
    assert visit(page, 1280)["back"] == "rgb(255, 255, 255)"
    dark = visit(page, 1280, dark=True)
    assert (dark["back"], dark["text"]) == ("rgb(20, 24, 31)", "rgb(230, 234, 240)")


def test_groups_of_compared_runs_and_their_deadlocks_are_on_the_page(pressed, visit):
    seen = visit(pressed, 1280)
    assert [text for text in seen["headings"] if text.startswith("Addresses")] == [
        "Addresses as recorded, under usb-swap.yaml",
        "Addresses re-allocated, under usb-swap.yaml",
    ]
    assert seen["headings"].count("Deadlocks") == 2
