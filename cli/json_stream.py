"""One JSON document on stdout, of which lists may be made while they are written."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

__all__ = ["emit_stream", "write_json"]

CHUNK = 4096  # elements of a list at a time


def emit_stream(document: Any) -> None:
    """Print one JSON document on stdout as `emit_json` does; iterators in it are lists."""
    write_json(document, sys.stdout.write, 2 if sys.stdout.isatty() else None)
    sys.stdout.write("\n")


def write_json(document: Any, write: Callable[[str], object], indent: int | None = None, depth: int = 0) -> None:
    """Write `document` as `json.dumps` would, through `write`, piece by piece; iterators are lists."""
    if isinstance(document, dict) and document:
        _write_dict(document, write, indent, depth)
    elif isinstance(document, list) and document and not _is_plain(document):
        _write_list(iter(document), write, indent, depth)
    elif isinstance(document, Iterator):
        _write_list(document, write, indent, depth)
    else:
        write(_dumped(document, indent, depth))


def _is_plain(document: Any) -> bool:
    if isinstance(document, dict):
        return all(map(_is_plain, document.values()))
    return all(map(_is_plain, document)) if isinstance(document, list) else not isinstance(document, Iterator)


def _dumped(document: Any, indent: int | None, depth: int) -> str:
    text = json.dumps(document, indent=indent, allow_nan=False)
    return text if indent is None else text.replace("\n", "\n" + " " * (indent * depth))


def _write_dict(document: dict[str, Any], write: Callable[[str], object], indent: int | None, depth: int) -> None:
    before = "{" + _margin(indent, depth + 1)
    for key, value in document.items():
        write(f"{before}{json.dumps(key)}: ")
        write_json(value, write, indent, depth + 1)
        before = _between(indent, depth + 1)
    write(_margin(indent, depth) + "}")


def _write_list(elements: Iterator[Any], write: Callable[[str], object], indent: int | None, depth: int) -> None:
    before = "[" + _margin(indent, depth + 1)
    count = 0
    while chunk := list(islice(elements, CHUNK)):
        count += len(chunk)
        if _is_plain(chunk) and indent is None:
            write(before + json.dumps(chunk, allow_nan=False)[1:-1])
            before = _between(indent, depth + 1)
            continue
        for element in chunk:
            write(before)
            write_json(element, write, indent, depth + 1)
            before = _between(indent, depth + 1)
    write(_margin(indent, depth) + "]" if count else "[]")


def _margin(indent: int | None, depth: int) -> str:
    return "" if indent is None else "\n" + " " * (indent * depth)


def _between(indent: int | None, depth: int) -> str:
    return ", " if indent is None else "," + _margin(indent, depth)
