"""Where bytes come from: dumps of physical memory, and the registers that go with them; and how they are saved.

`open` is the way in for programs: an image, its units, and what can be asked of them.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pagetables.images.opened import OpenedImage

__all__ = ["open"]


def open(  # noqa: A001  # read as images.open, as one reads gzip.open
    path: str | os.PathLike[str],
    registers: str | os.PathLike[str] | None = None,
    rtaddr: int | None = None,
    base: int | None = None,
) -> OpenedImage:
    """The image at `path` with its units: their registers from its notes, the file `registers`, or RTADDR's value.

    `base` is where raw memory begins. ImageError for what is no image, or has no registers and got none.
    """
    from pagetables.images.opened import OpenedImage  # here: every part of this package would load all of it

    return OpenedImage(path, registers, rtaddr, base)
