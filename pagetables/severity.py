"""How bad a finding is."""

from __future__ import annotations

import enum

__all__ = ["Severity"]


class Severity(enum.IntEnum):
    """A note is worth knowing, a warning deserves a decision, an error breaks isolation, tables or the boot."""

    NOTE = 1
    WARNING = 2
    ERROR = 3

    @property
    def text(self) -> str:
        """`note`, `warning` or `error`."""
        return self.name.lower()
