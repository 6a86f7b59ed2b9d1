"""Which mappings are asked for: by address, by page size, by access."""

from __future__ import annotations

from dataclasses import dataclass

from pagetables.request import Permissions

__all__ = ["ACCESSES", "EVERYTHING", "Selection"]

_BOTH = Permissions.R | Permissions.W
ACCESSES: dict[str, frozenset[Permissions]] = {
    "r": frozenset({Permissions.R, _BOTH}),
    "w": frozenset({Permissions.W, _BOTH}),
    "rw": frozenset({_BOTH}),
    "ro": frozenset({Permissions.R}),
    "wo": frozenset({Permissions.W}),
}


@dataclass(frozen=True, slots=True)
class Selection:
    """Leaves that overlap [start, end) of `iova` and of `gpa`, have `page_size`, and grant one of `access`.

    None asks for anything. `access` is what is left of R and W after every level.
    """

    iova: tuple[int, int] | None = None
    gpa: tuple[int, int] | None = None
    page_size: int | None = None
    access: frozenset[Permissions] | None = None

    @property
    def is_everything(self) -> bool:
        """True if nothing is left out."""
        return self == EVERYTHING

    @property
    def by_leaf(self) -> bool:
        """True if each leaf has to be asked, whatever its address."""
        return not (self.gpa is None and self.page_size is None and self.access is None)

    def takes(self, gpa: int, size: int, rights: int) -> bool:
        """True if a leaf of `size` that maps `gpa` with these rights is asked for, if its address is."""
        if self.page_size not in (None, size):
            return False
        if self.gpa is not None and not (gpa < self.gpa[1] and self.gpa[0] < gpa + size):
            return False
        return self.access is None or Permissions(rights & _BOTH) in self.access

    def reaches(self, iova: int, size: int) -> bool:
        """True if some of the `size` bytes at `iova` are asked for."""
        return self.iova is None or (iova < self.iova[1] and self.iova[0] < iova + size)

    def covers(self, iova: int, size: int) -> bool:
        """True if all of them are."""
        return self.iova is None or (self.iova[0] <= iova and iova + size <= self.iova[1])


EVERYTHING = Selection()
