"""What the host got wrong.

    VtdError                      the root: catch this to catch everything of ours
      LayoutError                 a declaration that does not tile its word, a value that does not fit its field
        UnknownField              a field name no declaration has
        UnknownLayout             a layout name no declaration has
      InputError                  a file, a line or an argument from outside that cannot be used
        ImageError                an image that is not what it says it is
        TraceError                a trace that is not what it says it is
      NoMemory                    an access outside every RAM region
      MappingError                a map or unmap that the tables refuse
        AlreadyMapped             the range overlaps a mapping that is live
        NotMapped                 the range, or a part that must be whole, is not mapped
        OutOfPages                the table supply has no page to give

What a guest can cause is never an exception: it is a `Fault` (pagetables.fault).
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = [
    "AlreadyMapped",
    "ImageError",
    "InputError",
    "LayoutError",
    "MappingError",
    "NoMemory",
    "NotMapped",
    "OutOfPages",
    "TraceError",
    "UnknownField",
    "UnknownLayout",
    "VtdError",
    "near",
]


class VtdError(Exception):
    """Anything this project raises on purpose."""


class LayoutError(VtdError, ValueError):
    """A layout that does not tile its word, or a value that does not fit its field."""


class UnknownField(LayoutError):
    """A field name that the layout does not have."""


class UnknownLayout(LayoutError):
    """A layout name that is not declared."""


class InputError(VtdError):
    """Something from outside that cannot be used; the message says what, where and what was expected."""


class ImageError(InputError):
    """An image file that cannot be read as the container it claims to be."""


class TraceError(InputError):
    """A trace file that cannot be read as any format known."""


class NoMemory(VtdError):
    """An access to `address` (`size` bytes) that lies outside every RAM region."""

    def __init__(self, address: int, size: int) -> None:
        super().__init__(f"no memory at {address:#x} (+{size:#x})")
        self.address = address
        self.size = size


class MappingError(VtdError):
    """A map or unmap that the tables refuse; `iova` is where."""

    def __init__(self, message: str, iova: int) -> None:
        super().__init__(message)
        self.iova = iova


class AlreadyMapped(MappingError):
    """The range overlaps a live mapping (Linux: -EADDRINUSE)."""


class NotMapped(MappingError):
    """The range is not mapped, or lies in the middle of a larger page (Linux: 0 bytes unmapped)."""


class OutOfPages(MappingError):
    """No table page was to be had (Linux: -ENOMEM)."""


def near(name: str, known: Iterable[str]) -> str:
    """The end of an error message: what is near `name` among `known`, or all of them when nothing is."""
    import difflib  # here: every command loads this module, and few run into an unknown name

    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    return f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(names)}"
