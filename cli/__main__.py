"""The entry point: every way to fail ends in one line on stderr and an exit status, never in a traceback."""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]

INTERRUPTED = 130  # 128 + SIGINT, as a shell reports it


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `vtd` with `arguments` (the process's own by default); returns the exit status."""
    try:
        from cli.ending import Ended, ending_on_request  # inside, so that Ctrl-C while modules load is quiet, too

        with ending_on_request():
            from cli.application import run

            return run(sys.argv[1:] if arguments is None else list(arguments))
    except KeyboardInterrupt:
        sys.stderr.write("vtd: interrupted\n")
        return INTERRUPTED
    except Ended as ended:
        sys.stderr.write("vtd: terminated\n")
        return int(str(ended.code))


if __name__ == "__main__":
    sys.exit(main())
