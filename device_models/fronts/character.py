"""Where a protocol is spoken: Unix sockets, TCP on this machine, standard input and output, or nowhere.

The forms are those of QEMU's `-qtest`, `-qmp`, `-monitor` and `-chardev`. A socket is connected to, or with server=on
listened at; anything that would leave this machine is refused.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from dataclasses import dataclass

from device_models.fronts.invocation import CommandLineError, on_off
from device_models.options import OptionError, parse_options

__all__ = ["Character", "parse_character", "parse_chardev"]

_DRIVERS = ("socket", "stdio", "null")
_LOCAL_NAMES = ("localhost", "")


@dataclass(frozen=True, slots=True)
class Character:
    """A place to speak at. `driver` is socket, stdio or null; a socket has a path, host and port, or a descriptor."""

    driver: str
    path: str = ""
    host: str = ""
    port: int = 0
    descriptor: int = -1
    server: bool = False
    wait: bool = True

    @property
    def text(self) -> str:
        """The place as `query-chardev` names it."""
        if self.driver != "socket":
            return self.driver
        if self.descriptor >= 0:
            return f"fd:{self.descriptor}"
        place = f"unix:{self.path}" if self.path else f"tcp:{self.host}:{self.port}"
        return f"{place},server=on" if self.server else place

    def listener(self) -> socket.socket:
        """A socket that clients can connect to; CommandLineError if that cannot be."""
        made, place = self._socket()
        try:
            if self.path and os.path.exists(self.path):
                os.unlink(self.path)
            made.bind(place)
            made.listen(1)
        except OSError as error:
            made.close()
            raise CommandLineError(f"Failed to bind socket to {self._shown}: {error.strerror}") from None
        return made

    def connect(self) -> socket.socket:
        """The socket, connected; CommandLineError if nobody listens there."""
        if self.descriptor >= 0:
            return self._inherited()
        made, place = self._socket()
        try:
            made.connect(place)
        except OSError as error:
            made.close()
            raise CommandLineError(f"Failed to connect to '{self._shown}': {error.strerror}") from None
        return made

    @property
    def _shown(self) -> str:
        return self.path or f"{self.host}:{self.port}"

    def _socket(self) -> tuple[socket.socket, str | tuple[str, int]]:
        if self.path:
            return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), self.path
        address = self.host or "127.0.0.1"
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return socket.socket(family, socket.SOCK_STREAM), (
            "127.0.0.1" if address == "localhost" else address,
            self.port,
        )

    def _inherited(self) -> socket.socket:
        try:
            return socket.socket(fileno=self.descriptor)
        except OSError as error:
            raise CommandLineError(f"file descriptor {self.descriptor} is no socket: {error.strerror}") from None


def parse_character(text: str) -> Character:
    """The place that `-qtest TEXT` and its like name: `unix:PATH`, `tcp:HOST:PORT`, `stdio`, `null`, `none`."""
    kind, _, rest = text.partition(":")
    if kind in ("none", "null", "stdio") and not rest:
        return Character("null" if kind == "none" else kind)
    if kind == "unix":
        options = parse_options(rest, implied="path")
        return _socket_character(options)
    if kind == "tcp":
        options = parse_options(rest, implied="place")
        host, _, port = options.pop("place", "").rpartition(":")
        return _socket_character(options | {"host": host.strip("[]"), "port": port})
    raise CommandLineError(f"'{kind}' is not a valid char driver; known: unix:PATH, tcp:127.0.0.1:PORT, stdio, null")


def parse_chardev(text: str) -> tuple[str, Character]:
    """The id and the place that `-chardev TEXT` defines."""
    options = parse_options(text, implied="backend")
    identity, driver = options.pop("id", None), options.pop("backend", "")
    if identity is None:
        raise CommandLineError("Parameter 'id' is missing")
    if driver not in _DRIVERS:
        raise CommandLineError(f"'{driver}' is not a valid char driver; known: {', '.join(_DRIVERS)}")
    return identity, _socket_character(options) if driver == "socket" else Character(driver)


def _socket_character(options: dict[str, str]) -> Character:
    server = on_off(options, "server", False)
    wait = on_off(options, "wait", True) and "nowait" not in options
    if "fd" in options:
        return Character("socket", descriptor=_number(options["fd"], "fd", 1 << 16))
    path, host = options.get("path", ""), options.get("host", "")
    if not path and "port" not in options:
        raise OptionError("expected a path, or a host and a port")
    if path:
        return Character("socket", path=path, server=server, wait=wait)
    _check_local(host)
    return Character("socket", "", host, _number(options["port"], "port", 1 << 16), server=server, wait=wait)


def _check_local(host: str) -> None:
    if host in _LOCAL_NAMES:
        return
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = False
    if not local:
        raise CommandLineError(f"'{host}' is not this machine: only Unix sockets and loopback addresses are served")


def _number(text: str, name: str, limit: int) -> int:
    if not text.isascii() or not text.isdigit() or int(text) >= limit:
        raise CommandLineError(f"Parameter '{name}' expects a number below {limit}, not '{text}'")
    return int(text)
