"""A request, and what a translation of it yields."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from pagetables.address import Gpa, Iova, Pasid, SourceId, format_source_id

__all__ = ["Access", "AddressType", "Permissions", "Request", "Translation"]


class Access(enum.Enum):
    """What the requester wants to do. An atomic needs read and write permission."""

    READ = "r"
    WRITE = "w"
    ATOMIC = "rw"
    EXECUTE = "x"

    @property
    def reads(self) -> bool:
        """True if read permission is needed."""
        return self is not Access.WRITE

    @property
    def writes(self) -> bool:
        """True if write permission is needed."""
        return self in (Access.WRITE, Access.ATOMIC)

    @property
    def needs(self) -> Permissions:
        """The rights that a translation must grant; a unit that knows no execute permission grants X with R."""
        return _NEEDS[self]


class AddressType(enum.IntEnum):
    """The AT field of the request."""

    UNTRANSLATED = 0
    TRANSLATION_REQUEST = 1
    TRANSLATED = 2


class Permissions(enum.IntFlag):
    """Rights that a walk accumulates (AND over all levels)."""

    NONE = 0
    R = 1
    W = 2
    X = 4
    USER = 8  # first stage: U/S set in every entry

    def text(self) -> str:
        """`r`, `w`, `rw` or `-`, as the commands print an access."""
        return ("r" if self & Permissions.R else "") + ("w" if self & Permissions.W else "") or "-"


_NEEDS = {
    Access.READ: Permissions.R,
    Access.WRITE: Permissions.W,
    Access.ATOMIC: Permissions.R | Permissions.W,
    Access.EXECUTE: Permissions.X,
}


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it arrives from the root complex. It travels whole: nobody rebuilds it."""

    source_id: SourceId
    iova: Iova
    access: Access = Access.READ
    pasid: Pasid | None = None
    privileged: bool = False
    address_type: AddressType = AddressType.UNTRANSLATED

    def __str__(self) -> str:
        pasid = "" if self.pasid is None else f" pasid {self.pasid:#x}"
        return f"{self.access.name.lower()} of {self.iova:#x} by {format_source_id(self.source_id)}{pasid}"


@dataclass(frozen=True, slots=True)
class Translation:
    """Where a request goes. `gpa` is exact (offset included); `page_shift` is the smallest page of all stages.

    `permissions` are what requests of this privilege may do: W includes a supervisor's write that WPE=0 lets pass, X
    means R where the second stage knows no execute permission.
    """

    gpa: Gpa
    page_shift: int
    permissions: Permissions
