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


class _Unknown(InputError):
    """A command or a topic that does not exist; the message is the whole answer."""


class Monitor:
    """Commands on one host. `execute` never raises for what was typed: what is wrong is told in the answer.

    `failed` says whether the last answer was such a complaint: for scripts, which nobody watches.
    """

    def __init__(self, host: Host) -> None:
        self.host = host
        self.failed = False

    def execute(self, line: str) -> str:
        """The answer to a line: whole lines, or nothing."""
        self.failed = False
        name, _, rest = line.strip().partition(" ")
        name, slash, option = name.partition("/")
        if not name:
            return ""
        text = f"{slash}{option} {rest}" if slash else rest
        try:
            command = _COMMANDS.get(_ALIASES.get(name, name))
            if command is None:
                raise _Unknown(f"unknown command: '{line.strip()}'{_near(name, _COMMANDS)}")
            _check_end(name, command.usage, text)
            answer = list(command.run(self, text.strip()))
        except VtdError as error:
            self.failed = True
            answer = _complaint(" ".join([name, *text.split()[:1]]) if name == "info" else name, error)
        return "".join(f"{one}\n" for one in answer)

    # -- commands -----------------------------------------------------------------------------------------------------

    def _help(self, text: str) -> Lines:
        names = text.split()
        if not names:
            return [f"{command.usage} -- {command.explains}" for command in _COMMANDS.values()]
        if names[0] == "info":
            wanted = [topic for topic in INFO.values() if names[1:] in ([], [topic.name])]
            return [f"info {topic.usage} -- {topic.explains}" for topic in wanted]
        command = _COMMANDS.get(_ALIASES.get(names[0], names[0]))
        if command is None:
            raise _Unknown(f"unknown command: '{names[0]}'")
        return [f"{command.usage} -- {command.explains}"]

    def _info(self, text: str) -> Lines:
        if not text:
            return self._help("info")
        name, _, rest = text.partition(" ")
        topic = INFO.get(name)
        if topic is None:
            raise _Unknown(f"unknown command: 'info {text}'{_near(name, INFO)}")
        _check_end(name, topic.usage, rest)
        return topic.lines(self.host, rest.split())

    def _xp(self, text: str) -> Lines:
        option, address = "", text
        if text.startswith("/"):
            option, _, address = text[1:].partition(" ")
            self.host.dump_format = self.host.dump_format.changed(option)
        last = self.host.dump_format
        how = DumpFormat(last.count if option else 1, last.form, last.size)
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

    def _pmemsave(self, text: str) -> Lines:
        words = text.split(None, 2)
        if len(words) < 3:
            raise InputError("expected ADDRESS SIZE FILE")
        self.host.save_memory(evaluate(words[0]), evaluate(words[1]), words[2].strip('"'))
        return []

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


def _complaint(name: str, error: VtdError) -> list[str]:
    if isinstance(error, _Unknown):
        return [str(error)]
    if isinstance(error, InputError) and not isinstance(error, OptionError):
        return [str(error), f'Try "help {name}" for more information']
    return [f"Error: {error}"]


def _check_end(name: str, usage: str, text: str) -> None:
    # What takes no arguments has a usage of one word.
    if text.strip() and " " not in usage:
        raise InputError(f"{name}: extraneous characters at the end of line")


def _near(name: str, known: Iterable[str]) -> str:
    found = near(name, list(known))
    return f"; {found}" if found.startswith("did you mean") else ""


_ALIASES = {"q": "quit", "?": "help", "c": "cont", "s": "stop"}
_COMMANDS: dict[str, _Command] = {
    "help": _Command("help|? [cmd]", "show the help", Monitor._help),
    "info": _Command("info [subcommand]", "show various information about the system state", Monitor._info),
    "xp": _Command("xp /fmt addr", "physical memory dump starting at 'addr'", Monitor._xp),
    "walk": _Command("walk BDF IOVA [r|w|x]", "where an address of a device leads, step by step", Monitor._walk),
    "device_add": _Command(
        "device_add driver[,prop=value][,...]", "add device, like -device on the command line", Monitor._device_add
    ),
    "device_del": _Command("device_del device", "remove device", Monitor._device_del),
    "pmemsave": _Command("pmemsave addr size file", "save physical memory to disk, raw", Monitor._pmemsave),
    "qom-list": _Command("qom-list path", "list QOM properties", Monitor._qom_list),
    "qom-get": _Command("qom-get path property", "print QOM property", Monitor._qom_get),
    "stop": _Command("stop|s", "stop emulation", lambda monitor, text: monitor._run(False)),
    "cont": _Command("cont|c", "resume emulation", lambda monitor, text: monitor._run(True)),
    "system_reset": _Command("system_reset", "reset the system", Monitor._system_reset),
    "quit": _Command("quit|q", "quit the emulator", Monitor._quit),
}
