"""`vtd-system-x86_64`: the program that stands in for QEMU. Programs that drive QEMU by qtest and QMP can start it.

It takes QEMU's command lines. `VTD_PROFILE` chooses the unit, and with it the version that `--version` tells and the
options that `-device intel-iommu` takes; without it that is QEMU 11.1's.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

__all__ = ["DEFAULT_PROFILE", "PROFILE_VARIABLE", "main"]

DEFAULT_PROFILE = "qemu-11.1"
PROFILE_VARIABLE = "VTD_PROFILE"
_PROGRAM = "vtd-system-x86_64"


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve the machine that the command line asks for (the process's own by default); returns the exit status."""
    from device_models.fronts.doors import stop_signals

    wake = stop_signals()  # first: whoever started this may end it before it is up
    from device_models.fronts.invocation import CommandLineError
    from device_models.fronts.standing_in import stand_in
    from pagetables.errors import VtdError

    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return stand_in(given, os.environ.get(PROFILE_VARIABLE) or DEFAULT_PROFILE, wake)
    except (CommandLineError, VtdError) as error:
        sys.stderr.write(f"{os.path.basename(sys.argv[0]) or _PROGRAM}: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
