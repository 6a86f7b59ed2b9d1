"""One module a command, loaded when it is asked for: `convert-trace` is `convert_trace.py`, its attribute `command`.

A command's callback returns its exit status (None is 0). What does the work is imported inside the callback. The page
that `vtd --help` prints stands here, by what people come with, and not in the modules: so it need not load them.
"""

from __future__ import annotations

__all__ = ["GROUPS"]

GROUPS = {
    "A trace of DMA operations": {
        "replay": "Run it on one system: tables, page supply, invalidations.",
        "compare": "Run it on many systems, and put them side by side.",
        "presets": "The systems that have a name, each with its source.",
        "size": "How much memory each page supply takes, for which burst.",
        "record": "The commands that record one on a target machine.",
        "generate": "Write a synthetic one with the shape of a real driver's.",
        "convert-trace": "Write it in another format.",
    },
    "The memory of a machine, or its tables": {
        "inspect": "Everything that the tables map, for each device.",
        "walk": "Where one address leads, entry by entry.",
        "explain": "Why a DMA was refused, from the kernel's fault line.",
        "audit": "What each device can reach, and 41 rules over it.",
        "diff": "What changed between two of them.",
        "explore": "Browse the tables in a terminal.",
        "convert": "Write it in another container, or the tables alone.",
        "decode": "What the bits of an entry, descriptor or register mean.",
        "dmar": "What an ACPI DMAR table says, and what is wrong with it.",
    },
    "A machine to build": {
        "run": "Build it from YAML, and look at it through a monitor.",
        "caches": "What a unit has cached, and which entries are stale.",
        "devices": "The devices that it can have, and their properties.",
        "profiles": "The units that it can have, field by field.",
    },
    "This emulator": {"bench": "Its speed, as a ratio to bare C on the same tables."},
}
"""Title of each group -> its commands -> what each does, in a line; every module of this package is in one of them."""
