"""The loop of a process that serves a machine: who connects, what they say, and when it ends.

Nobody can block it: what a client does not read waits in memory up to a limit, and beyond that the client is not
listened to until it reads.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Protocol

from device_models.fronts.character import Character
from device_models.fronts.host import Host
from device_models.fronts.pace import Pace

__all__ = ["Door", "Loop", "Session", "stop_signals"]

_CHUNK = 1 << 16
_UNREAD_LIMIT = 1 << 26
_PARENT_CHECK = 500  # ms
_GONE = select.POLLHUP | select.POLLERR | select.POLLNVAL


class Session(Protocol):
    """What is spoken with one client."""

    def greeting(self) -> bytes:
        """What is said first."""

    def feed(self, data: bytes) -> bytes:
        """What to send after `data` arrived."""

    def take(self) -> bytes:
        """What came up meanwhile."""

    def close(self) -> None:
        """The client left."""


class Door:
    """A place and what is spoken there. The process ends when a client of a `vital` door leaves for good.

    `origin` is the option that asked for it; `changed` says that `interests` may have.
    """

    def __init__(
        self, place: Character, open_session: Callable[[], Session], origin: str = "", vital: bool = False
    ) -> None:
        self.place = place
        self.open_session = open_session
        self.origin = origin
        self.vital = vital
        self.listener: socket.socket | None = None
        self.session: Session | None = None
        self.unsent = b""
        self.changed = True
        self._socket: socket.socket | None = None
        self._input = self._output = -1

    def open(self) -> None:
        """Connect, or begin to listen; CommandLineError if that fails."""
        if self.place.server:
            self.listener = self.place.listener()
        elif self.place.driver == "socket":
            self._socket = self.place.connect()

    def begin(self) -> None:
        """Greet whoever is there already."""
        if self.place.driver == "stdio":
            self._input, self._output = sys.stdin.fileno(), sys.stdout.fileno()
            self._greet()
        elif self._socket is not None:
            self._talk_to(self._socket)

    def accept(self) -> None:
        """A client knocks; while another is here it waits."""
        if self.listener is not None and self.session is None:
            with contextlib.suppress(OSError):
                self._talk_to(self.listener.accept()[0])

    def _talk_to(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._socket = connection
        self._input = self._output = connection.fileno()
        self._greet()

    def _greet(self) -> None:
        self.session, self.changed = self.open_session(), True
        self.send(self.session.greeting())

    @property
    def interests(self) -> dict[int, int]:
        """What to poll for, by descriptor."""
        if self.session is None:
            return {} if self.listener is None else {self.listener.fileno(): select.POLLIN}
        found = {self._input: select.POLLIN} if len(self.unsent) < _UNREAD_LIMIT else {}
        if self.unsent:
            found[self._output] = found.get(self._output, 0) | select.POLLOUT
        return found

    def happened(self, descriptor: int, event: int) -> None:
        """What polling said of one descriptor of this door."""
        if self.session is None:
            self.accept()
            return
        if event & select.POLLOUT:
            self.send(b"")
        if event & (select.POLLIN | _GONE) and descriptor == self._input:
            self._receive()

    def _receive(self) -> None:
        try:
            data = os.read(self._input, _CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.leave()
        elif self.session is not None:
            self.send(self.session.feed(data))

    def flush(self) -> None:
        """Send what came up unasked."""
        if self.session is not None:
            data = self.session.take()
            if data:
                self.send(data)

    def send(self, data: bytes) -> None:
        """Send now what can be sent, keep the rest."""
        data = self.unsent + data if self.unsent else data
        while data:
            try:
                data = data[os.write(self._output, data) :]
            except BlockingIOError:
                break
            except OSError:  # the client is gone, which reading will tell
                data = b""
        if data or self.unsent:
            self.unsent, self.changed = data, True

    def leave(self) -> None:
        """The client is gone; a listening door waits for the next."""
        if self.session is not None:
            self.session.close()
            self.session = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self.unsent, self.changed = b"", True
        self._input = self._output = -1

    @property
    def shut(self) -> bool:
        """True if nobody is here and nobody will come."""
        return self.session is None and self.listener is None


class Loop:
    """Serve doors until a monitor says quit, a signal comes, the last client is gone, or (if asked) the parent is."""

    def __init__(self, host: Host, doors: Sequence[Door], pace: Pace, with_parent: bool = False) -> None:
        self.host = host
        self.doors = doors
        self.pace = pace
        self.parent = os.getppid() if with_parent else None
        self._owners: dict[int, Door] = {}
        self._interests: dict[int, int] = {}
        self._poll = select.poll()

    def run(self, wake: int) -> None:
        """Serve. `wake` is a descriptor that becomes readable when a signal asks to end."""
        self._poll.register(wake, select.POLLIN)
        for door in self.doors:
            door.begin()
        while self._watch():
            events = self._poll.poll(self._timeout())
            self.pace.pass_time()
            for descriptor, event in events:
                if descriptor == wake:
                    return
                self._owners[descriptor].happened(descriptor, event)
            self.pace.pass_time()
            for door in self.doors:
                door.flush()
        for door in self.doors:
            door.flush()

    def _timeout(self) -> int | None:
        wait = self.pace.wait()
        if self.parent is None:
            return wait
        return _PARENT_CHECK if wait is None else min(wait, _PARENT_CHECK)

    def _watch(self) -> bool:
        # Before each poll: doors may have opened, closed, or begun to wait. False when it is time to end.
        if self.host.leaving or (self.parent is not None and os.getppid() != self.parent):
            return False
        if not any(door.changed for door in self.doors):
            return True
        self._register()
        real = [door for door in self.doors if door.place.driver != "null"]
        lost = any(door.vital and door.shut for door in real) or all(door.shut for door in real)
        return not (real and lost)

    def _register(self) -> None:
        wanted: dict[int, int] = {}
        for door in self.doors:
            door.changed = False
            for descriptor, mask in door.interests.items():
                wanted[descriptor] = mask
                self._owners[descriptor] = door
        for descriptor in self._interests.keys() - wanted.keys():
            with contextlib.suppress(KeyError, OSError):
                self._poll.unregister(descriptor)
        for descriptor, mask in wanted.items():
            self._poll.register(descriptor, mask)
        self._interests = wanted


def stop_signals() -> int:
    """From now on SIGTERM, SIGINT and SIGHUP make the descriptor that is returned readable, and nothing else."""
    readable, writable = os.pipe()
    os.set_blocking(writable, False)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda caught, frame: None)
    return readable
