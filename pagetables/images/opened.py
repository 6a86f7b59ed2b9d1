"""An image and its units, and everything that can be asked of them, in one object."""

from __future__ import annotations

import os
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from pagetables.address import Iova, Pasid, SourceId, parse_source_id
from pagetables.images.inspection import Answer, UnitReport, answer, inspect_unit, register_pages
from pagetables.images.opening import open_image
from pagetables.request import Access, Request

if TYPE_CHECKING:
    from pagetables.audit import Report
    from pagetables.diff import Difference
    from pagetables.dmesg import FaultLine
    from pagetables.explain import Explanation, History

__all__ = ["OpenedImage"]


class OpenedImage:
    """What `pagetables.images.open` gives: `memory` is the image (a `Memory`), `units` the registers of each unit.

    Devices are source-ids or text (`00:05.0`). Close it, or use it in a `with` statement.

    >>> from pagetables import images
    >>> with images.open("fixtures/images/a-legacy-strict/image.elf.gz", rtaddr=0x79AF000) as image:
    ...     print(image.walk("00:03.0", 0xFFFFF000).outcome.permissions.text())
    rw
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        registers: str | os.PathLike[str] | None = None,
        rtaddr: int | None = None,
        base: int | None = None,
    ) -> None:
        self.path = os.fspath(path)
        self.memory = open_image(path, base)
        try:
            file = None if registers is None else os.fspath(registers)
            self.units = register_pages(self.memory, file, rtaddr)
        except BaseException:
            self.memory.close()
            raise

    def scan(self, source: SourceId | str | None = None, pasid: int | None = None) -> tuple[UnitReport, ...]:
        """Everything that the tables of each unit map: of one device or PASID, if given."""
        wanted = None if source is None else _source_id(source)
        process = None if pasid is None else Pasid(pasid)
        return tuple(inspect_unit(self.memory, page, source_id=wanted, pasid=process) for page in self.units)

    def walk(
        self, source: SourceId | str, iova: int, access: Access | str = Access.READ, pasid: int | None = None
    ) -> Answer:
        """Where an address of a device leads, step by step; `access` is `r`, `w`, `rw` or `x`."""
        process = None if pasid is None else Pasid(pasid)
        return answer(self.memory, self.units, Request(_source_id(source), Iova(iova), Access(access), process))

    def explain(self, fault: FaultLine | str, history: History | None = None) -> Explanation:
        """Why the kernel printed `fault` (a line of dmesg), by these tables and, if given, by what a trace tells."""
        from pagetables.dmesg import parse_fault_line
        from pagetables.explain import Tables, explain

        line = parse_fault_line(fault) if isinstance(fault, str) else fault
        return explain(line, Tables(self.memory, self.units), history)

    def audit(self, **options: Any) -> Report:
        """What is wrong with the tables, and what each device can reach; options as of `pagetables.audit.audit`."""
        from pagetables.audit import audit

        return audit(self.memory, self.units, **options)

    def diff(self, other: OpenedImage) -> Difference:
        """What changed from this image to `other`."""
        from pagetables.diff import diff, image_side

        sides = (image_side(one.path, one.memory, one.units) for one in (self, other))
        return diff(*sides)

    def close(self) -> None:
        """Give the file back."""
        self.memory.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _source_id(source: SourceId | str) -> SourceId:
    return parse_source_id(source) if isinstance(source, str) else source
