"""The monitor: QEMU's commands for people, with `info iommu` and `walk` besides.

    monitor = Monitor(host)
    print(monitor.execute("info pci"), end="")

It serves `human-monitor-command`, `-monitor stdio` and `vtd run --monitor` alike.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from device_models.fronts.expressions import evaluate
from device_models.fronts.host import Host
from device_models.fronts.memory_dump import DumpFormat, dump_lines
from device_models.fronts.monitor_info import INFO
from device_models.fronts.unit_lines import walk_lines
from device_models.options import OptionError
from pagetables.address import parse_number, parse_source_id
from pagetables.errors import InputError, VtdError, near

__all__ = ["Monitor", "MonitorSession"]

Lines = Iterable[str]


@dataclass(frozen=True, slots=True)
class _Command:
    usage: str
    explains: str
    run: Callable[[Monitor, str], Lines]


class Monitor:
    """Commands on one host. `execute` never raises for what was typed: what is wrong is told in the answer."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._format = DumpFormat()

    def execute(self, line: str) -> str:
        """The answer to a line: whole lines, or nothing."""
        name, _, rest = line.strip().partition(" ")
        name, slash, option = name.partition("/")
        if not name:
            return ""
        command = _COMMANDS.get(_ALIASES.get(name, name))
        if command is None:
            return f"unknown command: '{line.strip()}'{_near(name, _COMMANDS)}\n"
        text = f"{slash}{option} {rest}" if slash else rest
        return "".join(f"{one}\n" for one in self._answer(name, command, text.strip()))

    def _answer(self, name: str, command: _Command, text: str) -> Lines:
        try:
            return list(command.run(self, text))
        except OptionError as error:
            return [f"Error: {error}"]
        except InputError as error:
            return [str(error), f'Try "help {name}" for more information']
        except VtdError as error:
            return [f"Error: {error}"]

    # -- commands -----------------------------------------------------------------------------------------------------

    def _help(self, text: str) -> Lines:
        names = text.split()
        if not names:
            return [f"{command.usage} -- {command.explains}" for command in _COMMANDS.values()]
        if names[0] == "info":
            wanted = [topic for topic in INFO.values() if names[1:] in ([], [topic.name])]
            return [f"info {topic.usage} -- {topic.explains}" for topic in wanted]
        command = _COMMANDS.get(_ALIASES.get(names[0], names[0]))
        return [f"{command.usage} -- {command.explains}" if command else f"unknown command: '{names[0]}'"]

    def _info(self, text: str) -> Lines:
        if not text:
            return self._help("info")
        name, _, rest = text.partition(" ")
        topic = INFO.get(name)
        if topic is None:
            return [f"unknown command: 'info {text}'{_near(name, INFO)}"]
        return topic.lines(self.host, rest.split())

    def _xp(self, text: str) -> Lines:
        option, address = "", text
        if text.startswith("/"):
            option, _, address = text[1:].partition(" ")
            self._format = self._format.changed(option)
        how = DumpFormat(self._format.count if option else 1, self._format.form, self._format.size)
        return dump_lines(self.host.machine.space, evaluate(address), how)

    def _device_add(self, text: str) -> Lines:
        if not text:
            raise OptionError("Parameter 'driver' is missing")
        self.host.machine.device_add(text)
        return []

    def _device_del(self, text: str) -> Lines:
        if not text:
            raise InputError("device_del: string expected")
        self.host.remove(text)
        return []

    def _qom_list(self, text: str) -> Lines:
        objects = self.host.machine.objects
        if not text:
            return ["/"]
        return [f"{found.name} ({found.type})" for found in objects.properties(text)]

    def _qom_get(self, text: str) -> Lines:
        path, _, name = text.partition(" ")
        return [json.dumps(self.host.machine.objects.get(path, name.strip()))]

    def _walk(self, text: str) -> Lines:
        words = text.split()
        if len(words) not in (2, 3):
            raise InputError("expected BDF IOVA [r|w|x]")
        access = words[2] if len(words) == 3 else "r"
        return walk_lines(self.host.machine, parse_source_id(words[0]), parse_number(words[1]), access)

    def _system_reset(self, text: str) -> Lines:
        self.host.reset()
        return []

    def _run(self, running: bool) -> Lines:
        self.host.run(running)
        return []

    def _quit(self, text: str) -> Lines:
        self.host.quit()
        return []


class MonitorSession:
    """A person's, or a program's, connection to a monitor: bytes in, answers and prompts out."""

    def __init__(self, host: Host, prompt: str = "(qemu) ") -> None:
        self.monitor = Monitor(host)
        self.prompt = prompt
        self._partial = b""

    def greeting(self) -> bytes:
        """What a client sees first."""
        version = self.monitor.host.version.text
        return f"QEMU {version} monitor - type 'help' for more information\r\n{self.prompt}".encode()

    def feed(self, data: bytes) -> bytes:
        """What to send after `data` arrived."""
        *lines, self._partial = (self._partial + data).split(b"\n")
        answers = []
        for line in lines:
            text = line.decode("utf-8", "replace").rstrip("\r")
            answers.append(self.monitor.execute(text).replace("\n", "\r\n"))
            if self.monitor.host.leaving:
                break
            answers.append(self.prompt)
        return "".join(answers).encode()

    def take(self) -> bytes:
        """Nothing comes unasked."""
        return b""

    def close(self) -> None:
        """The client left."""


def _near(name: str, known: Iterable[str]) -> str:
    found = near(name, list(known))
    return f"; {found}" if found.startswith("did you mean") else ""


_ALIASES = {"q": "quit", "?": "help", "c": "cont"}
_COMMANDS: dict[str, _Command] = {
    "help": _Command("help|? [cmd]", "show the help", Monitor._help),
    "info": _Command("info [subcommand]", "show various information about the system state", Monitor._info),
    "xp": _Command("xp /fmt addr", "physical memory dump starting at 'addr'", Monitor._xp),
    "walk": _Command("walk BDF IOVA [r|w|x]", "where an address of a device leads, step by step", Monitor._walk),
    "device_add": _Command(
        "device_add driver[,prop=value][,...]", "add device, like -device on the command line", Monitor._device_add
    ),
    "device_del": _Command("device_del device", "remove device", Monitor._device_del),
    "qom-list": _Command("qom-list path", "list QOM properties", Monitor._qom_list),
    "qom-get": _Command("qom-get path property", "print QOM property", Monitor._qom_get),
    "stop": _Command("stop|s", "stop emulation", lambda monitor, text: monitor._run(False)),
    "cont": _Command("cont|c", "resume emulation", lambda monitor, text: monitor._run(True)),
    "system_reset": _Command("system_reset", "reset the system", Monitor._system_reset),
    "quit": _Command("quit|q", "quit the emulator", Monitor._quit),
}
