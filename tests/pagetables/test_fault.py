"""Fault reasons against the table kept as data, and what a fault tells."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from pagetables.address import Gpa, Iova, SourceId
from pagetables.fault import Fault, FaultReason
from pagetables.layouts.registers import REGISTERS
from pagetables.request import Access, Request

with (Path(__file__).resolve().parents[2] / "fixtures" / "layouts" / "fault-codes.csv").open(newline="") as rows:
    TABLE = {int(row["code"], 16): row for row in csv.DictReader(rows)}

REQUEST = Request(SourceId(0x28), Iova(0xABCD_E000), Access.WRITE)


def test_the_codes_are_those_of_the_table() -> None:
    assert {int(reason) for reason in FaultReason} == set(TABLE)
    assert len(FaultReason.__members__) == len(TABLE)  # no code has two names


@pytest.mark.parametrize("code", TABLE, ids=hex)
def test_condition_meaning_and_qualification_are_those_of_the_table(code: int) -> None:
    reason, row = FaultReason(code), TABLE[code]
    assert reason.condition == row["name"]
    assert reason.meaning == row["condition"]
    assert reason.qualified == (row["qualified"] == "yes")


def test_a_reason_is_its_code() -> None:
    assert FaultReason.WRITE_DENIED == 5
    assert FaultReason(0x71) is FaultReason.FS_NOT_PRESENT
    assert f"{FaultReason.FS_NOT_PRESENT:#x}" == "0x71"


def test_a_code_that_is_not_assigned_has_no_reason() -> None:
    with pytest.raises(ValueError, match="255 is not a valid FaultReason"):
        FaultReason(0xFF)


def test_codes_fit_the_fault_record() -> None:
    assert max(FaultReason) <= REGISTERS["FRCD"].field("fr").limit
    assert REGISTERS["FRCD"].field("fr").values is FaultReason


def test_a_qualified_fault_is_silenced_where_processing_is_disabled() -> None:
    assert Fault(FaultReason.WRITE_DENIED, REQUEST).recorded
    assert not Fault(FaultReason.WRITE_DENIED, REQUEST, disabled=True).recorded


def test_an_unqualified_fault_is_recorded_whatever_is_disabled() -> None:
    assert Fault(FaultReason.ROOT_NOT_PRESENT, REQUEST, disabled=True).recorded


def test_a_fault_carries_the_request_as_it_came() -> None:
    fault = Fault(FaultReason.WRITE_DENIED, REQUEST, at=Gpa(0x9FF9_1800), level=1)
    assert fault.request is REQUEST
    assert (fault.at, fault.level) == (0x9FF9_1800, 1)
