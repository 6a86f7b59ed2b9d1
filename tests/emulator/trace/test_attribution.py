"""Whose map is it: each piece of evidence by itself, and what happens without any."""

from __future__ import annotations

import pytest

from emulator.trace import NO_SOURCE, Kind, Trace, read_traces
from pagetables.address import parse_source_id
from pagetables.errors import InputError
from tests.traces import PAGE, Script, live_pages

NIC, DISK = "00:04.0", "00:03.0"
A = {"task": "dd-100", "cpu": 0}
B = {"task": "iogen-200", "cpu": 1}
IDLE = {"task": "<idle>-0", "cpu": 1}


def booted(*devices: str) -> Script:
    """A script in which init attached devices with domain-ids from 2 on."""
    script = Script()
    for did, device in enumerate(devices, 2):
        script.attach(device, did, task="init-1")
    return script


def spaces_by_row(trace: Trace, *kinds: Kind) -> list[str]:
    """The names of the spaces of the rows of these kinds, in order."""
    rows = [row for row in trace.columns.rows() if row["kind"] in kinds]
    return [trace.spaces[row["space"]].name for row in rows]


def device_of(trace: Trace, kind: Kind = Kind.MAP) -> list[str | None]:
    """The short name of the device of each row's space; None where unattributed."""
    names = [name.partition("(")[2].rstrip(")") or name for name in spaces_by_row(trace, kind)]
    return [None if name.startswith("unattributed") else name for name in names]


def test_dma_map_claims_the_map_before_it(tmp_path) -> None:
    script = booted(NIC, DISK).map(0x1000, 0x5000).dma_map(DISK, 0x1010, 0x5010, 16)
    assert device_of(script.read(tmp_path)) == [DISK]


def test_dma_map_claims_only_maps_of_its_own_task(tmp_path) -> None:
    script = booted(NIC, DISK)
    script.map(0x1000, 0x5000, **A).map(0x1000, 0x6000, **B)
    script.dma_map(NIC, 0x1000, 0x6000, **B).dma_map(DISK, 0x1000, 0x5000, **A)
    assert device_of(script.read(tmp_path)) == [DISK, NIC]


def test_idle_tasks_of_two_cpus_are_two_tasks(tmp_path) -> None:
    script = booted(NIC, DISK)
    other = {"task": "<idle>-0", "cpu": 0}
    script.map(0x1000, 0x5000, **IDLE).map(0x1000, 0x6000, **other)
    script.dma_map(NIC, 0x1000, 0x5000, **IDLE).dma_map(DISK, 0x1000, 0x6000, **other)
    assert device_of(script.read(tmp_path)) == [NIC, DISK]


def test_interrupt_between_map_and_dma_map_is_told_by_the_physical_address(tmp_path) -> None:
    script = booted(NIC, DISK).map(0x1000, 0x5000).map(0x1000, 0x6000)
    script.dma_map(NIC, 0x1000, 0x6000).dma_map(DISK, 0x1000, 0x5000)
    assert device_of(script.read(tmp_path)) == [DISK, NIC]


def test_dma_alloc_claims_all_its_maps_for_reading_and_writing(tmp_path) -> None:
    script = booted(NIC).map(0x1000, 0x9000).map(0x2000, 0x5000)
    script.line(f"dma_alloc: 0000:{NIC} dma_addr=1000 size=6726 virt_addr=00 flags=GFP_KERNEL attrs=")
    trace = script.read(tmp_path)
    assert device_of(trace) == [NIC, NIC]
    assert trace.columns.access.tolist()[1:] == [3, 3]


def test_scatterlist_claims_maps_of_all_its_segments(tmp_path) -> None:
    script = booted(NIC).map(0x1000, 0x9000, 2 * PAGE).map(0x3000, 0x5000)
    script.line(
        f"dma_map_sg: 0000:{NIC} dir=FROM_DEVICE nents=2/2 ents=2/2 dma_addrs={{0x1000,0x3000}} sizes={{0x2000,0x80}}"
        " phys_addrs={0x9000,0x5000} attrs="
    )
    trace = script.read(tmp_path)
    assert device_of(trace) == [NIC, NIC]
    assert trace.columns.access.tolist()[1:] == [2, 2]


def test_truncated_scatterlist_claims_the_maps_that_continue_it(tmp_path) -> None:
    script = booted(NIC).map(0x1000, 0x9000).map(0x2000, 0x5000).map(0x3000, 0x7000)
    script.line(
        f"dma_map_sg: 0000:{NIC} dir=TO_DEVICE nents=128/168 ents=1/3 [TRUNCATED] dma_addrs={{0x1000}} sizes={{0x1000}}"
        " phys_addrs={0x9000} attrs="
    )
    assert device_of(script.read(tmp_path)) == [NIC] * 3


def test_failed_mapping_claims_nothing(tmp_path) -> None:
    script = booted(NIC).map(0x1000, 0x9000).dma_map(NIC, 0xFFFF_FFFF_FFFF_FFFF, 0x9000)
    assert device_of(script.read(tmp_path)) == [None]


def test_dma_unmap_tells_the_space_of_the_unmap_before_it(tmp_path) -> None:
    script = booted(NIC, DISK).map(0x1000, 0x5000).dma_map(DISK, 0x1000, 0x5000)
    script.unmap(0x1000, **IDLE).dma_unmap(DISK, 0x1000, **IDLE)
    trace = script.read(tmp_path)
    assert device_of(trace, Kind.UNMAP) == [DISK]
    assert not any(live_pages(trace).values())


def test_dma_unmap_may_follow_the_next_map_of_the_same_address(tmp_path) -> None:
    script = booted(NIC).map(0x1000, 0x5000, **A).dma_map(NIC, 0x1000, 0x5000, **A)
    script.unmap(0x1000, **A).map(0x1000, 0x6000, **B).dma_map(NIC, 0x1000, 0x6000, **B).dma_unmap(NIC, 0x1000, **A)
    trace = script.read(tmp_path)
    assert live_pages(trace)[0] == {0x1000: 0x6000}


def test_flush_after_an_unmap_gives_its_domain(tmp_path) -> None:
    script = booted(NIC, DISK).map(0x1000, 0x5000).dma_map(DISK, 0x1000, 0x5000)
    script.unmap(0x1000, **IDLE).flush(3, 0x1000, **IDLE)
    assert device_of(script.read(tmp_path), Kind.UNMAP) == [DISK]


def test_flush_of_everything_says_nothing_of_one_unmap(tmp_path) -> None:
    script = booted(NIC, DISK).map(0x1000, 0x5000).dma_map(NIC, 0x1000, 0x5000)
    script.unmap(0x1000).line("cache_tag_flush_all: dmar0/dmar0 type iotlb did 3 pasid 0 ref 1")
    script.flush(3, 0, 1 << 64).dma_unmap(NIC, 0x1000)
    assert device_of(script.read(tmp_path), Kind.UNMAP) == [NIC]


def test_map_that_nobody_claimed_is_claimed_by_the_flush_of_its_unmap(tmp_path) -> None:
    script = booted(NIC, DISK).map(0x1000, 0x5000).map(0x1000, 0x6000, **B)
    script.unmap(0x1000, **IDLE).flush(2, 0x1000, **IDLE)
    trace = script.read(tmp_path)
    assert device_of(trace) == [NIC, None]
    assert live_pages(trace)[0] == {}


def test_task_that_worked_for_a_device_before_decides_between_two_unclaimed_maps(tmp_path) -> None:
    script = booted(NIC, DISK)
    for did, task in ((2, A), (3, B)):
        script.map(0x8000, 0x9000, **task).unmap(0x8000, **IDLE).flush(did, 0x8000, **IDLE)
    script.map(0x1000, 0x5000, **A).map(0x1000, 0x6000, **B)
    script.unmap(0x1000, **IDLE).flush(3, 0x1000, **IDLE)
    trace = script.read(tmp_path)
    assert device_of(trace) == [NIC, DISK, None, DISK]
    assert any("could have closed one of several" in note for note in trace.notes)


def test_unmap_of_a_part_claims_the_whole_map(tmp_path) -> None:
    script = booted(NIC).map(0x1000, 0x5000, 2 * PAGE)
    script.unmap(0x2000).flush(2, 0x2000)
    trace = script.read(tmp_path)
    assert live_pages(trace) == {0: {0x1000: 0x5000}}


def test_announced_unmap_is_believed_if_it_is_live(tmp_path) -> None:
    script = Script().map(0x1000, 0x5000).dma_map(NIC, 0x1000, 0x5000).map(0x1000, 0x6000).dma_map(DISK, 0x1000, 0x6000)
    script.line(f"dma_unmap_sg: 0000:{DISK} dir=TO_DEVICE phys_addrs={{0x6010}} attrs=", **IDLE).unmap(0x1000, **IDLE)
    trace = script.read(tmp_path)
    assert spaces_by_row(trace, Kind.UNMAP) == [DISK]


def test_announced_unmap_is_not_believed_if_something_else_is_live(tmp_path) -> None:
    script = Script().map(0x1000, 0x5000).dma_map(NIC, 0x1000, 0x5000).map(0x9000, 0x6000).dma_map(DISK, 0x9000, 0x6000)
    script.line(f"dma_unmap_sg: 0000:{DISK} dir=TO_DEVICE phys_addrs={{0x6010}} attrs=", **IDLE).unmap(0x1000, **IDLE)
    assert spaces_by_row(script.read(tmp_path), Kind.UNMAP) == [NIC]


def test_dma_free_announces_its_unmap(tmp_path) -> None:
    script = Script().map(0x1000, 0x5000).dma_map(NIC, 0x1000, 0x5000).map(0x1000, 0x6000).dma_map(DISK, 0x1000, 0x6000)
    script.line(f"dma_free: 0000:{DISK} dma_addr=0 size=0 virt_addr=00 attrs=")
    script.line(f"dma_free: 0000:{DISK} dma_addr=1000 size=100 virt_addr=00 attrs=").unmap(0x1000)
    assert spaces_by_row(script.read(tmp_path), Kind.UNMAP) == [DISK]


def test_devices_with_one_domain_id_share_a_space(tmp_path) -> None:
    script = Script().attach("02:00.0", 14).attach("03:01.0", 14, ref=2).attach(NIC, 15)
    trace = script.read(tmp_path)
    assert [(s.devices, s.domain_id) for s in trace.spaces] == [
        ((parse_source_id("02:00.0"), parse_source_id("03:01.0")), 14),
        ((parse_source_id(NIC),), 15),
    ]


def test_same_domain_id_on_two_units_is_two_spaces(tmp_path) -> None:
    script = Script().attach(NIC, 5)
    script.line("cache_tag_assign: dmar1/dmar1 type iotlb did 5 pasid 0 ref 1").attach(DISK)
    assert len(script.read(tmp_path).spaces) == 2


def test_device_tlb_tags_and_pasid_tags_do_not_place_a_device(tmp_path) -> None:
    script = Script()
    script.line("cache_tag_assign: dmar0/dmar0 type iotlb did 5 pasid 0 ref 1")
    script.line(f"cache_tag_assign: dmar0/0000:{NIC} type devtlb did 6 pasid 0 ref 1")
    script.line("cache_tag_assign: dmar0/dmar0 type iotlb did 7 pasid 9 ref 1")
    script.attach(NIC)
    (space,) = script.read(tmp_path).spaces
    assert space.domain_id == 5


def test_identity_map_before_the_first_attach_is_a_direct_map_in_4k_pages(tmp_path) -> None:
    script = booted(NIC).map(0, 0, 1 << 24, task="init-1").attach(DISK, 3, task="init-1")
    trace = script.read(tmp_path)
    assert device_of(trace) == [DISK]
    assert trace.columns.leaf_levels.tolist() == [7, 1, 7]
    assert trace.kernel_rule == "6.x"


def test_direct_map_of_kernel_7_may_use_large_pages(tmp_path) -> None:
    script = booted(NIC).map(0, 0, 1 << 24, task="init-1").attach(DISK, 3, task="init-1")
    script.map(0x1_0000_0000, 0x5000).unmap(0x1_0000_0000).flush(3, 0x1_0000_0000, pages=False)
    trace = script.read(tmp_path)
    assert trace.kernel_rule == "7.x"
    assert set(trace.columns.leaf_levels.tolist()) == {7}


def test_map_of_a_vmm_before_its_next_attach_is_no_direct_map(tmp_path) -> None:
    script = booted().attach(NIC, 2).attach("00:05.0", 4).map(0x10000, 0x5000).attach(DISK, 3)
    assert device_of(script.read(tmp_path)) == [None]


def test_task_that_attached_one_space_maps_there(tmp_path) -> None:
    vmm = {"task": "qemu-kvm-4575"}
    script = booted(NIC, DISK).line("cache_tag_unassign: dmar0/dmar0 type iotlb did 3 pasid 0 ref 1", **vmm)
    script.attach(DISK, **vmm).attach(DISK, 3, **vmm)
    script.map(0x1000, 0x5000, **vmm).map(0x2000, 0x6000, **vmm).map(0x3000, 0x7000, **A)
    script.unmap(0x1000, **vmm).flush(3, 0x1000, **vmm)
    trace = script.read(tmp_path)
    assert device_of(trace) == [DISK, DISK, None]
    assert [space.domain_id for space in trace.spaces] == [2, 3, 3, None]
    assert live_pages(trace)[2] == {0x2000: 0x6000}


def test_unassign_then_attach_without_tag_detaches(tmp_path) -> None:
    script = booted(NIC).line("cache_tag_unassign: dmar0/dmar0 type iotlb did 2 pasid 0 ref 1").attach(NIC)
    trace = script.attach(NIC, 2).read(tmp_path)
    rows = [(Kind(row["kind"]), row["space"], row["source"]) for row in trace.columns.rows()]
    sid = parse_source_id(NIC)
    assert rows == [(Kind.ATTACH, 0, sid), (Kind.DETACH, 0, sid), (Kind.ATTACH, 1, sid)]


def test_tag_with_other_users_stays(tmp_path) -> None:
    script = Script().attach("02:00.0", 14).attach("03:01.0", 14, ref=2)
    script.line("cache_tag_unassign: dmar0/dmar0 type iotlb did 14 pasid 0 ref 2")
    trace = script.attach("03:01.0").attach("03:01.0", 14, ref=2).read(tmp_path)
    assert len(trace.spaces) == 1


def test_attach_to_another_space_detaches_first(tmp_path) -> None:
    trace = Script().attach(NIC, 2).attach(NIC, 9).read(tmp_path)
    assert [Kind(kind) for kind in trace.columns.kind] == [Kind.ATTACH, Kind.DETACH, Kind.ATTACH]
    assert trace.columns.space.tolist() == [0, 0, 1]


def test_detach_event_of_older_kernels_detaches(tmp_path) -> None:
    trace = Script().attach(NIC).line(f"detach_device_from_domain: IOMMU: device=0000:{NIC}").read(tmp_path)
    assert [Kind(kind) for kind in trace.columns.kind] == [Kind.ATTACH, Kind.DETACH]


def test_without_cache_tags_the_devices_of_a_group_share_a_space(tmp_path) -> None:
    script = Script()
    for device in ("00:1f.0", "00:1f.2"):
        script.line(f"add_device_to_group: IOMMU: groupID=10 device=0000:{device}")
    script.line(f"add_device_to_group: IOMMU: groupID=1 device=0000:{NIC}")
    script.attach(NIC).attach("00:1f.0").attach("00:1f.2")
    trace = script.read(tmp_path)
    assert [s.name for s in trace.spaces] == [NIC, "00:1f.0, 00:1f.2"]


def test_group_that_moves_moves_as_a_whole(tmp_path) -> None:
    script = Script()
    for device in ("00:1f.0", "00:1f.2"):
        script.line(f"add_device_to_group: IOMMU: groupID=10 device=0000:{device}")
    for _ in range(2):
        script.attach("00:1f.0").attach("00:1f.2")
    assert [s.name for s in script.read(tmp_path).spaces] == ["00:1f.0, 00:1f.2"] * 2


def test_device_that_left_its_group_shares_no_more(tmp_path) -> None:
    script = Script()
    for device in ("00:1f.0", "00:1f.2"):
        script.line(f"add_device_to_group: IOMMU: groupID=10 device=0000:{device}")
    script.line("remove_device_from_group: IOMMU: groupID=10 device=0000:00:1f.2")
    assert len(script.attach("00:1f.0").attach("00:1f.2").read(tmp_path).spaces) == 2


def test_device_of_which_no_attach_is_known_gets_its_own_space(tmp_path) -> None:
    trace = Script().map(0x1000, 0x5000).dma_map(NIC, 0x1000, 0x5000).read(tmp_path)
    assert [(s.name, s.domain_id, s.attributed) for s in trace.spaces] == [(NIC, None, True)]
    assert [Kind(kind) for kind in trace.columns.kind] == [Kind.MAP, Kind.ATTACH]


def test_domain_id_of_a_device_is_learnt_from_a_flush(tmp_path) -> None:
    script = Script().map(0x1000, 0x5000).dma_map(NIC, 0x1000, 0x5000)
    script.unmap(0x1000).flush(7, 0x1000).dma_unmap(NIC, 0x1000)
    script.map(0x1000, 0x6000).unmap(0x1000).flush(7, 0x1000)
    (space,) = script.read(tmp_path).spaces
    assert (space.domain_id, space.devices) == (7, (parse_source_id(NIC),))


def test_devices_flushed_with_one_domain_id_share_a_space(tmp_path) -> None:
    script = Script()
    for device in ("02:00.0", "03:01.0"):
        script.map(0x1000, 0x5000).dma_map(device, 0x1000, 0x5000)
        script.unmap(0x1000).flush(7, 0x1000).dma_unmap(device, 0x1000)
    trace = script.read(tmp_path)
    assert trace.columns.space.tolist()[-1] == 0
    assert trace.spaces[0].domain_id == 7


def test_device_that_is_no_pci_function_has_a_space_but_no_source_id(tmp_path) -> None:
    script = Script().map(0x1000, 0x5000)
    script.line("dma_map_page: i8042 dir=TO_DEVICE dma_addr=1000 size=16 phys_addr=5000 attrs=")
    trace = script.read(tmp_path)
    assert [(s.name, s.devices) for s in trace.spaces] == [("i8042", ())]
    assert trace.columns.source.tolist() == [NO_SOURCE, NO_SOURCE]


def test_unattributed_map_whose_address_is_live_opens_the_next_space(tmp_path) -> None:
    trace = Script().map(0x1000, 0x5000).map(0x2000, 0x6000, **B).map(0x1000, 0x7000, **B).read(tmp_path)
    assert [(s.name, s.devices, s.attributed) for s in trace.spaces] == [
        ("unattributed 0", (), False),
        ("unattributed 1", (), False),
    ]
    assert trace.columns.space.tolist() == [0, 0, 1]


def test_unattributed_unmap_closes_the_oldest_space_where_it_is_live(tmp_path) -> None:
    script = Script().map(0x1000, 0x5000).map(0x1000, 0x6000).unmap(0x1000).map(0x1000, 0x7000).unmap(0x1000)
    trace = script.unmap(0x1000).read(tmp_path)
    assert trace.columns.space.tolist() == [0, 1, 0, 0, 0, 1]


def test_unattributed_unmap_prefers_a_space_where_it_closes_whole_maps(tmp_path) -> None:
    script = Script().map(0x1000, 0x5000, 2 * PAGE).map(0x1000, 0x6000).unmap(0x1000)
    assert script.read(tmp_path).columns.space.tolist() == [0, 1, 1]


def test_unattributed_scatterlist_stays_together(tmp_path) -> None:
    script = Script().map(0x2000, 0x5000, **A)
    script.map(0x1000, 0x6000, **B).map(0x2000, 0x9000, **B).map(0x3000, 0x7000, **B)
    script.unmap(0x1000, 3 * PAGE, **IDLE)
    trace = script.read(tmp_path)
    assert trace.columns.space.tolist() == [0, 1, 1, 1, 1]
    assert live_pages(trace) == {0: {0x2000: 0x5000}, 1: {}}


def test_unmap_that_finds_its_range_in_pieces_takes_their_maps_to_a_space_of_their_own(tmp_path) -> None:
    script = Script().map(0x1000, 0x5000, **A).map(0x2000, 0x6000, **A)  # a scatterlist
    script.map(0x1000, 0x7000, **B).unmap(0x1000, **IDLE)  # the single map's unmap closes the older one
    script.unmap(0x1000, 2 * PAGE, **IDLE)
    trace = script.read(tmp_path)
    assert trace.columns.space.tolist() == [0, 2, 2, 0, 2]
    assert not any(live_pages(trace).values())
    assert [space.name for space in trace.spaces] == [f"unattributed {number}" for number in range(3)]
    assert any("in pieces" in note for note in trace.notes)


def test_moved_maps_share_a_space_where_they_do_not_meet(tmp_path) -> None:
    script = Script()
    for base in (0x10000, 0x20000):
        script.map(base, 0x5000, **A).map(base + PAGE, 0x6000, **A).map(base, 0x7000, **B)
        script.unmap(base, **IDLE).unmap(base, 2 * PAGE, **IDLE)
    trace = script.read(tmp_path)
    assert len(trace.spaces) == 3
    assert not any(live_pages(trace).values())


def test_unattributed_unmap_of_a_part_of_a_map_takes_what_is_there(tmp_path) -> None:
    script = Script().map(0x1000, 0x5000, 2 * PAGE).unmap(0x2000, 2 * PAGE)
    assert live_pages(script.read(tmp_path)) == {0: {0x1000: 0x5000}}


def test_announced_and_flushed_tell_that_device_and_domain_are_one(tmp_path) -> None:
    script = Script().map(0x1000, 0x5000).dma_map(NIC, 0x1000, 0x5000)
    script.line(f"dma_unmap_sg: 0000:{NIC} dir=TO_DEVICE phys_addrs={{0x5000}} attrs=").unmap(0x1000).flush(7, 0x1000)
    trace = script.read(tmp_path)
    (space,) = trace.spaces
    assert (space.domain_id, space.devices) == (7, (parse_source_id(NIC),))
    assert not trace.skipped


def test_address_mapped_without_end_is_skipped_in_the_end(tmp_path) -> None:
    script = Script()
    for _ in range(260):
        script.map(0x1000, 0x5000, **A)
    trace = script.read(tmp_path)
    assert len(trace.spaces) == 256
    assert len(trace.skipped) == 4
    assert "mapped 256 times" in trace.skipped[0].why


@pytest.mark.parametrize("attributed", [True, False])
def test_unmap_of_what_was_mapped_before_the_recording_is_skipped(attributed: bool, tmp_path) -> None:
    script = Script().map(0x9000, 0x5000).dma_map(NIC, 0x9000, 0x5000).unmap(0x1000)
    if attributed:
        script.dma_unmap(NIC, 0x1000)
    trace = script.read(tmp_path)
    assert trace.applied_counts["unmap"] == 0
    assert [(s.line, s.why[:26]) for s in trace.skipped] == [(4, "nothing that this trace ma")]
    assert any("before the recording began" in note for note in trace.notes)


def test_kernel_without_map_events_is_noticed_and_dma_events_stand_in(tmp_path) -> None:
    script = booted(NIC).line(f"dma_map_phys: 0000:{NIC} dir=TO_DEVICE dma_addr=1010 size=16 phys_addr=5010 attrs=")
    script.unmap(0x1000).flush(2, 0x1000, pages=False).dma_unmap(NIC, 0x1010, 16)
    script.line(f"dma_alloc: 0000:{NIC} dir=BIDIRECTIONAL dma_addr=8000 size=64 virt_addr=00 flags=X attrs=")
    trace = script.read(tmp_path)
    assert trace.applied_counts == {"map": 1, "unmap": 1, "access": 0, "attach": 1, "detach": 0}
    assert not any(live_pages(trace).values())
    (note,) = [note for note in trace.notes if "not one iommu:map" in note]
    assert "1 maps are taken from dma events" in note
    assert "1 allocations" in note
    assert trace.kernel_rule == "7.x"


def test_recording_of_dma_events_alone_is_replayed_from_them(tmp_path) -> None:
    script = Script().dma_map(NIC, 0x1010, 0x5010, 16).dma_map(NIC, 0x2000, 0x6000).dma_unmap(NIC, 0x1010, 16)
    trace = script.read(tmp_path)
    assert trace.applied_counts == {"map": 2, "unmap": 1, "access": 0, "attach": 1, "detach": 0}
    assert live_pages(trace)[0] == {0x2000: 0x6000}
    assert any("no iommu:map" in note for note in trace.notes)


def test_dma_events_do_not_stand_in_where_maps_are_recorded(tmp_path) -> None:
    script = booted(NIC).dma_map(NIC, 0x9000, 0x5000).map(0x1000, 0x5000).dma_map(NIC, 0x1000, 0x5000)
    trace = script.read(tmp_path)
    assert trace.applied_counts["map"] == 1
    assert trace.notes == ()


def test_kernel_6_18_and_later_is_a_guess_without_flushes(tmp_path) -> None:
    text = f"dma_map_phys: 0000:{NIC} dir=TO_DEVICE dma_addr=1000 size=16 phys_addr=5000 attrs="
    trace = Script().map(0x1000, 0x5000).line(text).read(tmp_path)
    assert trace.kernel_rule == "6.x"
    assert any("6.18 or later" in note for note in trace.notes)


def test_partial_unmap_is_noted(tmp_path) -> None:
    script = Script().map(0x1000, 0x5000)
    script.line("unmap: IOMMU: iova=0x0000000000001000 - 0x0000000000003000 size=8192 unmapped_size=4096")
    trace = script.read(tmp_path)
    assert any("removed another size than was asked" in note and ":3" in note for note in trace.notes)


def test_several_traces_are_merged_by_time(tmp_path) -> None:
    first, second = Script().map(0x1000, 0x5000), Script().map(0x1000, 0x5000)
    second.map(0x2000, 0x6000)
    first.line("sched_switch: x").map(0x3000, 0x7000)
    paths = []
    for name, script in (("a", first), ("b", second)):
        path = tmp_path / name
        path.write_text("\n".join(script.lines) + "\n")
        paths.append(path)
    trace = read_traces(paths)
    assert trace.files == tuple(map(str, paths))
    assert trace.columns.file.tolist() == [0, 1, 1, 0]
    assert trace.columns.line.tolist() == [1, 1, 2, 3]
    assert trace.columns.event.tolist() == [1, 2, 4, 5]
    assert trace.events == 5


def test_until_cuts_after_an_event_or_at_a_time(tmp_path) -> None:
    script = Script().map(0x1000, 0x5000).line("sched_switch: x").map(0x2000, 0x6000).map(0x3000, 0x7000)
    trace = script.read(tmp_path)
    assert [len(trace.until(end).columns) for end in ("#0", "#1", "#2", "#3", "#99")] == [0, 1, 1, 2, 3]
    assert [len(trace.until(end).columns) for end in ("1s", "1.000001s", "1.000003", "1000004us", "2s")] == [
        0,
        1,
        2,
        3,
        3,
    ]


@pytest.mark.parametrize("end", ["", "#", "#x", "12 parsecs", "-1s", "1.5.2s"])
def test_until_names_what_it_expected(end: str, tmp_path) -> None:
    trace = Script().map(0x1000, 0x5000).read(tmp_path)
    with pytest.raises(InputError, match="expected"):
        trace.until(end)


def test_progress_is_told(tmp_path) -> None:
    path = tmp_path / "t"
    path.write_text("\n".join(Script().map(0x1000, 0x5000).unmap(0x1000).lines * 5_000) + "\n")
    told: list[int] = []
    read_traces([path], told.append)
    assert told == [4096, 8192]
