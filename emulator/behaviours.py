"""Behaviours of units that the architecture leaves open or forbids: a sentence here, and one place in the code, each.

A profile names those of its unit; the profile `spec` names none.
"""

from __future__ import annotations

from itertools import chain

__all__ = ["BEHAVIOURS", "MECHANISMS"]

MECHANISMS: dict[str, dict[str, str]] = {
    "translation": {
        "walk_as_qemu": "an IOTLB hit decides alone, in silence, and entries are judged one by one, rights "
        "before reserved bits, by the codes of legacy mode (emulator/unit/qemu)",
        "rid_pasid_without_rps": "RID_PASID of a context entry is used without ECAP.RPS",
        "ignore_transient_mapping": "bit 62 of second-stage leaves is ignored where ECAP.DT=1",
        "read_interrupt_range": "reads of the interrupt range succeed, and yield zeros",
    },
    "caches": {
        "cache_not_present": "where CAP.CM=1, entries that are not present or bad are cached too",
        "widen_page_invalidation": "an invalidation of pages removes all of the domain-id, or by PASID all of "
        "the PASID",
        "widen_context_invalidation": "an invalidation of a domain's context entries removes all context entries",
        "ignore_invalidation_hint": "invalidations of pages remove paging-structure entries with IH=1 too",
        "pasid_cache_switches": "PASID-cache invalidations have it looked at anew who passes through",
        "flush_on_commands": "SRTP and every change of TE empty all caches of translations",
    },
    "invalidation queue": {
        "resume_on_tail_write": "after IQE the queue goes on at the next write of IQT, not when IQE is cleared",
        "no_queue_error_record": "IQERCD always reads 0",
        "keep_queue_enabled": "QIE can only be cleared when the queue is empty and its last descriptor was a wait",
        "hang_register_commands": "while the queue is enabled CCMD and IOTLB do nothing, and ICC and IVT stay set",
        "any_queue_width": "descriptors have the width that IQA.DW says in every table mode, 128 bits without "
        "ECAP.SMTS",
        "check_idle_tail": "with IQA.DW a tail that is no multiple of 32 sets IQE while the queue is disabled too",
        "overlook_misaligned_tail": "in a queue of 256-bit descriptors a tail that is no multiple of 32 is overlooked",
    },
    "descriptors": {
        "ignore_upper_half": "bits 255:128 of queue descriptors are not looked at",
        "bare_wait_is_an_error": "a wait descriptor without any flag stops the queue",
        "fence_wait_is_an_error": "a wait descriptor that neither writes a status nor interrupts stops the queue",
        "lost_status_is_an_error": "a wait descriptor whose status address holds no memory stops the queue",
        "ignore_interrupt_entry_fields": "reserved fields of interrupt entry invalidations are not looked at",
        "ignore_mask_limit": "index masks of interrupt entry invalidations beyond ECAP.MHMV are taken",
        "pass_pasid_descriptors": "PASID-cache and PASID-IOTLB invalidations are taken, whatever they say, and "
        "do nothing",
        "pass_pasid_cache": "with ECAP.SMTS PASID-cache invalidations are taken, whatever they say, and do nothing",
        "no_pasid_device_tlb": "device-TLB invalidations with PASID stop the queue",
    },
    "device-TLBs": {
        "missing_devices_complete": "a device-TLB invalidation to a source-id without a device-TLB counts as completed",
        "device_tlb_without_dt": "device-TLB invalidations are accepted, and do nothing, where ECAP.DT=0",
        "trust_translated_requests": "with walk_as_qemu, translated requests pass in scalable mode; without, "
        "they are translated again",
        "ats_interrupt_range_faults": "translation requests to the interrupt range fault; else they get U=1, W=1",
    },
    "interrupts": {
        "pass_compatibility_format": "interrupts in compatibility format pass whatever CFIS and EIME say; CFI "
        "does nothing",
        "wrap_interrupt_index": "an interrupt's handle and subhandle are added in 16 bits, so that the sum starts over",
        "check_subhandle_late": "reserved bits of an interrupt's data (20h) are looked at after its entry",
        "ignore_posted_mode": "IM of an interrupt remapping entry is not looked at: a posted one is used as a "
        "remapped one",
        "ignore_wide_destination": "with EIME=0 the bits of an interrupt's destination outside its APIC id are ignored",
        "ignore_delivery_mode": "interrupt remapping entries with the reserved delivery modes 3 and 6 are not refused",
        "swap_bus_range": "with SVT=2 of an interrupt remapping entry the last bus is in SID 15:8 and the first in 7:0",
        "reserve_source_type": "SVT=3 of an interrupt remapping entry is a reserved field (24h), not a failed "
        "check (26h)",
        "ignore_descriptor_tail": "bits 511:320 of a posted interrupt descriptor are not looked at",
        "writable_eime": "IRTA.EIME can be set, and works, without ECAP.EIM",
        "drop_interrupt_faults": "faults of interrupts (20h to 29h) are not recorded",
    },
    "fault records": {
        "compress_faults": "a fault of a source-id that has a pending record already is not recorded again",
        "withdraw_on_status_write": "a pending fault event is withdrawn by a write of FSTS, not by clearing records",
        "record_whole_address": "fault records hold address bits above the guest address width too",
        "one_pasid_table_fault": "all errors of PASID directories and PASID tables have the reason 58h",
        "record_rid_pasid": "records of paging faults name PASID ffffh in legacy mode, else RID_PASID with PP=1",
    },
    "registers": {
        "wide_pointers": "address bits above the host width can be written to RTADDR, IQA and IRTA, and do not count",
        "latch_without_remapping": "IRTA and SIRTP work without ECAP.IR",
        "no_upper_event_address": "the upper halves of event addresses read 0 and ignore writes with ECAP.EIM too",
        "wide_completion_data": "bits 31:16 of IEDATA can be written",
        "unmasked_page_request_event": "PECTL is 0 after reset: page request events are not masked",
        "show_latched_queue": "IQA reads the queue's address as it was latched when the queue was enabled",
        "hide_queue_width": "IQA.DW reads 0",
    },
}
"""What a profile may switch on, and what it then does, by the mechanism that it is about."""

BEHAVIOURS: dict[str, str] = dict(chain.from_iterable(group.items() for group in MECHANISMS.values()))
"""The same by name alone."""
