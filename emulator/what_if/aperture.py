"""How many tables a static aperture is built with in a run, where nobody says: those of every domain there will be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from emulator.mapping.pools.static import DEFAULTS, StaticTables
from emulator.mapping.pressure_script import load_script
from emulator.settings import Settings
from emulator.sizing import tables_outside

__all__ = ["fitted"]


def fitted(settings: Settings, spaces: int, direct: Sequence[tuple[int, int]]) -> Settings:
    """`settings`, with the options of static tables that nobody set.

    There are `spaces` domains, or one if all share a window, and one for the disk that pressure swaps to. `direct` are
    ranges (start, size) mapped to themselves for good: each has its own tables outside the window.
    """
    if settings.pool != StaticTables.name:
        return settings
    given = dict(settings.pool_options)
    wanted: dict[str, int | str] = {"levels": settings.levels, "domains": _domains(settings, spaces), **given}
    if "outside" not in given:
        sizes = {**DEFAULTS, **given}
        window, base = int(given.get("size", sizes["window_mib"])) << 20, int(sizes["base_mib"]) << 20
        wanted["outside"] = tables_outside(direct, window, int(wanted["levels"]) or settings.levels, base)
    return replace(settings, pool_options=tuple(wanted.items()))


def _domains(settings: Settings, spaces: int) -> int:
    if settings.window == "shared":
        return 1
    swaps = settings.pressure is not None and load_script(settings.pressure).swap is not None
    return max(spaces, 1) + swaps
