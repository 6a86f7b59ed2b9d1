"""What was compared with QEMU in this run, for the summary."""

from __future__ import annotations

from collections import Counter

from tests.differential.scene import Scene

__all__ = ["COUNTS", "count"]

COUNTS: Counter[str] = Counter()


def count(scene: Scene, **more: int) -> None:
    """Add the operations of a scene, and what else it stands for."""
    names = {"read": "register reads", "write": "register writes", "push": "DMA", "pull": "DMA"}
    COUNTS.update(names[op[0]] for op in scene.ops if op[0] in names)
    COUNTS.update({name.replace("_", " "): number for name, number in more.items()})
