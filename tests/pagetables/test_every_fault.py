"""Every fault reason there is: raised here on both engines, from RTADDR down, or by the test that is named here, or not
modelled, and then why.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emulator.engine import Engine
from pagetables.fault import Fault, FaultReason
from pagetables.request import Request
from pagetables.source import lookup
from tests.builders import (
    GIB,
    SID,
    LegacyRoot,
    ScalableRoot,
    Scene,
    Tables,
    capabilities,
    execute,
    first_stage_pasid,
    read,
    second_stage_pasid,
    translated_request,
    write,
)

R = FaultReason
PLAIN = read(0x1000)
A, RESERVED = 0x20, 1 << 62

Case = tuple[Scene, int, Request]  # the scene, RTADDR, and the request that faults


def raw(rtaddr: int, request: Request = PLAIN, **caps: int) -> Case:
    """A root table address and nothing else."""
    return Scene(capabilities(**caps)), rtaddr, request


def legacy(request: Request = PLAIN, change: Callable[[Tables, LegacyRoot], Any] | None = None, **how: int) -> Case:
    """SID on four levels that map 1000h read-only, with one thing changed."""
    scene = Scene()
    tables, root = scene.second_stage(), LegacyRoot(scene)
    tables.leaf(0x1000, gpa=0x5000, permissions="r")
    root.attach(SID, **{"table": tables.root, **how})
    if change is not None:
        change(tables, root)
    return scene, root.rtaddr, request


def scalable(
    request: Request = PLAIN,
    change: Callable[[Tables, ScalableRoot], Any] | None = None,
    first: bool = False,
    fields: tuple[int, int, int] = (0, 0, 0),
    snoop: bool = True,
    fixed: bool = False,
    **how: int,
) -> Case:
    """The same in scalable mode, by first- or second-stage tables; `fields` are set in the PASID entry's qwords."""
    scene = Scene(fixed=fixed)
    tables, root = scene.first_stage() if first else scene.second_stage(), ScalableRoot(scene)
    tables.leaf(0x1000, gpa=0x5000, permissions="r")
    root.context(SID, **{"pdts": 2, **how})
    entry = (*(first_stage_pasid if first else second_stage_pasid)(tables.root), 0)[:3]
    fields = (fields[0], fields[1] | snoop << 23, fields[2])
    root.attach(SID, 0, *(word | more for word, more in zip(entry, fields, strict=True)))
    if change is not None:
        change(tables, root)
    return scene, root.rtaddr, request


def nested(change: Callable[[Tables, Tables], Any], request: Request = PLAIN) -> Case:
    """First-stage tables at 1 GiB and above as a guest sees them; the page at 5000h stays where it is."""
    scene = Scene()
    first, second, root = scene.first_stage(offset=GIB), scene.second_stage(3), ScalableRoot(scene)
    first.leaf(0x1000, gpa=0x5000)
    for page in first.pages:
        second.leaf(page + GIB, gpa=page)
    second.leaf(0x5000, gpa=0x5000, permissions="r")
    root.context(SID, pdts=2)
    root.attach(SID, 0, second.root | 3 << 6 | 1 << 2 | 1, 7 | 1 << 23, first.root)
    change(first, second)
    return scene, root.rtaddr, request


def host(first: Tables, level: int) -> int:
    """The guest address of the first-stage table of `level` for 1000h."""
    return (first.entry(0x1000, level) & -0x1000) + GIB


OUTSIDE = Scene().size
TTM = 1 << 10
SSADE = (1 << 9, 0, 0)

CASES: dict[FaultReason, Callable[[], Case]] = {
    R.ROOT_NOT_PRESENT: lambda: raw(0x10000),
    R.CONTEXT_NOT_PRESENT: lambda: legacy(bits=0),
    R.CONTEXT_INVALID: lambda: legacy(table=OUTSIDE),
    R.ADDRESS_BEYOND_WIDTH: lambda: legacy(read(1 << 48)),
    R.WRITE_DENIED: lambda: legacy(write(0x1000)),
    R.READ_DENIED: lambda: legacy(read(0x2000)),
    R.SS_ENTRY_ACCESS: lambda: legacy(change=lambda t, _: t.put(0, 2, OUTSIDE | 3)),
    R.ROOT_ACCESS: lambda: raw(OUTSIDE),
    R.CONTEXT_ACCESS: lambda: legacy(change=lambda t, r: t.scene.store(r.root_entry(SID), OUTSIDE | 1)),
    R.ROOT_RESERVED: lambda: legacy(change=lambda t, r: t.scene.store(r.root_entry(SID), 1, 1)),
    R.CONTEXT_RESERVED: lambda: legacy(bits=0x11),
    R.SS_ENTRY_RESERVED: lambda: legacy(change=lambda t, _: t.change(0x1000, 1, set=RESERVED)),
    R.TRANSLATION_TYPE_BLOCKED: lambda: legacy(translated_request(0x1000)),
    R.OUTPUT_IN_INTERRUPT_RANGE: lambda: legacy(change=lambda t, _: t.leaf(0x1000, gpa=0xFEE0_0000)),
    R.TTM_INVALID: lambda: raw(2 << 10),
    R.PASID_IN_LEGACY_MODE: lambda: legacy(read(0x1000, pasid=1)),
    R.SM_ROOT_ACCESS: lambda: raw(OUTSIDE | TTM),
    R.SM_ROOT_NOT_PRESENT: lambda: raw(0x10000 | TTM),
    R.SM_ROOT_RESERVED: lambda: scalable(change=lambda t, r: t.scene.store(r.root_half(SID), 3)),
    R.SM_CONTEXT_ACCESS: lambda: scalable(change=lambda t, r: t.scene.store(r.root_half(SID), OUTSIDE | 1)),
    R.SM_CONTEXT_NOT_PRESENT: lambda: scalable(change=lambda t, r: t.scene.store(r.context_entry(SID), 0)),
    R.SM_CONTEXT_RESERVED: lambda: scalable(change=lambda t, r: t.scene.store(r.context_entry(SID), 0x21)),
    R.SM_CONTEXT_INVALID: lambda: _without(scalable(bits=4), dt=0),
    R.DEVICE_TLB_DISABLED: lambda: scalable(translated_request(0x1000)),
    R.PASID_DISABLED: lambda: scalable(read(0x1000, pasid=0)),
    R.PASID_BEYOND_DIRECTORY: lambda: scalable(read(0x1000, pasid=1 << 15), bits=8),
    R.RID_PASID_BEYOND_DIRECTORY: lambda: scalable(rid_pasid=1 << 15),
    R.PASID_DIRECTORY_ACCESS: lambda: scalable(change=lambda t, r: t.scene.store(r.context_entry(SID), OUTSIDE | 1)),
    R.PASID_DIRECTORY_NOT_PRESENT: lambda: scalable(change=lambda t, r: t.scene.store(r.directory_entry(SID, 0), 0)),
    R.PASID_DIRECTORY_RESERVED: lambda: scalable(change=lambda t, r: t.scene.store(r.directory_entry(SID, 0), 5)),
    R.PASID_ENTRY_ACCESS: lambda: scalable(change=lambda t, r: t.scene.store(r.directory_entry(SID, 0), OUTSIDE | 1)),
    R.PASID_ENTRY_NOT_PRESENT: lambda: scalable(change=lambda t, r: r.attach(SID, 0, 0)),
    R.PASID_ENTRY_RESERVED: lambda: scalable(fields=(1 << 10, 0, 0)),
    R.PASID_ENTRY_INVALID: lambda: scalable(change=lambda t, r: r.attach(SID, 0, 1)),
    R.EXECUTE_REQUEST_DISABLED: lambda: scalable(execute(0x1000)),
    R.SUPERVISOR_REQUEST_DISABLED: lambda: scalable(read(0x1000, privileged=True)),
    R.FS_ENTRY_ACCESS: lambda: scalable(first=True, change=lambda t, _: t.put(0, 2, OUTSIDE | 0x27)),
    R.FS_NOT_PRESENT: lambda: scalable(read(0x2000), first=True),
    R.FS_RESERVED: lambda: scalable(first=True, change=lambda t, _: t.change(0, 4, set=0x80)),
    R.FS_ROOT_ACCESS: lambda: scalable(first=True, change=lambda t, r: r.attach(SID, 0, *first_stage_pasid(OUTSIDE))),
    R.FS_TABLE_BEYOND_WIDTH: lambda: nested(lambda f, _: f.put(0, 2, 1 << 39 | 0x27)),
    R.FS_ROOT_READ_DENIED: lambda: nested(lambda f, s: s.change(host(f, 4), 1, clear=1)),
    R.FS_TABLE_READ_DENIED: lambda: nested(lambda f, s: s.change(host(f, 1), 1, clear=1)),
    R.FS_UPDATE_DENIED: lambda: nested(lambda f, s: (f.change(0x1000, 1, clear=A), s.change(host(f, 1), 1, clear=2))),
    R.SM_SS_ENTRY_ACCESS: lambda: scalable(change=lambda t, _: t.put(0, 2, OUTSIDE | 3)),
    R.SM_SS_NOT_PRESENT: lambda: scalable(read(0x2000)),
    R.SM_SS_RESERVED: lambda: scalable(change=lambda t, _: t.change(0x1000, 1, set=RESERVED)),
    R.SM_SS_ROOT_ACCESS: lambda: scalable(change=lambda t, r: r.attach(SID, 0, *second_stage_pasid(OUTSIDE))),
    R.SS_UPDATE_NOT_SNOOPED: lambda: scalable(fields=SSADE, snoop=False),
    R.SS_UPDATE_FAILED: lambda: scalable(fields=SSADE, fixed=True),
    R.NOT_CANONICAL: lambda: scalable(read(1 << 47), first=True),
    R.USER_DENIED: lambda: scalable(first=True, change=lambda t, _: t.change(0x1000, 1, clear=4)),
    R.EXECUTE_DENIED: lambda: scalable(
        execute(0x1000),
        first=True,
        fields=(0, 0, 1 << 1 | 1 << 5),
        change=lambda t, _: t.change(0x1000, 1, set=1 << 63),
    ),
    R.SM_ADDRESS_BEYOND_HAW: lambda: scalable(read(1 << 46), change=lambda t, r: r.attach(SID, 0, 4 << 6 | 1, 7)),
    R.SM_ADDRESS_BEYOND_WIDTH: lambda: scalable(read(1 << 48)),
    R.SM_WRITE_DENIED: lambda: scalable(write(0x1000)),
    R.SM_READ_DENIED: lambda: scalable(change=lambda t, _: t.leaf(0x1000, gpa=0x5000, permissions="w")),
    R.SM_OUTPUT_IN_INTERRUPT_RANGE: lambda: scalable(change=lambda t, _: t.leaf(0x1000, gpa=0xFEE0_0000)),
    R.FS_UPDATE_NOT_SNOOPED: lambda: scalable(
        first=True, snoop=False, change=lambda t, _: t.change(0x1000, 1, clear=A)
    ),
    R.FS_UPDATE_FAILED: lambda: scalable(first=True, fixed=True, change=lambda t, _: t.change(0x1000, 1, clear=A)),
}

# What no lookup or walk ends in: the file and the test that raise it.
INTERRUPTS, PAGE_REQUESTS = "emulator/test_unit_interrupts.py", "emulator/test_unit_page_requests.py"
RECORDED = "test_every_fault_is_recorded_with_index_source_and_nothing_else"
ELSEWHERE: dict[FaultReason, tuple[str, str]] = {
    R.IR_REQUEST_RESERVED: (INTERRUPTS, RECORDED),
    R.IR_INDEX_BEYOND_TABLE: (INTERRUPTS, RECORDED),
    R.IR_NOT_PRESENT: (INTERRUPTS, RECORDED),
    R.IR_TABLE_ACCESS: (INTERRUPTS, RECORDED),
    R.IR_RESERVED: (INTERRUPTS, RECORDED),
    R.IR_COMPATIBILITY_BLOCKED: (INTERRUPTS, RECORDED),
    R.IR_SOURCE_INVALID: (INTERRUPTS, RECORDED),
    R.IR_POSTED_ACCESS: (INTERRUPTS, RECORDED),
    R.IR_POSTED_RESERVED: (INTERRUPTS, RECORDED),
    R.IR_NOT_AN_INTERRUPT: (INTERRUPTS, RECORDED),
    R.PAGE_REQUEST_IN_LEGACY_MODE: (PAGE_REQUESTS, "test_fault_32_page_request_in_legacy_mode"),
    R.PAGE_REQUEST_DISABLED: (PAGE_REQUESTS, "test_fault_47_page_request_where_they_are_disabled"),
}

NOT_MODELLED: dict[FaultReason, str] = {
    R.RTA_4: "one source has its name, and none says when it is raised",
    R.SGN_9: "one source has its name, and none says when it is raised",
    R.SGN_10: "one source has its name, and none says when it is raised",
}
TESTS = Path(__file__).parent.parent


def _without(case: Case, **caps: int) -> Case:
    case[0].capabilities = capabilities(**caps)
    return case


@pytest.mark.parametrize("reason", CASES, ids=lambda reason: f"{reason:02x}h-{reason.name.lower()}")
def test_fault(engine: Engine, reason: FaultReason) -> None:
    scene, rtaddr, request = CASES[reason]()
    outcome: Any = lookup(scene.memory, rtaddr, request, scene.capabilities).outcome
    if not isinstance(outcome, Fault):
        outcome = scene.walk(engine, outcome, request)
    assert isinstance(outcome, Fault)
    assert (outcome.reason, outcome.request) == (reason, request)


@pytest.mark.parametrize("make", [legacy, scalable, lambda: scalable(first=True), lambda: nested(lambda f, s: None)])
def test_the_scenes_translate_before_anything_is_changed(engine: Engine, make: Callable[[], Case]) -> None:
    scene, rtaddr, request = make()
    source = lookup(scene.memory, rtaddr, request, scene.capabilities).outcome
    assert scene.walk(engine, source, request).gpa == 0x5000


def test_every_reason_is_raised_by_a_test_or_stands_in_the_list_of_those_not_modelled() -> None:
    assert len(CASES) + len(ELSEWHERE) + len(NOT_MODELLED) == len(R)
    assert {*CASES, *ELSEWHERE, *NOT_MODELLED} == set(R)


@pytest.mark.parametrize("reason", ELSEWHERE, ids=lambda reason: f"{reason:02x}h")
def test_the_test_named_for_a_reason_is_there_and_knows_its_code(reason: FaultReason) -> None:
    file, name = ELSEWHERE[reason]
    text = (TESTS / file).read_text(encoding="utf-8")
    assert f"def {name}(" in text
    assert f"0x{reason:02x}" in text


def test_only_reasons_whose_condition_no_source_knows_are_not_modelled() -> None:
    assert all("condition not known" in reason.meaning for reason in NOT_MODELLED)
    readme = (TESTS.parent / "README.md").read_text(encoding="utf-8")
    (row,) = [line for line in readme.splitlines() if line.startswith("| fault reasons")]
    assert re.findall(r"\b[0-9A-F]{2}h\b", row) == [f"{reason:02X}h" for reason in NOT_MODELLED]
