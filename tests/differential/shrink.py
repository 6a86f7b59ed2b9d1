"""The smallest scene that still differs: operations are left out as long as a difference of the same kind remains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tests.differential.scene import Op, Scene

TRIES = 400


def shrink(scene: Scene, differs: Callable[[Scene], bool], tries: int = TRIES) -> Scene:
    """`scene` with as few operations as can be found in so many tries (each a fresh machine)."""

    def still(ops: list[Op]) -> bool:
        return differs(replace(scene, ops=ops))

    ops, left = scene.ops, tries
    size = max(len(ops) // 2, 1)
    while left > 0:
        start, smaller = 0, False
        while start < len(ops) and left > 0:
            fewer = ops[:start] + ops[start + size :]
            left -= 1
            if fewer and still(fewer):
                ops, smaller = fewer, True
            else:
                start += size
        if size == 1 and not smaller:
            break
        size = max(size // 2, 1)
    return replace(scene, ops=ops)
