"""What the firmware of a machine tells of its platform besides what units and devices show."""

from __future__ import annotations

from dataclasses import dataclass, field

from device_models.scopes import Scope

__all__ = ["Platform", "ReservedMemory"]


@dataclass(frozen=True, slots=True)
class ReservedMemory:
    """Memory [base, limit] that firmware goes on using for devices; drivers map it one to one (RMRR)."""

    base: int
    limit: int
    devices: tuple[Scope, ...]


@dataclass(slots=True)
class Platform:
    """Statements of the DMAR table that nothing in the machine implies.

    `ats_ports` are root ports that support ATS (None: those with an ATS device behind them), `atc_required` integrated
    devices that work only with ATS, `properties` integrated devices with the flags of their SIDP scopes.
    """

    reserved: list[ReservedMemory] = field(default_factory=list)
    ats_ports: list[Scope] | None = None
    atc_required: list[Scope] = field(default_factory=list)
    properties: list[tuple[Scope, int]] = field(default_factory=list)
    x2apic_opt_out: bool = False
    dma_opt_in: bool = False
