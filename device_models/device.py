"""Devices: named types with properties, which are realized, reset and unrealized in that order.

A device is made, its properties are set, then it is realized: it takes its place in the machine, or says why it
cannot. `realize`, `reset` and `unrealize` of a subclass call its parent's, first in `realize` and last in `unrealize`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from device_models.options import OptionError
from device_models.properties import Property
from pagetables.errors import near

if TYPE_CHECKING:
    from device_models.machine import SystemMachine

__all__ = ["Device"]


class Device:
    """Something in a machine. `TYPE` is what `-device` calls it, `EXPLAINS` one line about it.

    `HOTPLUGGABLE` types can be added to a machine that runs; `hotplugged` devices were.
    """

    TYPE: ClassVar[str] = "device"
    EXPLAINS: ClassVar[str] = ""
    HOTPLUGGABLE: ClassVar[bool] = True
    properties: ClassVar[dict[str, Property[Any]]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        own = (value for value in vars(cls).values() if isinstance(value, Property))
        cls.properties = {**cls.properties, **{value.name: value for value in own}}

    def __init__(self, machine: SystemMachine, identity: str | None = None) -> None:
        self.machine = machine
        self.id = identity
        self.realized = False
        self.hotplugged = False
        self.values: dict[str, Any] = {}
        self.path = ""

    @classmethod
    def for_profile(cls, profile: str) -> type[Device]:
        """The type as a machine with `profile` has it: QEMU's options changed between its versions."""
        return cls

    def set_property(self, name: str, text: str) -> None:
        """Set a property from text; OptionError in QEMU's words, and what is near, otherwise."""
        known = self.properties.get(name)
        if known is None:
            raise OptionError(f"Property '{self.TYPE}.{name}' not found; {near(name, self.properties)}")
        known.__set__(self, known.parse(text, self.TYPE))

    def get_property(self, name: str) -> Any:
        """The value of a property as QMP returns it."""
        known = self.properties.get(name)
        if known is None:
            raise OptionError(f"Property '{self.TYPE}.{name}' not found; {near(name, self.properties)}")
        return known.json(self.values.get(name, known.default))

    def realize(self) -> None:
        """Take the place in the machine; OptionError if that cannot be."""

    def reset(self) -> None:
        """The state after power-on."""

    def unrealize(self) -> None:
        """Leave the machine, whatever part of `realize` was done."""
