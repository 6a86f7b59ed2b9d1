# What emulator/core/core.h declares, as cffi offers it; a test holds this against the compiled module.
from typing import Any

_Data = Any  # a pointer, an array or a structure of the core

class Lib:
    CORE_READ: int
    CORE_WRITE: int
    CORE_EXECUTE: int
    CORE_PERMISSION_R: int
    CORE_PERMISSION_W: int
    CORE_PERMISSION_X: int
    CORE_PERMISSION_USER: int
    CORE_FIRST_STAGE: int
    CORE_SECOND_STAGE: int
    CORE_NESTED: int
    CORE_PASS_THROUGH: int
    CORE_NO_PASID: int
    CORE_LEGACY: int
    CORE_SS_ACCESSED_DIRTY: int
    CORE_SS_EXECUTE: int
    CORE_WRITE_PROTECT: int
    CORE_NO_EXECUTE: int
    CORE_SMEP: int
    CORE_EXTENDED_ACCESSED: int
    CORE_UPDATE_SNOOPED: int
    CORE_PRIVILEGED: int
    CORE_DONE: int
    CORE_NEED_PAGE: int
    CORE_NEED_ROOM: int
    CORE_ALREADY_MAPPED: int
    CORE_NOT_MAPPED: int
    CORE_IN_THE_MIDDLE: int
    CORE_NO_FIT: int
    CORE_CANNOT_SPLIT: int
    CORE_NO_MEMORY: int
    CORE_BAD_RANGE: int
    CORE_MAP: int
    CORE_UNMAP: int
    CORE_STOP_END: int
    CORE_STOP_LEFT: int
    CORE_STOP_DEADLINE: int
    CORE_STOP_FREED: int
    CORE_STOP_QUEUE: int
    def core_layout_digest(self, /) -> _Data: ...
    def core_nothing(self, /) -> None: ...
    def core_walk(self, memory: _Data, space: _Data, request: _Data, ret: _Data, /) -> None: ...
    def core_walk_many(
        self, memory: _Data, space: _Data, request: _Data, iovas: _Data, count: int, ret: _Data, /
    ) -> None: ...
    def core_iotlb_lookup(self, iotlb: _Data, tag: int, iova: int, ret: _Data, /) -> int: ...
    def core_iotlb_fill(self, iotlb: _Data, entry: _Data, /) -> None: ...
    def core_iotlb_invalidate_all(self, iotlb: _Data, /) -> None: ...
    def core_iotlb_invalidate_domain(self, iotlb: _Data, domain_id: int, /) -> None: ...
    def core_iotlb_invalidate_pages(
        self, iotlb: _Data, domain_id: int, address: int, mask: int, hint: int, /
    ) -> None: ...
    def core_iotlb_invalidate_pasid(self, iotlb: _Data, domain_id: int, pasid: int, /) -> None: ...
    def core_iotlb_invalidate_pasid_pages(
        self, iotlb: _Data, domain_id: int, pasid: int, address: int, mask: int, hint: int, /
    ) -> None: ...
    def core_walk_with_tables(
        self, iotlb: _Data, tag: int, memory: _Data, space: _Data, request: _Data, ret: _Data, /
    ) -> None: ...
    def core_translate(self, iotlb: _Data, memory: _Data, space: _Data, request: _Data, ret: _Data, /) -> None: ...
    def core_translate_many(
        self, iotlb: _Data, memory: _Data, space: _Data, request: _Data, iovas: _Data, count: int, ret: _Data, /
    ) -> None: ...
    def core_map(self, mapper: _Data, iova: int, gpa: int, size: int, permissions: int, /) -> int: ...
    def core_map_more(self, mapper: _Data, /) -> int: ...
    def core_map_undo(self, mapper: _Data, /) -> None: ...
    def core_unmap(self, mapper: _Data, iova: int, size: int, /) -> int: ...
    def core_unmap_more(self, mapper: _Data, /) -> int: ...
    def core_split(self, mapper: _Data, iova: int, /) -> int: ...
    def core_map_many(
        self, mapper: _Data, iovas: _Data, gpas: _Data, count: int, permissions: int, position: _Data, /
    ) -> int: ...
    def core_unmap_many(self, mapper: _Data, iovas: _Data, count: int, position: _Data, /) -> int: ...
    def core_queue_run(self, unit: _Data, /) -> int: ...
    def core_unit_write_iqt(self, unit: _Data, tail: int, /) -> int: ...
    def core_replay(
        self,
        driver: _Data,
        domains: _Data,
        domain_count: int,
        events: _Data,
        end: int,
        deadline: int,
        position: _Data,
        /,
    ) -> int: ...
    def core_list_leaves(
        self, held: _Data, rules: _Data, tables: _Data, neighbours: _Data, count: int, ret: _Data, /
    ) -> int: ...

ffi: Any
lib: Lib
