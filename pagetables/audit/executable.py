"""What a device may both write and execute: a second look at its tables, for the permission a scan leaves out."""

from __future__ import annotations

from collections.abc import Sequence

from pagetables.address import level_shift
from pagetables.audit.scene import Requester, Scene
from pagetables.capabilities import Capabilities
from pagetables.formats import FirstStage, Format, SecondStage, rules
from pagetables.request import Permissions
from pagetables.scan import Mapping
from pagetables.source import Source, TranslationType
from pagetables.table_scan import TableScanner

__all__ = ["writable_and_executable"]


def writable_and_executable(scene: Scene, requester: Requester) -> tuple[Mapping, ...]:
    """The runs that `requester` may write and execute, if it makes execute requests at all.

    Where the tables' execute permission counts (SSEE, NXE) they are read again for it; without, reading is executing.
    Of a nested space with NXE nothing is said: its tables are a guest's.
    """
    source = requester.entries.source
    first = source.translation in (TranslationType.FIRST_STAGE, TranslationType.NESTED)
    if source.no_execute if first else source.ss_execute:
        if source.translation is TranslationType.NESTED:
            return ()
        runs: Sequence[Mapping] = _read_again(scene, source, scene.units[requester.device.unit].capabilities)
    else:
        runs = requester.space.mappings
    both = Permissions.R | Permissions.W
    return tuple(one for one in runs if one.access & both == both)


def _read_again(scene: Scene, source: Source, capabilities: Capabilities) -> Sequence[Mapping]:
    form: Format
    if source.translation is TranslationType.FIRST_STAGE:
        form = _FirstStageExecute(capabilities.first_stage_leaf_levels, capabilities.address_limit)
        table, levels, limit = source.fs_table, source.fs_levels, 1 << level_shift(source.fs_levels + 1)
        known = levels in (4, 5)
    else:
        leaves = capabilities.second_stage_leaf_levels
        form = _SecondStageExecute(leaves, capabilities.address_limit, snoop_control=bool(capabilities.ecap.sc))
        table, levels, limit = source.ss_table, source.ss_levels, rules(capabilities, source).ss_input_limit
        known = levels in (3, 4, 5)
    return TableScanner(scene.memory, form, []).contents(table, levels, limit).mappings if known else ()


def _execute_as_read(granted: Permissions) -> Permissions:
    rest = granted & ~Permissions.R
    return rest | Permissions.R if granted & Permissions.X else rest


class _FirstStageExecute(FirstStage):
    """First-stage entries in which R stands for X: what a scan then calls `rw` is writable and executable."""

    def permissions(self, entry: int) -> Permissions:
        return _execute_as_read(super().permissions(entry))


class _SecondStageExecute(SecondStage):
    """Second-stage entries in which R stands for X."""

    def permissions(self, entry: int) -> Permissions:
        return _execute_as_read(super().permissions(entry))
