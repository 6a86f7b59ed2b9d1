"""What an independent walker found in a recorded image, in the words of the commands."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

from tests.conftest import FIXTURES

__all__ = ["FIXED", "VARIANTS", "Truth"]

FIXED = ("a-legacy-strict", "c-scalable", "i-firststage-k72", "t-vfio-superpages")
VARIANTS = (*FIXED, "f-intremap", "h-fault", "x-tracecmd")


class Truth:
    """The truth of one recording: `spaces` by (device, PASID), `interrupts`, and where the files are."""

    def __init__(self, image: Path, registers: Path, document: dict[str, Any]) -> None:
        self.image = image
        self.registers = registers
        self.document = document
        self.spaces = {(one["bdf"], one["pasid"]): self._space(one) for one in document["attachments"]}
        self.interrupts = (document["irt"] or {"irtes": []})["irtes"]

    @classmethod
    def fixture(cls, variant: str) -> Truth:
        """A recording that is part of the project."""
        folder = FIXTURES / "images" / variant
        with gzip.open(folder / "truth.json.gz", "rt") as file:
            return cls(folder / "image.elf.gz", folder / "registers.json", json.load(file))

    @classmethod
    def recording(cls, corpus: Path, variant: str) -> Truth:
        """One of the large recordings."""
        folder = corpus / variant
        return cls(folder / "image.elf", folder / "registers.json", json.loads((folder / "truth.json").read_text()))

    def _space(self, attachment: dict[str, Any]) -> dict[str, Any]:
        table = self.document["tables"][attachment["table"]]
        sizes = Counter(int(row[2], 16) for row in table["maps"])
        return {
            "domain_id": attachment["did"],
            "translation": f"{table['stage']}-stage",
            "levels": table["levels"],
            "table": table["root"],
            "pages": {str(size): number for size, number in sizes.items()},
            "coverage": {page for row in table["maps"] for page in self._pages(*row[:4])},
        }

    @staticmethod
    def _pages(iova: str, gpa: str, size: str, permissions: str) -> list[tuple[int, int, str, bool]]:
        access = permissions.replace("U", "").replace("-", "").lower() or "-"
        start, target = int(iova, 16), int(gpa, 16)
        steps = range(0, int(size, 16), 4096)
        return [(start + step, target + step, access, "U" in permissions) for step in steps]
