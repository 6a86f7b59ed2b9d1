"""From a command line to a served machine: what is asked of the program, who is spoken with, and how time passes."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO, TypeVar

from device_models.fronts.building import build_machine, machine_lines
from device_models.fronts.character import Character, parse_character, parse_chardev
from device_models.fronts.doors import Door, Loop
from device_models.fronts.host import Host
from device_models.fronts.invocation import CommandLineError, Invocation, on_off, parse_arguments
from device_models.fronts.monitor import MonitorSession
from device_models.fronts.pace import Idle, Pace, RealTime, Stepped
from device_models.fronts.qmp import QmpSession
from device_models.fronts.qtest import QtestServer
from device_models.fronts.type_help import device_help, device_list
from device_models.fronts.version import QemuVersion
from device_models.options import OptionError, parse_options
from emulator.profile import Profile, load_profile

__all__ = ["stand_in"]

G = TypeVar("G")
T = TypeVar("T")

_ACCELERATORS = ("qtest", "tcg")
_MONITORS = {"monitor-qmp": "control", "monitor-hmp": "readline"}
_SILENT_OBJECTS = ("memory-backend-ram", "memory-backend-file", "memory-backend-memfd", "rng-random", "iothread")
_HELP = """usage: {program} [options]

Stands in for QEMU where a program drives it over qtest and QMP: a q35 machine without a processor.

  -machine q35|none[,...]   -m SIZE   -smp N   -accel qtest|tcg   -icount ...,sleep=off
  -device TYPE[,PROPERTY=VALUE...]        -device help, -device TYPE,help
  -global TYPE.PROPERTY=VALUE
  -qtest PLACE   -qtest-log FILE          PLACE: unix:PATH, tcp:127.0.0.1:PORT, stdio; server=on,wait=off listens
  -qmp PLACE   -monitor PLACE   -chardev socket,id=ID,path=PATH   -mon chardev=ID,mode=control|readline
  -object monitor-qmp|monitor-hmp,id=ID,chardev=ID
  -run-with exit-with-parent=on           --version   --help

Processor, firmware, display and sound options are taken and do nothing. VTD_PROFILE=NAME chooses the unit.
"""


def stand_in(arguments: list[str], profile_name: str, wake: int) -> int:
    """Serve what `arguments` ask for until it ends; returns the exit status."""
    profile = load_profile(profile_name)
    invocation = parse_arguments(arguments)
    text = _asked(invocation, profile)
    if text is not None:
        sys.stdout.write(text)
        return 0
    for warning in invocation.warnings:
        sys.stderr.write(f"{sys.argv[0]}: {warning}\n")
    accelerator = _accelerator(invocation)
    places = _Places(invocation)
    for _, place in places.found:
        _told(place.origin, place, Door.open)
    machine = build_machine(invocation, profile)
    host = places.host = Host(machine, _name(invocation), running="S" not in invocation.flags)
    host.channels.update((label, place.place.text) for label, place in places.found)
    places.accelerated = accelerator == "qtest"
    pace = _pace(invocation, accelerator, host)
    with _pid_file(invocation.last("pidfile")):
        Loop(host, [place for _, place in places.found], pace, _with_parent(invocation)).run(wake)
    return 0


@contextmanager
def _pid_file(path: str | None) -> Iterator[None]:
    if path is None:
        yield
        return
    try:
        Path(path).write_text(f"{os.getpid()}\n", encoding="ascii")
    except OSError as error:
        raise CommandLineError(f"cannot create PID file: Could not create '{path}': {error.strerror}") from error
    try:
        yield
    finally:
        Path(path).unlink(missing_ok=True)


def _asked(invocation: Invocation, profile: Profile) -> str | None:
    # What is printed instead of running a machine.
    version = QemuVersion.of(profile)
    if invocation.ask == "help":
        return _HELP.format(program="vtd-system-x86_64")
    if invocation.ask == "version":
        return f"{version.line()}\nNo part of QEMU: a stand-in with the unit of profile {profile.name}\n"
    if "help" in invocation.all("machine", "M"):
        return "\n".join(machine_lines(version)) + "\n"
    if "help" in invocation.all("accel"):
        return "Accelerators supported in QEMU binary:\nqtest\ntcg\n"
    for text in invocation.all("device"):
        options = _told(f"-device {text}", text, parse_options)
        if text in ("help", "?"):
            return device_list(profile.name)
        if "help" in options:
            return device_help(options.get("driver", ""), profile.name, text)
    return None


def _accelerator(invocation: Invocation) -> str:
    chosen = [parse_options(text, implied="accel")["accel"] for text in invocation.all("accel")]
    for text in invocation.all("machine", "M"):
        named = parse_options(text, implied="type").get("accel")
        chosen += named.split(":") if named else []
    for name in chosen:
        if name in _ACCELERATORS:
            return name
    if chosen:
        raise CommandLineError(f"-accel {chosen[0]}: invalid accelerator {chosen[0]}")
    return "tcg"


def _pace(invocation: Invocation, accelerator: str, host: Host) -> Pace:
    counting = invocation.last("icount")
    if accelerator == "qtest":
        return Stepped()
    if counting is not None and not on_off(parse_options(counting, implied="shift"), "sleep", True):
        return Idle(host.machine.clock)
    return RealTime(host.machine.clock)


def _with_parent(invocation: Invocation) -> bool:
    wanted = False
    for text in invocation.all("run-with"):
        options = parse_options(text, implied="")
        for name in options:
            if name not in ("exit-with-parent", "async-teardown", "chroot", "user"):
                raise CommandLineError(f"-run-with {text}: Invalid parameter '{name}'")
        wanted = on_off(options, "exit-with-parent", wanted)
    return wanted


def _name(invocation: Invocation) -> str:
    return parse_options(invocation.last("name") or "guest=", implied="guest").get("guest", "")


class _Places:
    # Every place that the command line speaks at, by its label; sessions begin when the machine is there.

    def __init__(self, invocation: Invocation) -> None:
        self.host: Host | None = None
        self.accelerated = True
        self.found: list[tuple[str, Door]] = []
        self._log = _log_file(invocation.last("qtest-log")) if invocation.all("qtest") else None
        self._places = dict(_told(f"-chardev {text}", text, parse_chardev) for text in invocation.all("chardev"))
        for text in invocation.all("qtest"):
            self.found.append(("qtest", Door(_place("qtest", text), self._qtest, f"-qtest {text}", vital=True)))
        for option, text in invocation.given:
            self._take(option, text)
        if "nographic" in invocation.flags and not any(door.place.driver == "stdio" for _, door in self.found):
            self._monitor("serial0", Character("stdio"), "readline", "-nographic")

    def _take(self, option: str, text: str) -> None:
        if option in ("qmp", "qmp-pretty"):
            self._monitor(f"compat_monitor{len(self.found)}", _place(option, text), "control", f"-{option} {text}")
        elif option in ("monitor", "serial") and (option == "monitor" or text.startswith("mon:")):
            place = _place(option, text.removeprefix("mon:"))
            self._monitor(f"compat_monitor{len(self.found)}", place, "readline", f"-{option} {text}")
        elif option == "mon":
            options = parse_options(text, implied="chardev")
            self._named(option, text, options.get("chardev", ""), options.get("mode", "readline"))
        elif option == "object":
            self._object(text)

    def _object(self, text: str) -> None:
        options = parse_options(text, implied="qom-type")
        kind = options.get("qom-type", "")
        if kind in _MONITORS:
            self._named("object", text, options.get("chardev", ""), _MONITORS[kind])
        elif kind not in _SILENT_OBJECTS:
            raise CommandLineError(f"-object {text}: Parameter 'qom-type' does not accept value '{kind}'")

    def _named(self, option: str, text: str, identity: str, mode: str) -> None:
        if identity not in self._places:
            raise CommandLineError(f'-{option} {text}: chardev "{identity}" not found')
        self._monitor(identity, self._places[identity], mode, f"-{option} {text}")

    def _monitor(self, label: str, place: Character, mode: str, origin: str) -> None:
        if mode not in ("control", "readline"):
            raise CommandLineError(f"Invalid monitor mode '{mode}'")
        self.found.append((label, Door(place, self._qmp if mode == "control" else self._hmp, origin)))

    def _qtest(self) -> _QtestSession:
        return _QtestSession(QtestServer(self._machine_host.machine, self.accelerated), self._log)

    def _qmp(self) -> QmpSession:
        return QmpSession(self._machine_host)

    def _hmp(self) -> MonitorSession:
        return MonitorSession(self._machine_host)

    @property
    def _machine_host(self) -> Host:
        if self.host is None:
            raise CommandLineError("a session began before there was a machine")
        return self.host


class _QtestSession:
    # qtest has no greeting; what passes is logged as QEMU logs it.

    def __init__(self, server: QtestServer, log: TextIO | None) -> None:
        self._server = server
        self._log = log
        self._start = time.monotonic()
        self.feed = server.feed if log is None else self._logged
        self.take = server.take

    def greeting(self) -> bytes:
        return b""

    def close(self) -> None:
        self._server.interception.forget()

    def _logged(self, data: bytes) -> bytes:
        answer = self._server.feed(data)
        for mark, text in (("R", data), ("S", answer)):
            for line in text.decode("ascii", "backslashreplace").splitlines():
                if self._log is not None:
                    self._log.write(f"[{mark} +{time.monotonic() - self._start:f}] {line}\n")
        if self._log is not None:
            self._log.flush()
        return answer


def _log_file(name: str | None) -> TextIO | None:
    if name in ("none", "/dev/null"):
        return None
    if name is None or name == "/dev/fd/2":
        return sys.stderr
    try:
        return open(name, "w", encoding="utf-8")
    except OSError as error:
        raise CommandLineError(f"-qtest-log {name}: {error.strerror}") from None


def _place(option: str, text: str) -> Character:
    return _told(f"-{option} {text}", text, parse_character)


def _told(origin: str, given: G, act: Callable[[G], T]) -> T:
    # What goes wrong is blamed on the option that asked for it.
    try:
        return act(given)
    except (CommandLineError, OptionError) as error:
        raise CommandLineError(f"{origin}: {error}") from None
