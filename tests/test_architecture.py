"""The house rules, checked: which way imports flow, what a file may grow to, what a wheel holds."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("pagetables", "emulator", "device_models", "cli")  # in the direction of imports: later may use earlier
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
C_SOURCES = sorted(
    path
    for pattern in ("*.c", "*.h")
    for path in (ROOT / "emulator").rglob(pattern)
    if path.name not in ("layout.h", "_core.c")
)


def module_name(path: Path) -> str:
    """The dotted name of a source file."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, wherever the import stands."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_imports_flow_one_way(path: Path) -> None:
    own = PACKAGES.index(module_name(path).split(".")[0])
    above = [name for name in imports(path) if name.split(".")[0] in PACKAGES[own + 1 :]]
    assert not above, f"{module_name(path)} imports upward: {above}"


@pytest.mark.parametrize("one, other", [("mapping", "unit"), ("unit", "mapping")])
def test_hardware_and_software_do_not_import_each_other(one: str, other: str) -> None:
    for path in (ROOT / "emulator" / one).rglob("*.py"):
        bad = [name for name in imports(path) if name.startswith(f"emulator.{other}")]
        assert not bad, f"{module_name(path)} imports {bad}: they meet only in bytes and MMIO"


def test_pagetables_needs_no_compiler() -> None:
    for path in (ROOT / "pagetables").rglob("*.py"):
        assert not {"cffi", "_cffi_backend"} & set(imports(path)), path


@pytest.mark.parametrize("path", SOURCES + C_SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_outgrows_its_room(path: Path) -> None:
    assert path.read_text().count("\n") <= 400


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_no_function_outgrows_a_screen(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < 60, f"{module_name(path)}.{node.name}"


@pytest.mark.parametrize("path", SOURCES + C_SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_left_for_later_or_tied_to_a_machine(path: Path) -> None:
    found = re.search(
        r"TODO|FIXME|XXX|raise Exception\b|except:\s|except Exception|import \*|/tmp/|/work/|/home/", path.read_text()
    )
    assert found is None, found


def public_modules() -> list[str]:
    """Every importable module of ours, but for the command line's entry point and the compiled core's build."""
    names = []
    for package in PACKAGES:
        root = importlib.import_module(package)
        names.append(package)
        names += [info.name for info in pkgutil.walk_packages(root.__path__, f"{package}.")]
    return [n for n in names if not n.endswith(("__main__", "._core")) and n != "emulator.core.build"]


@pytest.mark.parametrize("name", public_modules())
def test_what_a_module_exports_exists_and_is_documented(name: str) -> None:
    if name in ("emulator.native",) or ".native" in name:
        pytest.importorskip("emulator._core", reason="NOT RUN: the C core is not built")
    if name.startswith("cli.explorer."):
        pytest.importorskip("textual", reason="NOT RUN: pip install 'vtd-emulator[explore]'")
    module = importlib.import_module(name)
    assert module.__doc__, f"{name} has no docstring"
    for export in getattr(module, "__all__", ()):
        value = getattr(module, export)
        if isinstance(value, type) or inspect.isroutine(value):
            assert value.__doc__, f"{name}.{export} has no docstring"


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_public_names_are_in_all(path: Path) -> None:
    tree = ast.parse(path.read_text())
    defined = {
        node.name
        for node in tree.body
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_")
    }
    exported: set[str] = set()
    for node in tree.body:
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(t, ast.Name) and t.id == "__all__" for t in targets):
                exported = set(ast.literal_eval(node.value))  # type: ignore[arg-type]
    if path.parent.name == "commands":  # one click command a file, found by name
        return
    assert defined <= exported, f"{module_name(path)}: {sorted(defined - exported)} not in __all__"


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from cli.__main__ import main; assert main(['--help']) == 0;"
        "heavy = {'numpy', 'construct', 'rich', 'yaml', 'emulator', 'pagetables.layouts'} & set(sys.modules);"
        "sys.exit(f'vtd --help imports {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr


def test_wheel_holds_the_four_packages_and_nothing_else(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", tmp_path, ROOT],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == set(PACKAGES)
    assert not [name for name in names if name.endswith((".c", ".h", ".o"))]
    assert [name for name in names if name.endswith(".yaml")], "the profiles are missing"


def test_fixtures_stay_small() -> None:
    files = [path for path in (ROOT / "fixtures").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 2_000_000


def test_readme_commands_name_what_exists() -> None:
    text = (ROOT / "README.md").read_text()
    for name in re.findall(r"fixtures/[\w./-]+", text):
        assert (ROOT / name).exists(), f"README names {name}"
