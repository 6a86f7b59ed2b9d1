"""What the documents show is what happens."""

from __future__ import annotations

import ast
import doctest
import importlib
import re
from pathlib import Path

import pytest

from emulator.axes import POLICIES, SUPPLIES
from pagetables.audit import RULES as AUDIT_RULES

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted((ROOT / "docs").rglob("*.md"))
LOBBY = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
COUNTED = {8: "eight", 9: "nine", 10: "ten", 11: "eleven", 12: "twelve"}
WITH_EXAMPLES = [path for path in DOCUMENTS if ">>> " in path.read_text()]
MODULES = sorted(
    path
    for package in ("pagetables", "emulator", "device_models", "cli")
    for path in (ROOT / package).rglob("*.py")
    if re.search(r"^\s*>>> ", path.read_text(), re.MULTILINE)
)


def name_of(path: Path) -> str:
    """How a test of this file is called."""
    return str(path.relative_to(ROOT))


def python_blocks(path: Path) -> list[str]:
    """The Python programs in a document."""
    return re.findall(r"^```python\n(.*?)^```$", path.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=name_of)
def test_examples_of_a_document_print_what_they_say(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    failed, tried = doctest.testfile(str(path), module_relative=False, encoding="utf-8")
    assert tried
    assert not failed


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_examples_of_a_module_print_what_they_say(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"))
    failed, tried = doctest.testmod(module)
    assert tried
    assert not failed


@pytest.mark.parametrize("path", [path for path in DOCUMENTS if python_blocks(path)], ids=name_of)
def test_programs_of_a_document_compile_and_import_what_exists(path: Path) -> None:
    for program in python_blocks(path):
        tree = ast.parse(program)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module is not None:
                if node.module.startswith("drgn"):
                    pytest.importorskip("drgn", reason="NOT RUN: pip install drgn")
                module = importlib.import_module(node.module)
                assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


@pytest.mark.parametrize("path", [*DOCUMENTS, *LOBBY, ROOT / "fixtures" / "README.md"], ids=name_of)
def test_documents_point_at_what_exists(path: Path) -> None:
    text = path.read_text()
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        assert "://" in target or (path.parent / target).exists(), f"{name_of(path)} points at {target}"
    for name in re.findall(r"(?<!/)fixtures/[\w./-]*\w", text):
        assert (ROOT / name).exists(), f"{name_of(path)} names {name}"


def test_every_document_is_reached_from_the_readme() -> None:
    found, ahead = set(), {ROOT / "README.md"}
    while ahead:
        path = ahead.pop()
        found.add(path)
        targets = re.findall(r"\]\(([^)#:]+\.md)[^)]*\)", path.read_text())
        ahead |= {(path.parent / target).resolve() for target in targets} - found
    assert set(DOCUMENTS) <= found


def test_the_readme_counts_what_there_is() -> None:
    text = " ".join((ROOT / "README.md").read_text().split())
    assert f"and {len(AUDIT_RULES)} rules over it" in text
    assert (
        f"{COUNTED[len(POLICIES.names())]} invalidation policies, {COUNTED[len(SUPPLIES.names())]} page supplies"
        in text
    )


def test_screenshot_is_small() -> None:
    assert (ROOT / "docs" / "explore.svg").stat().st_size < 100_000
