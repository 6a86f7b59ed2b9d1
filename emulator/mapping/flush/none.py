"""No invalidation at all, until the device goes: a baseline, and what a forgotten flush looks like.

    unmap      tells the unit nothing
    detach     invalidates the domain, and its pages go back

An aperture whose entries are written once and never change needs no more. Wherever entries do change, the stale window
shows what that costs: it does not close. Pages wait all the same, so that what is measured is reach, not corruption;
addresses are free at once, and each one that is handed out again counts (`reused_before_flush`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from emulator.mapping.domain import Domain
from emulator.mapping.flush.on_demand import LazyOnWrap

__all__ = ["NoInvalidation"]


class NoInvalidation(LazyOnWrap):
    """Everything stays cached until the device goes."""

    name: ClassVar[str] = "none"
    on_demand: ClassVar[bool] = False
    defaults: ClassVar[Mapping[str, int | str]] = {"granularity": "domain"}

    def demand(self, domain: Domain) -> None:
        """Nothing is flushed, whoever asks."""
