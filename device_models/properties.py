"""Typed properties, declared on device classes and set from text as QEMU's `-device` sets them.

    class Edu(PciFunction):
        dma_mask = Unsigned(64, name="dma_mask", default=(1 << 28) - 1)

On an instance a property is its value; assigning checks it. Once a device is realized its properties are fixed, but
for those declared `live`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, overload

from device_models.c_numbers import NotANumber, parse_c_number
from device_models.options import OptionError
from pagetables.address import parse_size
from pagetables.errors import InputError, near

if TYPE_CHECKING:
    from device_models.device import Device

__all__ = [
    "Choice",
    "Link",
    "PciAddress",
    "Property",
    "Size",
    "String",
    "Switch",
    "Unsigned",
    "help_lines",
    "on_off_auto",
]

T = TypeVar("T")

_ON = ("on", "yes", "true", "y")
_OFF = ("off", "no", "false", "n")
_DESCRIBED_FROM = 24  # the column in which help begins to describe


class Property(Generic[T]):
    """A named value of a device: `default` until set; `explains` and the default are what `TYPE,help` shows."""

    type_name = "str"

    def __init__(
        self, default: T, explains: str = "", name: str | None = None, live: bool = False, shown: bool = True
    ) -> None:
        self.default = default
        self.explains = explains
        self.name = name or ""
        self.live = live
        self.shown = shown

    def __set_name__(self, owner: type[Device], attribute: str) -> None:
        self.name = self.name or attribute.replace("_", "-")

    @overload
    def __get__(self, device: None, owner: type[Device]) -> Self: ...
    @overload
    def __get__(self, device: Device, owner: type[Device]) -> T: ...
    def __get__(self, device: Device | None, owner: type[Device]) -> Self | T:
        if device is None:
            return self
        value: T = device.values.get(self.name, self.default)
        return value

    def __set__(self, device: Device, value: T) -> None:
        if device.realized and not self.live:
            raise OptionError(
                f"Attempt to set property '{self.name}' on device '{device.id or ''}' (type '{device.TYPE}') "
                f"after it was realized"
            )
        device.values[self.name] = self.checked(value, device.TYPE)

    def checked(self, value: T, owner: str) -> T:
        """`value` if the property takes it; OptionError otherwise."""
        return value

    def parse(self, text: str, owner: str) -> T:
        """The value that `text` means for a device of type `owner`; OptionError worded as QEMU's otherwise."""
        raise NotImplementedError

    def format(self, value: T) -> str:
        """The value as `info qtree` prints it."""
        return f'"{"" if value is None else value}"'

    def json(self, value: T) -> Any:
        """The value as QMP's `qom-get` returns it."""
        return value

    def help_line(self) -> str:
        """One line of `TYPE,help`."""
        line = f"  {self.name}=<{self.type_name}>"
        shows = self.shown and self.default is not None
        if self.explains or shows:
            line = f"{line:<{_DESCRIBED_FROM}} - {self.explains}"
        return f"{line} (default: {self.default_text()})" if shows else line

    def default_text(self) -> str:
        """The default as help prints it."""
        return self.format(self.default)


class Switch(Property[bool]):
    """on or off."""

    type_name = "bool"

    def parse(self, text: str, owner: str) -> bool:
        """True for on, yes, true and y; False for off, no, false and n."""
        if text in _ON or text in _OFF:
            return text in _ON
        raise OptionError(f"Parameter '{self.name}' expects 'on' or 'off'")

    def format(self, value: bool) -> str:
        """true or false."""
        return "true" if value else "false"


class Unsigned(Property[int]):
    """An unsigned number of 8, 16, 32 or 64 bits."""

    def __init__(self, bits: int, default: int = 0, explains: str = "", **more: Any) -> None:
        super().__init__(default, explains, **more)
        self.bits = bits
        self.type_name = f"uint{bits}"

    def checked(self, value: int, owner: str) -> int:
        """`value` if it fits."""
        if not 0 <= value < 1 << self.bits:
            raise OptionError(f"Parameter '{self.name}' expects {self.type_name}_t, which {value:#x} is not")
        return value

    def parse(self, text: str, owner: str) -> int:
        """A decimal, hexadecimal or (with a leading 0) octal number; a negative one of 64 bits wraps, as in QEMU."""
        try:
            return parse_c_number(text.encode())
        except NotANumber:
            raise OptionError(f"Parameter '{self.name}' expects integer, not {text!r}") from None

    def format(self, value: int) -> str:
        """Decimal and hexadecimal, as qtree has it."""
        return f"{value} ({value:#x})"

    def default_text(self) -> str:
        """Decimal."""
        return str(self.default)


class Size(Unsigned):
    """A number of bytes; K, M, G, T, P and E are powers of 1024."""

    def __init__(self, default: int = 0, explains: str = "", **more: Any) -> None:
        super().__init__(64, default, explains, **more)
        self.type_name = "size"

    def parse(self, text: str, owner: str) -> int:
        """`256`, `0x100`, `64K`, `1.5G`."""
        try:
            return parse_size(text, letters_only=True)
        except InputError as error:
            raise OptionError(f"Parameter '{self.name}': {error}") from None


class String(Property[str | None]):
    """Any text."""

    def parse(self, text: str, owner: str) -> str | None:
        """The text itself."""
        return text


class Choice(Property[str]):
    """One of a few words."""

    def __init__(self, type_name: str, words: tuple[str, ...], default: str, explains: str = "", **more: Any) -> None:
        super().__init__(default, explains or "/".join(words), **more)
        self.type_name = type_name
        self.words = words

    def checked(self, value: str, owner: str) -> str:
        """`value` if it is one of the words."""
        if value not in self.words:
            raise OptionError(f"Parameter '{self.name}' does not accept value '{value}'; {near(value, self.words)}")
        return value

    def parse(self, text: str, owner: str) -> str:
        """The word."""
        return self.checked(text, owner)


def on_off_auto(default: str = "auto", **more: Any) -> Choice:
    """A choice of on, off and auto, whose default the device works out."""
    return Choice("OnOffAuto", ("on", "off", "auto"), default, **more)


class PciAddress(Property[int | None]):
    """Device and optional function number on a PCI bus, as devfn; None takes the first slot that is free."""

    type_name = "int32"

    def parse(self, text: str, owner: str) -> int | None:
        """`02`, `1f.3`: hexadecimal."""
        match = re.fullmatch(r"(?:0x)?([0-9a-f]{1,2})(?:\.([0-7]))?", text, re.IGNORECASE)
        if match is None or int(match[1], 16) > 0x1F:
            raise OptionError(f"Property '{owner}.{self.name}' doesn't take value '{text}'")
        return int(match[1], 16) << 3 | int(match[2] or "0")

    def format(self, value: int | None) -> str:
        """`02.0`."""
        return "<unset>" if value is None else f"{value >> 3:02x}.{value & 7}"

    def json(self, value: int | None) -> int:
        """devfn, -1 while there is none."""
        return -1 if value is None else value


class Link(Property[str | None]):
    """The id of another device of the machine; `type_of` names what it must be."""

    def __init__(self, type_of: str, explains: str = "", **more: Any) -> None:
        super().__init__(None, explains, **more)
        self.type_of = type_of
        self.type_name = f"link<{type_of}>"

    def parse(self, text: str, owner: str) -> str | None:
        """The id; whether it exists is known when the device is realized."""
        return text or None


def help_lines(type_name: str, properties: Mapping[str, Property[Any]]) -> list[str]:
    """What `-device TYPE,help` prints."""
    if not properties:
        return [f"There are no options for {type_name}."]
    return [f"{type_name} options:", *(properties[name].help_line() for name in sorted(properties))]
