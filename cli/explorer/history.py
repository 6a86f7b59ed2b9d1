"""Where the browser is, and where it was."""

from __future__ import annotations

from dataclasses import dataclass

from cli.explorer.search import Found
from cli.explorer.tables import Row, Table, Unit
from pagetables.address import format_source_id

__all__ = ["History", "Location"]

FIRST_PRESENT = -1  # instead of a row: which one is first is known when the table is read


@dataclass(frozen=True, slots=True)
class Location:
    """A row of a table, the rows of the tables that lead to it, and the search that led here, if one did."""

    chain: tuple[Table, ...]
    trail: tuple[int, ...]
    found: Found | None = None

    @classmethod
    def start(cls, unit: Unit) -> Location:
        """The root table of a unit."""
        return cls((unit.root(),), (FIRST_PRESENT,))

    @property
    def table(self) -> Table:
        """The table that is shown."""
        return self.chain[-1]

    @property
    def index(self) -> int:
        """The row that is selected."""
        return self.trail[-1]

    @property
    def row(self) -> Row:
        """What stands in that row."""
        return self.table.row_at(max(self.index, 0))

    @property
    def owner(self) -> str:
        """The device and PASID that the table belongs to."""
        table = self.table
        device = "" if table.source_id is None else format_source_id(table.source_id)
        return device if table.pasid is None else f"{device} pasid {table.pasid:#x}"

    @property
    def title(self) -> str:
        """The way here in a line: whose tables, and the name of each level."""
        shown = [one.name for one in self.chain if one.level or not self.table.level]
        return " > ".join((self.owner or self.table.unit.name, *shown))

    def on(self, index: int) -> Location:
        """Another row of the same table."""
        return Location(self.chain, (*self.trail[:-1], index), self.found)

    def below(self, table: Table) -> Location:
        """The table that the selected entry leads to."""
        return Location((*self.chain, table), (*self.trail, FIRST_PRESENT))

    def above(self) -> Location | None:
        """The entry that leads to this table; None at the root."""
        return Location(self.chain[:-1], self.trail[:-1]) if len(self.chain) > 1 else None

    def resolved(self) -> Location:
        """The same, with the first entry that is present where no row is selected yet. Reads the table."""
        if self.index != FIRST_PRESENT:
            return self
        return self.on(next((row.index for row in self.table.rows()), 0))


class History:
    """Locations in the order they were visited."""

    def __init__(self, start: Location) -> None:
        self._locations = [start]
        self._position = 0

    @property
    def here(self) -> Location:
        """Where the browser is."""
        return self._locations[self._position]

    def visit(self, location: Location) -> None:
        """Goes there; what was ahead is forgotten."""
        del self._locations[self._position + 1 :]
        self._locations.append(location)
        self._position += 1

    def select(self, index: int) -> None:
        """Another row of the same table: no step of its own."""
        self._locations[self._position] = self.here.on(index)

    def back(self) -> bool:
        """One step back, if there is one."""
        return self._move(-1)

    def forward(self) -> bool:
        """One step forward again, if there is one."""
        return self._move(1)

    def _move(self, by: int) -> bool:
        if not 0 <= self._position + by < len(self._locations):
            return False
        self._position += by
        return True
