"""The browser, driven by keys as a person would, in a terminal of 80 columns and 24 lines."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import pty
import struct
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cli.explorer.hexdump import hex_lines, is_missing
from cli.explorer.history import Location
from cli.explorer.search import locate, parse_place, verdict
from cli.explorer.tables import PasidDirectory, RootTable, Unit
from cli.explorer.wording import field_lines
from pagetables.address import parse_source_id
from pagetables.errors import ImageError, InputError
from pagetables.fault import Fault
from pagetables.images.image import Image, Segment
from pagetables.images.opening import open_image
from pagetables.images.registers import RegisterPage, load_units
from pagetables.layouts import SsPte
from pagetables.memory import PhysicalMemory
from tests.conftest import FIXTURES

PAGE = 4096
SMALL = (80, 24)
NAMED = {"enter", "tab", "escape", "down", "up"}
KEYS = {"/": "slash", "?": "question_mark"}

try:
    import textual
except ModuleNotFoundError:
    textual = None
needs_textual = pytest.mark.skipif(textual is None, reason="NOT RUN: pip install 'vtd-emulator[explore]'")


def unit_of(name: str) -> Unit:
    """The unit of a shipped image."""
    folder = FIXTURES / "images" / name
    return Unit(open_image(folder / "image.elf.gz"), load_units(folder / "registers.json")[0])


def found(name: str, place: str):
    """What the search finds in a shipped image."""
    unit = unit_of(name)
    return locate(unit, parse_place(place, None, None))


def explore(act, units, size=SMALL):
    """Runs the browser, and `act` on it."""
    from cli.explorer.app import Explorer

    async def run() -> None:
        app = Explorer(units, "image")
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            await act(app, pilot)

    asyncio.run(run())


async def press(pilot, *keys: str) -> None:
    """Presses keys, one after another; a text is put where one types."""
    for key in keys:
        if len(key) == 1 or key in NAMED:
            await pilot.press(KEYS.get(key, key))
        else:
            pilot.app.screen.query_one("#answer").value = key
    await pilot.pause()


def screen_text(app) -> list[str]:
    """Every line on the screen."""
    return ["".join(segment.text for segment in strip) for strip in app.screen._compositor.render_strips()]


# The tables, without a terminal


def test_search_leads_to_the_leaf_with_every_table_on_the_way() -> None:
    way = found("t-vfio-superpages", "00:05.0 0x10100000")
    names = [table.name for table in way.chain]
    assert names == ["root table", "context table", "ss-pml4es", "ss-pdpes", "ss-pdes", "ss-ptes"]
    row = way.chain[-1].row_at(way.trail[-1])
    assert (row.covers, row.says) == ("0x10100000", "r 4 KiB at 0xe564000")
    assert any("withholds w" in line and not good for line, good in verdict(way))


def test_search_ends_at_the_large_page() -> None:
    way = found("t-vfio-superpages", "00:05.0 0x80000000")
    assert way.chain[-1].name == "ss-pdpes"
    assert way.chain[-1].row_at(way.trail[-1]).says == "rw 1 GiB at 0x40000000"


def test_search_ends_where_a_read_faults() -> None:
    way = found("t-vfio-superpages", "00:05.0 0x10101000")
    row = way.chain[-1].row_at(way.trail[-1])
    assert isinstance(way.read.outcome, Fault)
    assert (row.at, row.present, way.chain[-1].level) == (way.read.outcome.at, False, 1)


def test_search_of_a_device_without_context_entry_ends_in_its_context_table() -> None:
    way = found("c-scalable", "03:00.0 0x1000")
    row = way.chain[-1].row_at(way.trail[-1])
    assert (way.chain[-1].name, row.covers, row.says) == ("context table", "03:00.0", "not present")
    assert "0x41" in next(verdict(way))[0]


def test_search_of_an_address_beyond_the_width_ends_where_the_width_is_said() -> None:
    way = found("t-vfio-superpages", f"00:05.0 {1 << 50:#x}")
    assert way.chain[-1].name == "context table"
    assert not any(good for _, good in verdict(way))


@pytest.mark.parametrize("place", ["00:03.0 0xfffff000", "00:03.0 0 0xfffff000"])
def test_first_stage_is_found_by_the_pasid_of_requests_without_one(place: str) -> None:
    way = found("i-firststage-k72", place)
    assert [table.name for table in way.chain[2:4]] == ["PASID directory", "PASID table"]
    assert way.chain[-1].name == "fs-ptes"
    assert "in a page of 4 KiB" in next(verdict(way))[0]


@pytest.mark.parametrize("wrong", ["", "nothing", "1 2 3 4", "00:05.0 -1", "00:05.0 0x100000 0", f"00:05.0 {1 << 64}"])
def test_place_that_makes_no_sense_is_refused(wrong: str) -> None:
    with pytest.raises(InputError):
        parse_place(wrong, parse_source_id("00:05.0"), None)


def test_address_without_a_device_needs_one() -> None:
    with pytest.raises(InputError, match="no device is open"):
        parse_place("0x1000", None, None)


def test_every_leaf_of_the_truth_is_a_row() -> None:
    truth = json.loads(gzip.decompress((FIXTURES / "images" / "t-vfio-superpages" / "truth.json.gz").read_bytes()))
    unit = unit_of("t-vfio-superpages")
    tables = {table["id"]: table["maps"] for table in truth["tables"]}
    (attached,) = [one for one in truth["attachments"] if one["bdf"] == "00:05.0"]
    for iova, gpa, size, *_ in tables[attached["table"]]:
        way = locate(unit, parse_place(f"00:05.0 {iova}", None, None))
        row = way.chain[-1].row_at(way.trail[-1])
        assert (row.covers, row.page) == (iova, int(gpa, 16))
        assert 1 << 12 + 9 * (way.chain[-1].level - 1) == int(size, 16)


def nested_unit() -> Unit:
    """Device 00:00.0 with a nested PASID 0: first-stage tables at guest pages that lie one page further."""
    memory = PhysicalMemory([(0, 64 * PAGE)])

    def put(at: int, *words: int) -> None:
        memory.write(at, struct.pack(f"<{len(words)}Q", *words))

    put(0x1000, 0x2001)
    put(0x2000, 0x3001)
    put(0x3000, 0x4001)
    put(0x4000, 0x5000 | 3 << 6 | 1 << 2 | 1, 7, 0x10 << 12)  # nested, 39 bits, second stage at 5000h, first at 10000h
    for table, below in ((0x5000, 0x6000), (0x6000, 0x7000)):
        put(table, below | 3)
    for guest in range(0x10, 0x18):
        put(0x7000 + guest * 8, (guest + 1) << 12 | 3)
    for table, below in ((0x11000, 0x11), (0x12000, 0x12), (0x13000, 0x13), (0x14000, 0x14)):
        put(table, below << 12 | 0x27)
    return Unit(memory, RegisterPage.of_root_table(0x1400))


def test_nested_space_has_two_stages_and_the_first_is_read_through_the_second() -> None:
    unit = nested_unit()
    way = locate(unit, parse_place("00:00.0 0", None, None))
    pasid = way.chain[3].row_at(0)
    assert [table.stage for table in pasid.stages] == ["first stage", "second stage"]
    assert [table.at for table in way.chain[4:]] == [0x10000, 0x11000, 0x12000, 0x13000]
    assert way.chain[-1].row_at(0).page == 0x14000
    assert next(verdict(way))[0] == "read  0x0 -> 0x15000, in a page of 4 KiB"


def test_upper_half_of_a_first_stage_stands_at_the_end_of_64_bits() -> None:
    table = nested_unit().root().row_at(0).table.row_at(0).table.row_at(0).table.row_at(0).stages[0]
    assert table.row_at(511).covers == f"{(1 << 64) - (1 << 39):#x}"


def test_missing_table_is_shown_as_missing() -> None:
    unit = Unit(Image("i", "raw memory", bytes(PAGE), [Segment(0, PAGE, 0, PAGE)]), RegisterPage.of_root_table(0x8000))
    table = unit.root()
    assert table.missing == 256
    assert list(table.rows()) == []
    assert {row.says for row in table.rows(everything=True)} == {"not in the image"}


def test_page_that_cannot_be_unpacked_counts_as_missing() -> None:
    class Damaged:
        def load(self, address: int) -> int | None:
            raise ImageError("damaged")

        def read(self, address: int, size: int) -> bytes:
            raise ImageError("damaged")

    unit = Unit(Damaged(), RegisterPage.of_root_table(0))
    assert unit.root().missing == 256
    assert is_missing(unit.memory, 0)


def test_reserved_bits_are_shown_and_named() -> None:
    lines = {line.name: line for line in field_lines(SsPte, 1 << 62 | 1 << 3 | 1)}
    assert lines["reserved"].is_wrong
    assert lines["reserved"].bits == "62"
    assert lines["R"].value == "1"
    assert (lines["EMT"].bits, lines["EMT"].value) == ("5:3", "0x1")
    assert not lines["W"].matters


@given(st.binary(min_size=0, max_size=400), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_whatever_an_image_holds_can_be_shown(data: bytes, mode: int) -> None:
    memory = bytearray(16 * PAGE)
    for slot, page, low in struct.iter_unpack("<HBB", data[: len(data) // 4 * 4]):
        struct.pack_into("<Q", memory, slot * 8 % len(memory), (page % 18) * PAGE | low)
    unit = Unit(Image("i", "raw", bytes(memory), [Segment(0, len(memory), 0, len(memory))]), _root(mode))
    pending = [unit.root()]
    for _ in range(60):
        if not pending:
            break
        table = pending.pop()
        for row in list(table.rows())[:8]:
            assert list(field_lines(row.layout, row.entry))
            pending += row.stages or ([] if row.table is None else [row.table])
    for iova in (0, 1 << 40, (1 << 64) - 1):
        list(verdict(locate(unit, parse_place(f"00:00.0 {iova}", None, None))))


def _root(mode: int) -> RegisterPage:
    return RegisterPage.of_root_table(mode << 10)


def test_hex_lines_are_those_of_the_page() -> None:
    memory = PhysicalMemory([(0x1000, PAGE)])
    memory.write(0x1010, b"Hello, world\0\xff\x80~")
    lines = list(hex_lines(memory, 0x1000))
    assert len(lines) == 256
    assert lines[1] == "000000001010 48 65 6c 6c 6f 2c 20 77 6f 72 6c 64 00 ff 80 7e Hello, world...~"
    assert max(map(len, lines)) == 77
    assert not is_missing(memory, 0x1000)
    assert is_missing(memory, 0x2000)


def test_location_knows_its_way() -> None:
    start = Location.start(unit_of("c-scalable")).resolved()
    context = start.below(start.row.table).resolved()
    directory = context.below(context.row.table)
    assert isinstance(start.table, RootTable)
    assert isinstance(directory.table, PasidDirectory)
    assert directory.above() == context
    assert start.above() is None
    assert directory.title == "00:00.0 > root table > context table > PASID directory"


# The screen


@needs_textual
def test_device_is_opened_and_an_address_found_that_withholds_w() -> None:
    async def act(app, pilot) -> None:
        await press(pilot, "down", "down", "down", "down", "enter")
        assert app.history.here.owner == "00:05.0"
        assert app.query_one("#entries").border_title == "ss-pml4es at 0x9182e000"
        await press(pilot, "/", *"0x10100000", "enter")
        assert app.history.here.title == "00:05.0 > ss-pml4es > ss-pdpes > ss-pdes > ss-ptes"
        assert "ss-pte 0x100 at 0x9ff91800" in str(app.query_one("#details").border_title)
        text = "\n".join(screen_text(app))
        assert "fault 0x05 write-denied: ss-pte withholds w" in text
        assert "0x10100000 -> 0xe564000" in text
        assert "r 4 KiB at 0xe564000" in text

    explore(act, [unit_of("t-vfio-superpages")])


@needs_textual
@pytest.mark.parametrize("size", [SMALL, (120, 40)])
@pytest.mark.parametrize("keys", [(), ("/", "00:05.0 0x10100000", "enter"), ("/", "00:05.0 0x7fffffff000", "enter")])
def test_everything_fits_the_terminal(size, keys) -> None:
    async def act(app, pilot) -> None:
        await press(pilot, *keys)
        entries = app.query_one("#entries")
        assert entries.virtual_size.width <= entries.scrollable_content_region.width
        lines = screen_text(app)
        assert len(lines) == size[1]
        assert {len(line) for line in lines} == {size[0]}
        assert all(word in lines[-1] for word in ("Open", "Up", "Back", "Fwd", "Hex", "Phys", "All", "Help", "Quit"))

    explore(act, [unit_of("t-vfio-superpages")], size)


@needs_textual
def test_enter_goes_down_u_goes_up_b_back_and_f_forward() -> None:
    async def act(app, pilot) -> None:
        titles = []

        async def note(key: str) -> None:
            await press(pilot, key)
            titles.append(app.history.here.table.name)

        await press(pilot, "tab")
        for key in ("enter", "down", "u", "b", "f", "f", "b", "b", "b"):
            await note(key)
        assert titles == [
            "context table",
            "context table",
            "root table",
            "context table",
            "root table",
            "root table",
            "context table",
            "root table",
            "root table",
        ]
        assert app.history.here.index == 0

    explore(act, [unit_of("t-vfio-superpages")])


@needs_textual
def test_a_shows_every_entry_and_only_the_present_again() -> None:
    async def act(app, pilot) -> None:
        entries = app.query_one("#entries")
        assert entries.row_count == 5
        await press(pilot, "a")
        assert entries.row_count == 256
        assert str(entries.border_subtitle) == "256 of 256"
        await press(pilot, "a")
        assert entries.row_count == 5

    explore(act, [unit_of("t-vfio-superpages")])


@needs_textual
def test_x_shows_the_bytes_of_a_table_and_says_which_page_is_missing() -> None:
    async def act(app, pilot) -> None:
        await press(pilot, "/", "00:05.0 0x10100000", "enter", "u", "x")
        text = "\n".join(screen_text(app))
        assert "physical 0x9ff91000" in text
        assert "00009ff91000 03 60 56 0e 00 00 00 00" in text
        await press(pilot, "p", "0xe564000", "enter")
        assert "The page at 0xe564000 is not in the image." in "\n".join(screen_text(app))
        await press(pilot, "n", "escape")
        assert app.history.here.table.name == "ss-pdes"

    explore(act, [unit_of("t-vfio-superpages")])


@needs_textual
def test_x_after_a_search_shows_the_byte_within_the_large_page() -> None:
    async def act(app, pilot) -> None:
        await press(pilot, "/", "00:05.0 0x80123456", "enter", "x")
        assert "physical 0x40123456, page 0x40123000" in screen_text(app)[0]

    explore(act, [unit_of("t-vfio-superpages")])


@needs_textual
def test_p_shows_physical_memory_and_line_of_the_address() -> None:
    async def act(app, pilot) -> None:
        await press(pilot, "p", "0x7f09ff8", "enter")
        assert "physical 0x7f09ff8" in screen_text(app)[0]
        assert any(line.startswith("000007f09ff0 ") for line in screen_text(app))

    explore(act, [unit_of("t-vfio-superpages")])


@needs_textual
@pytest.mark.parametrize(
    "key, typed, why", [("/", "hello", "not a number"), ("p", f"{1 << 52:#x}", "no physical address")]
)
def test_wrong_answer_is_asked_again_with_the_reason(key: str, typed: str, why: str) -> None:
    async def act(app, pilot) -> None:
        await press(pilot, "down", "down", "down", "down", "enter", key, typed, "enter")
        assert why in "\n".join(screen_text(app))
        await press(pilot, "escape")
        assert app.history.here.owner == "00:05.0"

    explore(act, [unit_of("t-vfio-superpages")])


@needs_textual
def test_help_is_complete_on_a_small_terminal() -> None:
    async def act(app, pilot) -> None:
        await press(pilot, "?")
        text = "\n".join(screen_text(app))
        assert "Devices are on the left" in text
        assert "closes this help" in text
        await press(pilot, "?")
        assert len(app.screen_stack) == 1

    explore(act, [unit_of("t-vfio-superpages")])


@needs_textual
def test_pasids_of_a_device_open_below_it() -> None:
    async def act(app, pilot) -> None:
        await press(pilot, "down", "enter")
        assert app.history.here.table.name == "PASID directory"
        app.query_one("#devices").focus()
        await press(pilot, "down", "enter")
        assert app.history.here.title.startswith("00:00.0 pasid 0x0 > ss-pml4es")

    explore(act, [unit_of("c-scalable")])


@needs_textual
def test_every_table_of_a_nested_space_opens() -> None:
    async def act(app, pilot) -> None:
        await press(pilot, "/", "00:00.0 0", "enter", "x")
        assert "guest 0x14000" in screen_text(app)[0]
        await press(pilot, "escape", "u", "u", "u", "u")
        assert app.history.here.table.name == "PASID table"

    explore(act, [nested_unit()])


@needs_textual
@pytest.mark.parametrize("mode", range(4))
def test_image_without_its_tables_is_browsed_without_a_crash(mode: int) -> None:
    async def act(app, pilot) -> None:
        assert "The page at 0x8000 is not in the image." in "\n".join(screen_text(app))
        await press(pilot, "x", "escape", "a", "enter", "down", "enter", "u", "b", "/", "00:00.0 0x1000", "enter", "x")

    memory = Image("i", "raw memory", bytes(PAGE), [Segment(0, PAGE, 0, PAGE)])
    explore(act, [Unit(memory, RegisterPage.of_root_table(0x8000 | mode << 10))])


@needs_textual
def test_tables_are_read_when_they_are_opened() -> None:
    pages = []

    class Counting:
        def __init__(self, memory) -> None:
            self.memory = memory

        def load(self, address: int) -> int | None:
            pages.append(address // PAGE)
            return self.memory.load(address)

        def read(self, address: int, size: int) -> bytes:
            pages.append(address // PAGE)
            return self.memory.read(address, size)

    async def act(app, pilot) -> None:
        assert set(pages) == {0x7F09, 0x7F14, 0xAD5C, 0xAD60, 0xAD61, 0xAD66}  # the root table and context tables
        pages.clear()
        await press(pilot, "down", "down", "down", "down", "enter")
        assert set(pages) == {0x9182E}

    unit = unit_of("t-vfio-superpages")
    explore(act, [Unit(Counting(unit.memory), unit.registers)])


@needs_textual
def test_two_units_are_two_branches() -> None:
    async def act(app, pilot) -> None:
        tree = app.query_one("#devices")
        assert len(tree.root.children) == 2
        tree.move_cursor(tree.root.children[1])
        await press(pilot, "enter")
        assert app.history.here.table.unit.is_scalable

    explore(act, [unit_of("t-vfio-superpages"), unit_of("c-scalable")])


# The command


@needs_textual
def test_explore_without_a_terminal_says_so(vtd) -> None:
    done = vtd("explore", FIXTURES / "images" / "c-scalable" / "image.elf.gz", stdin=-3)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "vtd: explore needs a terminal; for a pipe there are vtd inspect and vtd walk\n"


def test_explore_without_textual_names_the_command_that_installs_it(vtd, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['textual'] = None\n")
    path = os.pathsep.join((str(tmp_path), str(FIXTURES.parent)))
    done = vtd("explore", FIXTURES / "images" / "c-scalable" / "image.elf.gz", env={"PYTHONPATH": path})
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "pip install 'vtd-emulator[explore]'" in done.stderr


@needs_textual
def test_explore_runs_in_a_terminal_until_q(tmp_path: Path) -> None:
    pid, terminal = pty.fork()
    if not pid:
        os.environ |= {"PYTHONPATH": str(FIXTURES.parent), "TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
        image = str(FIXTURES / "images" / "c-scalable" / "image.elf.gz")
        os.execv(sys.executable, [sys.executable, "-m", "cli", "explore", image])
    said, asked = b"", False
    try:
        while chunk := os.read(terminal, 4096):
            said += chunk
            if not asked and b"root table" in said:
                os.write(terminal, b"q")
                asked = True
    except OSError:  # how Linux says that nobody writes any more
        pass
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 0, said[-2000:]
    assert asked
