"""What a command line of QEMU asks for: its options, and which of them mean something here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

__all__ = ["CommandLineError", "Invocation", "on_off", "parse_arguments"]


class CommandLineError(Exception):
    """What is wrong with the command line, in QEMU's words: printed behind the program's name, status 1."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Options with an argument that name what is not here, or what nothing here looks at: a processor, firmware, sound.
_IGNORED = _words(
    """audio audiodev bios boot compat cpu d D display k L mem-path msg name overcommit parallel
    rtc sandbox seed serial smbios spice uuid vga vnc watchdog-action fw_cfg acpitable numa action"""
)
# Options that ask for a device or for code: there is none, and who asks should hear of it.
_MISSING = _words(
    """append blockdev cdrom dtb drive fda fdb fsdev hda hdb hdc hdd incoming initrd kernel loadvm mtdblock net netdev
    nic option-rom pflash plugin readconfig sd tpmdev usbdevice virtfs"""
)
_FLAGS = _words(
    """nodefaults no-user-config nographic s snapshot no-reboot no-shutdown no-fd-bootchk no-hpet no-acpi
    only-migratable preconfig singlestep full-screen usb win2k-hack S"""
)
_REFUSED = {
    "daemonize": "this program stays in the foreground",
    "enable-kvm": "there is no processor here; use -accel qtest or -accel tcg",
}
_REPEATED = _words("accel device machine M chardev mon object qtest qmp qmp-pretty monitor trace global")
_SINGLE = _words("m smp qtest-log run-with icount pidfile")
_ASK = {"version": "version", "h": "help", "help": "help"}
_QUIET_NETWORKS = ("none",)


@dataclass(slots=True)
class Invocation:
    """Options by name with their arguments, in the order in which they came; `warnings` are for stderr."""

    given: list[tuple[str, str]] = field(default_factory=list)
    flags: set[str] = field(default_factory=set)
    ask: str | None = None
    warnings: list[str] = field(default_factory=list)

    def all(self, *names: str) -> list[str]:
        """The arguments of every option of that name."""
        return [value for name, value in self.given if name in names]

    def last(self, *names: str) -> str | None:
        """The argument of the last one, None if there was none."""
        found = self.all(*names)
        return found[-1] if found else None


def parse_arguments(arguments: Sequence[str]) -> Invocation:
    """The options of a command line; CommandLineError at the first that QEMU would not take."""
    found, rest = Invocation(), list(arguments)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-") or word == "-":
            raise CommandLineError(f"{word}: Could not open '{word}': this machine has no disks")
        _take(found, word, word.removeprefix("-").removeprefix("-") or word, rest)
    return found


def _take(found: Invocation, word: str, name: str, rest: list[str]) -> None:
    if name in _ASK:
        found.ask = found.ask or _ASK[name]
    elif name in _FLAGS:
        found.flags.add(name)
    elif name in _REFUSED:
        raise CommandLineError(f"{word}: {_REFUSED[name]}")
    elif name in _IGNORED or name in _MISSING or name in _REPEATED or name in _SINGLE:
        if not rest:
            raise CommandLineError(f"{word}: requires an argument")
        value = rest.pop(0)
        found.given.append((name, value))
        if name in _MISSING and value not in _QUIET_NETWORKS:
            found.warnings.append(f"{word} {value}: warning: there is nothing here that it could be for")
    else:
        raise CommandLineError(f"{word}: invalid option")


def on_off(options: Mapping[str, str], name: str, default: bool) -> bool:
    """The switch `name` among parsed options; CommandLineError if it is neither on nor off."""
    text = options.get(name)
    if text is None:
        return default
    if text not in ("on", "off", "yes", "no", "true", "false"):
        raise CommandLineError(f"Parameter '{name}' expects 'on' or 'off'")
    return text in ("on", "yes", "true")
