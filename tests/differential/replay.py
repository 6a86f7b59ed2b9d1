"""Replays kept scenes: `python -m tests.differential.replay FILE...` prints where ours and QEMU's answers differ."""

from __future__ import annotations

import sys
from pathlib import Path

from emulator.engine import load_engine
from tests.differential.scene import Scene, differences
from tests.qemu import find_newer_qemu, find_qemu


def main(paths: list[str]) -> int:
    """1 if any scene differs."""
    bad = 0
    for path in paths:
        scene = Scene.from_json(Path(path).read_text())
        binary = find_qemu() if scene.version == "7.2" else find_newer_qemu()
        if binary is None:
            sys.stdout.write(f"{path}: there is no QEMU {scene.version} here\n")
            continue
        found = differences(scene, binary, load_engine("python"))
        bad += bool(found)
        sys.stdout.write(f"{path}: QEMU {scene.version} {scene.options}: {len(found)} differences\n")
        sys.stdout.writelines(f"  {one}\n" for one in found[:20])
    return int(bool(bad))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
