"""Capability words of real models, as questions and answers."""

from __future__ import annotations

import dataclasses

import pytest

from pagetables.capabilities import Capabilities
from pagetables.layouts.registers import Capability, ExtendedCapability


def capabilities(cap: int, ecap: int, haw: int = 52) -> Capabilities:
    return Capabilities(Capability(cap), ExtendedCapability(ecap), haw)


# Read from QEMU over qtest: version and options beside each.
QEMU_7_2 = capabilities(0x00D2_008C_2226_0206, 0x0000_0000_00F0_0F4A, haw=39)  # 7.2.22, no option
QEMU_7_2_SCALABLE = capabilities(0x00D2_008C_222F_0606, 0x0000_4800_80F0_0F4A, haw=48)  # x-scalable-mode=on,aw-bits=48
QEMU_11_1_FIRST_STAGE = capabilities(0x81D2_008C_222F_0606, 0x0000_8800_00F0_0F4A, haw=48)  # scalable-mode, fsts
QEMU_11_1_PASID = capabilities(0x81D2_008C_222F_0686, 0x0000_8D3A_20F0_0FCE)  # fsts, pasid-bits=8, svm, everything
QEMU_11_1_20_BITS = capabilities(0x80D2_008C_222F_0606, 0x0000_4998_80F0_0F4A)  # scalable-mode=on,pasid-bits=20


def test_a_39_bit_unit_walks_three_levels() -> None:
    assert QEMU_7_2.mgaw == 39
    assert QEMU_7_2.second_stage_levels == {3}
    assert QEMU_7_2.address_limit == 1 << 39


def test_a_48_bit_unit_walks_three_or_four_levels() -> None:
    assert QEMU_7_2_SCALABLE.mgaw == 48
    assert QEMU_7_2_SCALABLE.second_stage_levels == {3, 4}


def test_five_levels_are_bit_3_of_sagaw() -> None:
    assert capabilities(0b01000 << 8, 0).second_stage_levels == {5}
    assert capabilities(0b10001 << 8, 0).second_stage_levels == frozenset()  # bits 0 and 4 are reserved


@pytest.mark.parametrize("sslps, levels", [(0, {1}), (1, {1, 2}), (3, {1, 2, 3})])
def test_second_stage_pages_follow_sslps(sslps: int, levels: set[int]) -> None:
    assert capabilities(sslps << 34, 0).second_stage_leaf_levels == levels


def test_qemu_maps_two_megabytes_and_one_gigabyte() -> None:
    assert QEMU_7_2.second_stage_leaf_levels == {1, 2, 3}


def test_first_stage_pages_of_one_gigabyte_need_fs1gp() -> None:
    assert QEMU_7_2_SCALABLE.first_stage_leaf_levels == {1, 2}
    assert QEMU_11_1_FIRST_STAGE.first_stage_leaf_levels == {1, 2, 3}


def test_first_stage_levels_need_fsts_and_fs5lp() -> None:
    assert QEMU_7_2_SCALABLE.first_stage_levels == frozenset()
    assert QEMU_11_1_FIRST_STAGE.first_stage_levels == {4}
    assert capabilities(1 << 60, 1 << 47).first_stage_levels == {4, 5}
    assert capabilities(1 << 60, 0).first_stage_levels == frozenset()


def test_pasid_width_is_zero_without_the_capability() -> None:
    assert QEMU_11_1_FIRST_STAGE.pasid_width == 0
    assert QEMU_11_1_PASID.pasid_width == 8
    assert QEMU_11_1_20_BITS.pasid_width == 20
    assert capabilities(0, 19 << 35).pasid_width == 0  # PSS alone says nothing


@pytest.mark.parametrize("nd, width", [(0, 4), (2, 8), (6, 16)])
def test_domain_ids_have_four_bits_and_two_for_each_nd(nd: int, width: int) -> None:
    assert capabilities(nd, 0).domain_id_width == width


def test_qemu_has_sixteen_bit_domain_ids() -> None:
    assert QEMU_7_2.domain_id_width == 16


def test_qemu_invalidates_up_to_one_gigabyte_at_once() -> None:
    assert QEMU_7_2.largest_address_mask == 18


def test_no_address_mask_is_accepted_without_psi() -> None:
    assert capabilities(18 << 48, 0).largest_address_mask is None


def test_qemu_places_one_fault_record_at_220h_and_iva_at_f0h() -> None:
    assert QEMU_7_2.fault_records == 1
    assert QEMU_7_2.fault_record_offset == 0x220
    assert QEMU_7_2.iotlb_offset == 0xF0


def test_capabilities_are_values() -> None:
    again = dataclasses.replace(QEMU_7_2)
    assert again == QEMU_7_2
    assert hash(again) == hash(QEMU_7_2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        again.haw = 48
