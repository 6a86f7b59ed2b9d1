"""What changed between two images, or between an image and the end of a trace.

runs         mappings against mappings                sides    what is compared: spaces, registers, interrupts
difference   the comparison
"""

from pagetables.diff.difference import Difference, InterruptChange, RegisterChange, SpaceChange, diff
from pagetables.diff.runs import Change, Run, compare
from pagetables.diff.sides import Side, SpaceState, image_side

__all__ = [
    "Change",
    "Difference",
    "InterruptChange",
    "RegisterChange",
    "Run",
    "Side",
    "SpaceChange",
    "SpaceState",
    "compare",
    "diff",
    "image_side",
]
