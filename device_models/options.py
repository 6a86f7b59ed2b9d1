"""Option strings as QEMU takes them: `TYPE,key=value,flag`.

The first part may leave out its key (`edu` is `driver=edu`); a key without a value is switched on; a comma within a
value is written twice. JSON objects (`{"driver": "edu"}`) are taken too, as QEMU's `-device` does.
"""

from __future__ import annotations

import json
import re

from pagetables.errors import InputError

__all__ = ["OptionError", "parse_options", "split_options"]

_COMMA = "\0"


class OptionError(InputError):
    """An option that no device takes, or a value that its property does not; worded as QEMU words it."""


def split_options(text: str) -> list[str]:
    """The parts of an option string between single commas; `,,` within a part stands for one comma."""
    return [part.replace(_COMMA, ",") for part in text.replace(",,", _COMMA).split(",")]


def parse_options(text: str, implied: str = "driver") -> dict[str, str]:
    """Keys and values of an option string, in order; `implied` is the key of a first part without one."""
    if text.lstrip().startswith("{"):
        return _parse_json(text)
    options: dict[str, str] = {}
    for number, part in enumerate(split_options(text)):
        key, equals, value = part.partition("=")
        if not equals and number == 0 and implied:
            key, value = implied, part
        elif not equals:
            value = "on"
        if not re.fullmatch(r"[\w.-]+", key):
            raise OptionError(f"{text!r}: {part!r} is no option: expected KEY=VALUE")
        options[key] = value
    return options


def _parse_json(text: str) -> dict[str, str]:
    try:
        given = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise OptionError(f"JSON parse error: {error}") from None
    return {str(key): _plain(value) for key, value in given.items()}


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)
