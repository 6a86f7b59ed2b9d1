"""QMP, QEMU's machine protocol: JSON commands in, JSON answers and events out.

One session is one client. As in QEMU it begins with `qmp_capabilities`; errors are `{"error": {"class", "desc"}}`, and
whatever cannot be read is answered with one and does not end the session.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from device_models.fronts.host import Host
from device_models.fronts.json_stream import BadJson, JsonStream
from device_models.fronts.qmp_commands import COMMANDS, QmpError
from device_models.options import OptionError
from pagetables.errors import VtdError

__all__ = ["QmpSession"]

_MEMBERS = ("execute", "arguments", "id")
_NEGOTIATE = "qmp_capabilities"


class QmpSession:
    """A client's connection: `greeting` first, then `feed` what arrives and send what `take` has."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.negotiated = False
        self._stream = JsonStream()
        self._output = bytearray()
        host.listeners.append(self._event)

    def greeting(self) -> bytes:
        """What a server says first."""
        return _encode({"QMP": {"version": self.host.version.json(), "capabilities": []}})

    def feed(self, data: bytes) -> bytes:
        """What to send after `data` arrived: events in the order in which they came, and an answer for each value."""
        for value in self._stream.feed(data):
            self._output += _encode(self._answer(value))
        return self.take()

    def take(self) -> bytes:
        """What is to be sent and was not yet."""
        sent = bytes(self._output)
        self._output.clear()
        return sent

    def close(self) -> None:
        """The client left: events go nowhere."""
        if self._event in self.host.listeners:
            self.host.listeners.remove(self._event)

    def _event(self, message: dict[str, Any]) -> None:
        if self.negotiated:
            self._output += _encode(message)

    def _answer(self, value: Any) -> dict[str, Any]:
        identity = {"id": value["id"]} if isinstance(value, dict) and "id" in value else {}
        try:
            return {"return": self._execute(value)} | identity
        except QmpError as error:
            return identity | _error(error.kind, str(error))
        except OptionError as error:
            missing = str(error).startswith("Device '") and "' not found" in str(error)
            return identity | _error("DeviceNotFound" if missing else "GenericError", str(error))
        except VtdError as error:
            return identity | _error("GenericError", str(error))

    def _execute(self, value: Any) -> Any:
        name, arguments = _checked(value)
        if not self.negotiated and name != _NEGOTIATE:
            raise QmpError("Expecting capabilities negotiation with 'qmp_capabilities'", "CommandNotFound")
        if name == _NEGOTIATE:
            return self._negotiate(arguments)
        command = COMMANDS.get(name)
        if command is None:
            raise QmpError(f"The command {name} has not been found", "CommandNotFound")
        return command(self.host, arguments)

    def _negotiate(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        if self.negotiated:
            raise QmpError("Capabilities negotiation is already complete, command ignored", "CommandNotFound")
        if arguments.get("enable"):
            raise QmpError(f"Capabilities not available: {arguments['enable']}")
        self.negotiated = True
        return {}


def _checked(value: Any) -> tuple[str, Mapping[str, Any]]:
    if isinstance(value, BadJson):
        raise QmpError(value.why)
    if not isinstance(value, dict):
        raise QmpError("QMP input must be a JSON object")
    for member in value:
        if member not in _MEMBERS:
            raise QmpError(f"QMP input member '{member}' is unexpected")
    if "execute" not in value:
        raise QmpError("QMP input lacks member 'execute'")
    name, arguments = value["execute"], value.get("arguments", {})
    if not isinstance(name, str):
        raise QmpError("QMP input member 'execute' must be a string")
    if not isinstance(arguments, dict):
        raise QmpError("QMP input member 'arguments' must be an object")
    return name, arguments


def _error(kind: str, text: str) -> dict[str, Any]:
    return {"error": {"class": kind, "desc": text}}


def _encode(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\r\n"
