"""What an attack came to: which pages were reached, and why the others were not."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from device_models.dma import DmaError
from pagetables.address import format_source_id
from pagetables.fault import Fault
from pagetables.request import Request

__all__ = ["Reached", "Report", "reason_of"]


@dataclass(frozen=True, slots=True)
class Reached:
    """One request that went through, and what it brought or wrote."""

    request: Request
    data: bytes = b""


@dataclass(slots=True)
class Report:
    """Of the attack called `attack`: `reached`, and how many requests were `blocked`, by reason."""

    attack: str
    reached: list[Reached] = field(default_factory=list)
    blocked: Counter[str] = field(default_factory=Counter)

    def note(self, request: Request, error: DmaError | None, data: bytes = b"") -> None:
        """Count one request."""
        if error is None:
            self.reached.append(Reached(request, data))
        else:
            self.blocked[reason_of(error)] += 1

    @property
    def pages(self) -> set[int]:
        """The pages that were reached, by the address that the request carried."""
        return {one.request.iova & ~0xFFF for one in self.reached}

    def __str__(self) -> str:
        text = f"{self.attack}: reached {_count(len(self.pages), 'page')}, {sum(self.blocked.values())} blocked"
        reasons = ", ".join(f"{reason}: {number}" for reason, number in sorted(self.blocked.items()))
        return f"{text} ({reasons})" if reasons else text

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "attack": self.attack,
            "reached": [
                {
                    "device": format_source_id(one.request.source_id),
                    "pasid": one.request.pasid,
                    "address": f"{one.request.iova:#x}",
                    "access": one.request.access.value,
                    "translated": bool(one.request.address_type),
                }
                for one in self.reached
            ],
            "blocked": dict(sorted(self.blocked.items())),
        }


def reason_of(error: DmaError) -> str:
    """Why a request was blocked: the unit's fault reason, such as `06h read-denied`, or what the bus says."""
    if isinstance(error, Fault):
        return f"{error.reason:02X}h {error.reason.name.lower().replace('_', '-')}"
    return error.value


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
