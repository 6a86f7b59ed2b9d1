"""A tree of text, printed line by line while it is made: a million lines cost no memory."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cli.render import console

__all__ = ["Node", "lines", "print_outline"]

TOGETHER = 1024  # lines written at once
_GUIDES = ("├── ", "└── ", "│   ", "    ")
_PLAIN_GUIDES = ("|-- ", "`-- ", "|   ", "    ")  # for a terminal that knows ASCII alone


@dataclass(frozen=True, slots=True)
class Node:
    """A line, how it looks on a terminal, and what stands below it; that may be made while it is printed."""

    text: str
    style: str = ""
    children: Iterable[Node] = ()


def lines(root: Node, guides: tuple[str, str, str, str] = _GUIDES) -> Iterator[tuple[str, str]]:
    """Each line of the tree under `root`, with its style."""
    yield root.text, root.style
    yield from _below(root.children, "", guides)


def _below(children: Iterable[Node], indent: str, guides: tuple[str, str, str, str]) -> Iterator[tuple[str, str]]:
    branch, last, through, empty = guides
    rest = iter(children)
    node = next(rest, None)
    while node is not None:
        following = next(rest, None)
        yield indent + (last if following is None else branch) + node.text, node.style
        yield from _below(node.children, indent + (empty if following is None else through), guides)
        node = following


def print_outline(root: Node) -> None:
    """Print the tree on stdout, styled on a terminal. Lines are never cut or wrapped."""
    guides = _GUIDES if (sys.stdout.encoding or "").lower().startswith("utf") else _PLAIN_GUIDES
    out = console()
    waiting: list[str] = []
    for text, style in lines(root, guides):
        if (style and out.is_terminal) or len(waiting) == TOGETHER:
            sys.stdout.write("".join(waiting))
            waiting.clear()
        if style and out.is_terminal:
            out.print(text, style=style, soft_wrap=True)
        else:
            waiting.append(text + "\n")
    sys.stdout.write("".join(waiting))
