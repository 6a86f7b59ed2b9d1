"""Pages that commands write: their data, what they refer to, and what a headless Chromium makes of them."""

from __future__ import annotations

import html
import html.parser
import json
import re
import subprocess
from pathlib import Path

from tests.required import need_program

_NAMESPACE = '"http://www.w3.org/2000/svg"'  # a name, not an address that is fetched


class _Elements(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def data_of(path: Path):
    """The numbers that a page draws."""
    return json.loads(
        _inside(path.read_bytes().decode("utf-8"), '<script type="application/json" id="data">', "script")
    )


def assert_needs_nothing_else(text: str) -> None:
    """Elements nest, and none of them makes a browser fetch anything."""
    parser = _Elements()
    parser.feed(text)
    assert parser.open == []
    assert len(parser.found) > 10
    for tag, attributes in parser.found:
        assert "src" not in attributes
        assert attributes.get("href", "data:,") == "data:,"
        assert tag not in ("iframe", "object", "embed", "base")
    calls = r"https?://|@import|url\(|fetch\(|XMLHttpRequest|import\("
    assert not re.search(calls, text.replace(_NAMESPACE, ""))


def browser() -> str:
    """Chromium's path."""
    return need_program("chromium", "chromium", "chromium-browser", "google-chrome", package="chromium")


def visited(url: str, profile: Path, *options: str):
    """What a script in the page left as JSON in an element `seen`; nothing may be said on the console."""
    command = [browser(), "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    command += [f"--user-data-dir={profile}", *options, "--dump-dom", url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert not re.findall(r".*CONSOLE.*", done.stderr)
    return json.loads(html.unescape(_inside(done.stdout, '<pre id="seen">', "pre")))


def _inside(text: str, opening: str, tag: str) -> str:
    found = re.search(f"{re.escape(opening)}(.*?)</{tag}>", text, re.DOTALL)
    assert found is not None, f"no {opening} in the page"
    return found[1]
