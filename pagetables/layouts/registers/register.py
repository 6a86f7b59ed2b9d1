"""The base of register layouts: a word with a place in the register page."""

from __future__ import annotations

from typing import Any, ClassVar

from pagetables.bits import Word

__all__ = ["Register"]


class Register(Word):
    """A register: `mmio_offset` is in bytes from the register base, or from what `mmio_base` names.

    `mmio_base` names what moves the register: "iro" (ECAP.IRO*16), "fro" (CAP.FRO*16), "perfcfgoff" (PERFCFGOFF).
    `power_on` is the value after power-on, None where the implementation chooses it. `copies` registers follow each
    other every `spacing` bytes.
    """

    mmio_offset: ClassVar[int] = 0
    mmio_base: ClassVar[str | None] = None
    copies: ClassVar[int] = 1
    spacing: ClassVar[int] = 0
    power_on: ClassVar[int | None] = 0

    def __init_subclass__(
        cls,
        *,
        offset: int = 0,
        base: str | None = None,
        count: int = 1,
        stride: int = 0,
        reset: int | None = 0,
        **more: Any,
    ) -> None:
        super().__init_subclass__(**more)
        cls.mmio_offset, cls.mmio_base = offset, base
        cls.copies, cls.spacing, cls.power_on = count, stride, reset
