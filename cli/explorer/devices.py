"""The tree on the left: units, their devices, and the PASIDs of these, each read when it is opened."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import ClassVar, NamedTuple

from textual.binding import Binding, BindingType
from textual.widgets import Tree
from textual.widgets.tree import TreeNode

from cli.explorer.history import Location
from cli.explorer.tables import PasidDirectory, PasidTable, Row, Unit

__all__ = ["PANE_KEYS", "DeviceTree", "Branch"]

MOST = 4096  # devices or PASIDs of one branch: a damaged image can claim a million
PANE_KEYS: list[BindingType] = [
    Binding("enter", "select_cursor", "Open", key_display="↵"),
    Binding("tab", "screen.focus_next", "Pane", key_display="⇥"),
]


class Branch(NamedTuple):
    """What a node of the tree opens."""

    location: Location
    has_more: bool  # nodes below it, not read yet


class DeviceTree(Tree[Branch]):
    """Units, devices, PASIDs."""

    guide_depth = 2
    show_root = False
    BINDINGS: ClassVar[list[BindingType]] = PANE_KEYS

    def __init__(self, units: Sequence[Unit]) -> None:
        super().__init__("units", id="devices")
        self._units = units

    def on_mount(self) -> None:
        """Shows the units, the first one open."""
        for unit in self._units:
            node = self.root.add(unit.name, Branch(Location.start(unit), True))
            self._fill(node)
        self.root.expand()
        if self.root.children:
            self.root.children[0].expand()

    def on_tree_node_expanded(self, event: Tree.NodeExpanded[Branch]) -> None:
        """Reads what is below a node the first time it is opened."""
        self._fill(event.node)

    def follow(self, location: Location) -> None:
        """Moves the cursor to the device and PASID that `location` belongs to, as far as they are listed."""
        table = location.table
        for node in self._listed(self.root):
            found = None if node.data is None else node.data.location.table
            if found is not None and (found.unit, found.source_id, found.pasid) == (
                table.unit,
                table.source_id,
                table.pasid,
            ):
                self.move_cursor(node)
                return

    def _listed(self, node: TreeNode[Branch]) -> Iterator[TreeNode[Branch]]:
        for child in node.children:
            yield child
            if child.is_expanded:
                yield from self._listed(child)

    def _fill(self, node: TreeNode[Branch]) -> None:
        if node.data is None or not node.data.has_more:
            return
        location = node.data.location
        node.data = Branch(location, False)
        found = list(islice(_below(location), MOST + 1))
        for label, place in found[:MOST]:
            node.add(label, place, allow_expand=place.has_more)
        if len(found) > MOST:
            node.add_leaf(f"more than {MOST}")
        elif not found:
            node.add_leaf("no device" if len(location.chain) == 1 else "no PASID")


def _below(location: Location) -> Iterator[tuple[str, Branch]]:
    return _pasids(location) if isinstance(location.table, PasidDirectory) else _devices(location)


def _devices(root: Location) -> Iterator[tuple[str, Branch]]:
    for bus in root.table.rows():
        if bus.table is not None:
            for row in bus.table.rows():
                yield from _opened(root.on(bus.index).below(bus.table).on(row.index), row)


def _pasids(directory: Location) -> Iterator[tuple[str, Branch]]:
    for group in directory.table.rows():
        if isinstance(group.table, PasidTable):
            for row in group.table.rows():
                yield from _opened(directory.on(group.index).below(group.table).on(row.index), row)


def _opened(location: Location, row: Row) -> Iterator[tuple[str, Branch]]:
    if row.table is None:
        yield row.covers, Branch(location, False)
    elif len(row.stages) < 2:
        yield row.covers, Branch(location.below(row.table), isinstance(row.table, PasidDirectory))
    else:
        for table, stage in zip(row.stages, ("1st", "2nd"), strict=True):
            yield f"{row.covers} {stage}", Branch(location.below(table), False)
