"""The screen: devices on the left, one table on the right, the selected entry below it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

from rich.console import Group
from rich.table import Table as Grid
from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.coordinate import Coordinate
from textual.widgets import DataTable, Static, Tree

from cli.explorer.devices import PANE_KEYS, Branch, DeviceTree
from cli.explorer.history import History, Location
from cli.explorer.screens import AskScreen, HelpScreen, HexScreen, key_line, parse_physical
from cli.explorer.search import locate, parse_place, verdict
from cli.explorer.style import CSS
from cli.explorer.tables import Row, Unit
from cli.explorer.wording import field_lines
from pagetables.address import level_size
from pagetables.errors import InputError

__all__ = ["EntryTable", "Explorer"]

Justify = Literal["left", "right"]
COLUMNS: tuple[tuple[str, Justify], ...] = (("#", "right"), ("from", "right"), ("entry", "right"), ("  says", "left"))
QWORD = (1 << 64) - 1


class EntryTable(DataTable[Text]):
    """The entries of one table."""

    BINDINGS: ClassVar[list[BindingType]] = PANE_KEYS


class Explorer(App[None]):
    """The browser of the tables of some units."""

    TITLE = "vtd explore"
    ENABLE_COMMAND_PALETTE = False
    CSS = CSS
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("u,backspace", "up", "Up"),
        Binding("b,left_square_bracket", "earlier", "Back"),
        Binding("f,right_square_bracket", "later", "Fwd"),
        Binding("slash,g", "search", "Go to", key_display="/"),
        Binding("x", "hex", "Hex"),
        Binding("p", "physical", "Phys"),
        Binding("a", "everything", "All"),
        Binding("question_mark", "help", "Help", key_display="?"),
        Binding("q", "quit", "Quit"),
    ]

    def __init__(self, units: Sequence[Unit], name: str) -> None:
        super().__init__()
        self._units = units
        self._image = name
        self._everything = False
        self._shown: list[Row] = []
        self.history = History(Location.start(units[0]).resolved())

    def compose(self) -> ComposeResult:
        """Title, tree, table, verdict, bits, keys."""
        yield Static(id="title")
        with Horizontal():
            yield DeviceTree(self._units)
            with Vertical(id="right"):
                yield EntryTable(id="entries", cursor_type="row", cell_padding=0)
                yield Static(id="verdict")
                with VerticalScroll(id="details"):
                    yield Static(id="bits")
        yield key_line()

    def on_mount(self) -> None:
        """Shows the root table of the first unit."""
        self._show()
        self.query_one(DeviceTree).focus()

    # What keys do

    def action_up(self) -> None:
        """To the entry that leads to this table."""
        above = self.history.here.above()
        if above is not None:
            self._visit(above)

    def action_earlier(self) -> None:
        """To what was shown before."""
        if self.history.back():
            self._show()

    def action_later(self) -> None:
        """To what was shown after this."""
        if self.history.forward():
            self._show()

    def action_everything(self) -> None:
        """All entries, or only those that are present."""
        self._everything = not self._everything
        self._show()

    def action_help(self) -> None:
        """What the keys do."""
        self.push_screen(HelpScreen())

    def action_hex(self) -> None:
        """The bytes of the page that the entry leads to, or of the table where it leads nowhere."""
        here = self.history.here
        page, found = here.row.page, here.found
        if page is not None and found is not None and found.trail == here.trail and here.row.table is None:
            page += found.read.request.iova & level_size(here.table.level) - 1
        name = "physical" if here.table.memory is here.table.unit.memory else "guest"
        self.push_screen(HexScreen(here.table.memory, here.table.at if page is None else page, name))

    def action_physical(self) -> None:
        """The bytes at a physical address."""

        def go(text: str) -> None:
            self.push_screen(HexScreen(self.history.here.table.unit.memory, parse_physical(text), "physical"))

        self._ask("Physical address:", go)

    def action_search(self) -> None:
        """To the entry that decides what becomes of an address of the device."""

        def go(text: str) -> None:
            table = self.history.here.table
            found = locate(table.unit, parse_place(text, table.source_id, table.pasid))
            self._visit(Location(found.chain, found.trail, found))

        owner = self.history.here.owner
        self._ask(f"Address of {owner}:" if owner else "Device and address, such as 00:05.0 0x10100000:", go)

    def _ask(self, question: str, go: Callable[[str], None], typed: str = "", wrong: str = "") -> None:
        def answered(text: str | None) -> None:
            if not text:
                return
            try:
                go(text)
            except InputError as error:
                self._ask(question, go, text, str(error))

        self.push_screen(AskScreen(question, typed, wrong), answered)

    # What the widgets tell

    def on_tree_node_selected(self, event: Tree.NodeSelected[Branch]) -> None:
        """Opens what the tree names."""
        if event.node.data is not None:
            self._visit(event.node.data.location)

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        """Opens the table that the entry leads to."""
        here = self.history.here
        if here.row.table is not None:
            self._visit(here.below(here.row.table))

    def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        """Shows the entry under the cursor."""
        if event.cursor_row < len(self._shown):
            self.history.select(self._shown[event.cursor_row].index)
            self._show_entry()

    # What is shown

    def _visit(self, location: Location) -> None:
        self.history.visit(location.resolved())
        self._show()
        self.query_one(DataTable).focus()

    def _show(self) -> None:
        here = self.history.here
        table, found = here.table, here.found
        self._shown = list(table.rows(self._everything, here.index if found else -1))
        title = Text.assemble((here.title, "bold"), f"  {self._image}", no_wrap=True, overflow="ellipsis")
        self.query_one("#title", Static).update(title)
        self.query_one(DeviceTree).follow(here)
        self._show_rows()
        widget = self.query_one("#verdict", Static)
        lines = [] if found is None else [(text, "green" if good else "red") for text, good in verdict(found)]
        widget.update(Text("\n").join(Text(text, style=style) for text, style in lines))
        widget.display = bool(lines)
        self._show_entry()

    def _show_rows(self) -> None:
        here, entries = self.history.here, self.query_one(DataTable)
        entries.clear(columns=True)
        for name, justify in COLUMNS:
            entries.add_column(Text(name, justify=justify))
        for row in self._shown:
            entries.add_row(*_cells(row), key=str(row.index))
        table = here.table
        entries.border_title = f"{table.name} at {table.at:#x}"
        missing = f", {table.missing} not in the image" if table.missing else ""
        entries.border_subtitle = f"{len(self._shown)} of {len(table.words)}{missing}"
        at = next((number for number, row in enumerate(self._shown) if row.index == here.index), 0)
        entries.cursor_coordinate = Coordinate(at, 0)

    def _show_entry(self) -> None:
        here = self.history.here
        details = self.query_one("#details")
        shown = any(row.index == here.index for row in self._shown)
        details.border_title = _entry_title(here.row) if shown else ""
        self.query_one("#bits", Static).update(_bits(here.row) if shown else _nothing(here))
        details.scroll_home(animate=False)


def _cells(row: Row) -> tuple[Text, ...]:
    style = "dim" if not row.present else "bold red" if "RESERVED" in row.says else ""
    entry = "-" if row.entry is None else f"{row.entry & QWORD:x}"
    texts = (f"{row.index:x}", f"  {row.covers}", f"  {entry}", f"  {row.says}")
    return tuple(Text(text, style=style, justify=justify) for text, (_, justify) in zip(texts, COLUMNS, strict=True))


def _entry_title(row: Row) -> str:
    return f"{row.layout.name.replace('_', '-')} {row.index:#x} at {row.at:#x}"


def _nothing(here: Location) -> Text:
    if here.table.missing == len(here.table.words):
        return Text(f"The page at {here.table.at:#x} is not in the image.", style="red")
    return Text("Nothing here is present; a shows all entries.", style="dim")


def _bits(row: Row) -> Text | Group:
    if row.entry is None:
        return Text(f"The image does not hold the entry at {row.at:#x}.", style="red")
    words = " ".join(f"{part:#018x}" for part in row.layout(row.entry).qwords())
    grid = Grid.grid(padding=(0, 1, 0, 0))
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True)
    grid.add_column()
    for line in field_lines(row.layout, row.entry):
        style = "bold red" if line.is_wrong else "" if line.matters else "dim"
        grid.add_row(line.bits, line.name, line.value, line.about, style=style)
    return Group(Text(words, style="cyan"), grid)
