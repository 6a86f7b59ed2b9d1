"""Profiles as people and programs read them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from cli.render import address
from emulator.behaviours import BEHAVIOURS
from emulator.profile import Profile
from pagetables.bits import Word

__all__ = ["profile_document", "profile_outline", "profile_table"]


def profile_document(profile: Profile) -> dict[str, Any]:
    """A profile as JSON: words as addresses are written, their fields as numbers, caches in entries."""
    can = profile.capabilities
    return {
        "name": profile.name,
        "explains": profile.explains,
        "source": profile.source,
        "version": f"{profile.version.maj}.{profile.version.min}",
        "cap": address(can.cap),
        "ecap": address(can.ecap),
        "haw": can.haw,
        "mgaw": can.mgaw,
        "levels": sorted(can.second_stage_levels),
        "scalable": bool(can.ecap.smts),
        "fields": {"cap": can.cap.fields(), "ecap": can.ecap.fields()},
        "caches": _caches(profile),
        "behaviours": {name: BEHAVIOURS[name] for name in sorted(profile.behaviours)},
    }


def profile_table(profiles: Sequence[Profile]) -> RenderableType:
    """A head line and a sentence for each profile."""
    table = Table.grid(padding=(0, 2, 0, 0))
    for profile in profiles:
        can = profile.capabilities
        levels = ",".join(map(str, sorted(can.second_stage_levels))) or "no"
        head = Text.assemble((profile.name, "bold"), f"  {levels} levels, {can.haw} bits, {', '.join(_modes(profile))}")
        table.add_row(Group(head, Padding(profile.explains, (0, 0, 1, 4))))
    return table


def profile_outline(profile: Profile) -> RenderableType:
    """Everything about one profile."""
    can = profile.capabilities
    facts = Table.grid(padding=(0, 2, 0, 0))
    facts.add_column(no_wrap=True)
    facts.add_column(overflow="fold")
    facts.add_row("source", profile.source)
    facts.add_row("version", f"{profile.version.maj}.{profile.version.min}")
    facts.add_row("addresses", f"{can.haw} bits of the host, {can.mgaw} of the guest")
    facts.add_row("cap", Group(address(can.cap), _fields(can.cap)))
    facts.add_row("ecap", Group(address(can.ecap), _fields(can.ecap)))
    facts.add_row("caches", ", ".join(f"{name} {size}" for name, size in _caches(profile).items()))
    for name in sorted(profile.behaviours):
        facts.add_row("behaves", f"{name}: {BEHAVIOURS[name]}")
    return Group(Text(profile.name, "bold"), profile.explains, "", facts)


def _fields(word: Word) -> str:
    return " ".join(f"{name.upper()}={value:#x}" for name, value in word.fields().items() if value)


def _modes(profile: Profile) -> Iterator[str]:
    ecap = profile.capabilities.ecap
    yield "legacy"
    if not ecap.smts:
        return
    for stage, there in (("first", ecap.fsts), ("second", ecap.ssts), ("nested", ecap.nest)):
        if there:
            yield f"{stage}-stage" if stage != "nested" else stage


def _caches(profile: Profile) -> dict[str, int]:
    return {
        "iotlb": profile.iotlb.sets * profile.iotlb.ways,
        "contexts": profile.context_cache,
        "pasids": profile.pasid_cache,
        "interrupts": profile.interrupt_cache,
    }
