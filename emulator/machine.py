"""A machine from settings: memory, one unit, its driver, and the mapping layer over them."""

from __future__ import annotations

import os
from collections.abc import Sequence

from emulator.clock import Clock
from emulator.engine import Engine, load_engine
from emulator.mapping.contexts import Pages
from emulator.mapping.dma import MappingLayer
from emulator.mapping.domain import TableShape
from emulator.mapping.driver import UnitDriver
from emulator.mapping.flush.policy import make_policy
from emulator.mapping.pools.os import SystemSupply
from emulator.mapping.pressure import Gfp, Zone
from emulator.mapping.supply import make_supply
from emulator.profile import Profile, load_profile
from emulator.settings import Settings
from emulator.unit import RemappingUnit
from emulator.unit.cache_contents import cache_contents
from pagetables.cached import caches_note
from pagetables.errors import InputError
from pagetables.images.elf import write_elf
from pagetables.images.registers import RegisterPage
from pagetables.mapper import Stage
from pagetables.memory import PhysicalMemory

__all__ = ["DEFAULT_RAM", "Machine", "table_shape"]

DEFAULT_RAM = ((0, 2 << 30),)
FOUR_GIB = 4 << 30
ROUND = 1 << 30


class Machine:
    """Memory, unit, driver and mapping layer, connected and enabled.

    The driver's structures and all tables lie in kernel memory, above `ram`, so that nothing a device is given can
    hit a table by accident.
    """

    def __init__(self, settings: Settings, ram: Sequence[tuple[int, int]] | None = None, engine: Engine | None = None):
        self.settings = settings
        self.profile = load_profile(settings.profile)
        self.engine = engine or load_engine(settings.engine)
        regions = settings.ram or _within(self.profile, settings.kernel_size, ram or DEFAULT_RAM)
        start = _kernel_start(regions)
        _check_width(start + settings.kernel_size, self.profile)
        self.memory = PhysicalMemory([*regions, (start, settings.kernel_size)])
        self.clock = Clock()
        self.zone = Zone(
            self.clock,
            start,
            settings.kernel_size,
            settings.kernel_used,
            settings.kernel_min_free_kib,
            settings.kernel_reclaim_per_ms,
        )
        self.unit = RemappingUnit(self.memory, self.profile, self.engine, clock=self.clock)
        if settings.latency is not None:
            self.unit.latency = settings.latency
        self._connect()

    def _connect(self) -> None:
        settings = self.settings
        shape = table_shape(settings, self.profile)
        structures: Pages = SystemSupply(self.zone, Gfp.KERNEL)
        self.driver = UnitDriver(self.memory, self.unit, structures, settings.mode, idle=self.clock.wait)
        self.supply = make_supply(settings.pool, self.zone, self.clock, dict(settings.pool_options))
        self.policy = make_policy(settings.flush, self.driver, self.supply, self.clock, dict(settings.flush_options))
        haw = self.profile.capabilities.haw
        self.layer = MappingLayer(self.memory, self.driver, self.engine, self.supply, self.policy, shape, haw)
        self.driver.enable()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write memory, the unit's registers and its caches as an ELF core, at `path` when it is whole."""
        page = RegisterPage(self.unit.base, self.unit.register_page())
        write_elf(path, self.memory, [page.note(), caches_note(cache_contents(self.unit))])


def table_shape(settings: Settings, profile: Profile) -> TableShape:
    """The tables that settings ask for; InputError if the profile's unit cannot walk them."""
    can = profile.capabilities
    first = settings.stage is Stage.FIRST
    if first and not can.ecap.fsts:
        raise InputError(f"stage=first: profile {profile.name} has no first-stage translation (ECAP.FSTS=0)")
    levels = {4, 5} if first and can.cap.fs5lp else {4} if first else can.second_stage_levels
    if settings.levels not in levels:
        known = " or ".join(map(str, sorted(levels)))
        raise InputError(
            f"levels={settings.levels}: profile {profile.name} has {known} with stage={settings.stage.value}"
        )
    leaves = can.first_stage_leaf_levels if first else can.second_stage_leaf_levels
    return TableShape(settings.stage, settings.levels, settings.leaves & leaves)


def _within(profile: Profile, kernel: int, regions: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    # RAM that nobody asked for is only as much as the unit can address, with kernel memory above it.
    top = max((profile.capabilities.address_limit - kernel) // ROUND * ROUND, ROUND)
    return tuple((start, min(size, top - start)) for start, size in regions if start < top)


def _kernel_start(regions: Sequence[tuple[int, int]]) -> int:
    top = max(start + size for start, size in regions)
    return max(FOUR_GIB, -(-top // ROUND) * ROUND)


def _check_width(end: int, profile: Profile) -> None:
    if end > profile.capabilities.address_limit:
        haw = profile.capabilities.haw
        raise InputError(f"memory up to {end:#x} is beyond the {haw} address bits of profile {profile.name}")
