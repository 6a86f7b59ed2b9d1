"""Which QEMU a profile stands for: its version, and how that is printed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import metadata

from emulator.profile import Profile, load_profile

__all__ = ["QemuVersion", "package_version"]

_NEWEST = "qemu-11.1"


@dataclass(frozen=True, slots=True)
class QemuVersion:
    """Major, minor and micro number."""

    major: int
    minor: int
    micro: int

    @classmethod
    def of(cls, profile: Profile) -> QemuVersion:
        """The version that the profile's words were read from; the newest one for units that are not QEMU's."""
        known = profile if profile.name.startswith("qemu-") else load_profile(_NEWEST)
        found = re.search(r"(\d+)\.(\d+)\.(\d+)", known.source) or re.search(r"(\d+)\.(\d+)()", known.name)
        numbers = ("0", "0", "0") if found is None else found.groups()
        return cls(*(int(part or 0) for part in numbers))

    @property
    def text(self) -> str:
        """`11.1.3`."""
        return f"{self.major}.{self.minor}.{self.micro}"

    @property
    def machine_type(self) -> str:
        """The versioned name of the q35 machine: `pc-q35-11.1`."""
        return f"pc-q35-{self.major}.{self.minor}"

    def json(self) -> dict[str, object]:
        """What QMP's greeting and `query-version` say."""
        numbers = {"micro": self.micro, "minor": self.minor, "major": self.major}
        return {"qemu": numbers, "package": package_version()}

    def line(self) -> str:
        """What `--version` prints first; programs read the number after `version`."""
        return f"QEMU emulator version {self.text} ({package_version()})"


def package_version() -> str:
    """`vtd-emulator` and its version."""
    try:
        return f"vtd-emulator {metadata.version('vtd-emulator')}"
    except metadata.PackageNotFoundError:
        return "vtd-emulator"
