"""Pages that need nothing but a browser: a template with its data inside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pagetables.images.saving import replacing

__all__ = ["write_template"]

PLACE = "@DATA@"


def write_template(path: str, template: Path, document: dict[str, Any]) -> None:
    """Write `template` with `document` as its data to `path`, whole or not at all."""
    page = template.read_text(encoding="utf-8").replace(PLACE, _embedded(document))
    with replacing(path) as file:
        file.write(page.encode("utf-8"))


def _embedded(document: dict[str, Any]) -> str:
    # Nothing in the data can end the element that holds it; lone surrogates of odd file names stay escaped.
    text = json.dumps(document, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
