"""Names of devices, from the text of lspci, of QEMU's `info pci`, or of sysfs attributes one device a line."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from pagetables.address import SourceId, parse_source_id, source_id
from pagetables.errors import InputError

__all__ = ["device_names", "load_device_names"]

LONGEST_FILE = 16 << 20
LONGEST_NAME = 72
_LINE = re.compile(r"(?:([0-9a-f]{1,8}):)?([0-9a-f]{1,2}:[0-9a-f]{2}\.[0-7])[\s,:]+(\S.*)", re.IGNORECASE)
_BUS = re.compile(r"\s*Bus\s+(\d+), device\s+(\d+), function\s+(\d+):\s*$")
_ATTRIBUTE = re.compile(r"(\w+)=(\S*)")
_CLASSES = {
    0x0100: "SCSI storage",
    0x0101: "IDE storage",
    0x0106: "SATA storage",
    0x0107: "SAS storage",
    0x0108: "NVMe storage",
    0x0200: "network",
    0x0300: "VGA display",
    0x0302: "3D display",
    0x0403: "audio",
    0x0600: "host bridge",
    0x0601: "ISA bridge",
    0x0604: "PCI bridge",
    0x0780: "communication",
    0x0880: "system",
    0x0C03: "USB controller",
    0x0C05: "SMBus",
}


def load_device_names(path: str | os.PathLike[str]) -> dict[SourceId, str]:
    """The names in the file at `path`; InputError where it names no device."""
    name = os.fspath(path)
    with open(name, "rb") as file:
        text = file.read(LONGEST_FILE).decode("utf-8", "replace")
    if not (found := device_names(text)):
        raise InputError(f"{name}: names no device; expected the text of lspci, of QEMU's `info pci`, or pci.txt")
    return found


def device_names(text: str) -> dict[SourceId, str]:
    """Source-id to name, for the devices of segment 0 that `text` names. Lines that name none are passed over."""
    return {source: _printable(name) for source, name in _named(text)}


def _named(text: str) -> Iterator[tuple[SourceId, str]]:
    place: SourceId | None = None  # of the device that `info pci` is describing
    name = ""
    for line in text.splitlines():
        if match := _BUS.match(line):
            place, name = _place(*map(int, match.groups())), ""
        elif place is not None and "PCI device" in line:
            name = line.strip()
            yield place, name
        elif place is not None and (own := line.strip()).startswith('id "') and len(own) > len('id ""'):
            yield place, f"{own[4:-1]} ({name})"
        elif (match := _LINE.match(line)) and not int(match[1] or "0", 16):
            yield parse_source_id(match[2]), _described(match[3])


def _place(bus: int, device: int, function: int) -> SourceId | None:
    try:
        return source_id(bus, device, function)
    except InputError:
        return None


def _described(rest: str) -> str:
    known = dict(_ATTRIBUTE.findall(rest))
    if not {"vendor", "device"} <= known.keys():
        return rest
    ids = f"{known['vendor'].removeprefix('0x')}:{known['device'].removeprefix('0x')}"
    try:
        kind = _CLASSES.get(int(known.get("class", "0"), 16) >> 8, "")
    except ValueError:
        kind = ""
    return " ".join(part for part in (kind, f"[{ids}]", known.get("driver", "")) if part)


def _printable(name: str) -> str:
    # The text may come from a hostile guest: nothing in it reaches a terminal as a control sequence.
    shown = "".join(letter if letter.isprintable() else "?" for letter in name)
    return shown if len(shown) <= LONGEST_NAME else shown[: LONGEST_NAME - 1] + "…"
