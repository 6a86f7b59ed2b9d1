"""Every layout, declared once. The C core's masks, the dumper and the documentation are made from these."""

from __future__ import annotations

from pagetables.bits import Word
from pagetables.errors import UnknownLayout, near
from pagetables.layouts.context import (
    LegacyContextEntry,
    LegacyRootEntry,
    ScalableContextEntry,
    ScalableRootEntry,
)
from pagetables.layouts.descriptors import (
    ContextCacheInvalidate,
    DeviceTlbInvalidate,
    InterruptEntryInvalidate,
    InvalidationWait,
    IotlbInvalidate,
    PageGroupResponse,
    PasidCacheInvalidate,
    PasidDeviceTlbInvalidate,
    PasidIotlbInvalidate,
)
from pagetables.layouts.first_stage import (
    FsPde2M,
    FsPdeTable,
    FsPdpe1G,
    FsPdpeTable,
    FsPml4E,
    FsPml5E,
    FsPte,
)
from pagetables.layouts.interrupt import (
    CompatibilityMsiAddress,
    CompatibilityMsiData,
    PostedInterruptDescriptor,
    PostedInterruptEntry,
    RemappableIoapicEntry,
    RemappableMsiAddress,
    RemappableMsiData,
    RemappedInterruptEntry,
)
from pagetables.layouts.page_request import (
    AtsTranslationCompletion,
    PageRequestDescriptor,
)
from pagetables.layouts.pasid import (
    PasidDirectoryEntry,
    PasidTableEntry,
    PasidTableEntryRev3Qword1,
)
from pagetables.layouts.registers import REGISTERS
from pagetables.layouts.second_stage import (
    SsPde2M,
    SsPdeTable,
    SsPdpe1G,
    SsPdpeTable,
    SsPml4E,
    SsPml5E,
    SsPte,
)

__all__ = [
    "LAYOUTS",
    "STRUCTURES",
    "find",
    "AtsTranslationCompletion",
    "CompatibilityMsiAddress",
    "CompatibilityMsiData",
    "ContextCacheInvalidate",
    "DeviceTlbInvalidate",
    "FsPde2M",
    "FsPdeTable",
    "FsPdpe1G",
    "FsPdpeTable",
    "FsPml4E",
    "FsPml5E",
    "FsPte",
    "InterruptEntryInvalidate",
    "InvalidationWait",
    "IotlbInvalidate",
    "LegacyContextEntry",
    "LegacyRootEntry",
    "PageGroupResponse",
    "PageRequestDescriptor",
    "PasidCacheInvalidate",
    "PasidDeviceTlbInvalidate",
    "PasidDirectoryEntry",
    "PasidIotlbInvalidate",
    "PasidTableEntry",
    "PasidTableEntryRev3Qword1",
    "PostedInterruptDescriptor",
    "PostedInterruptEntry",
    "RemappableIoapicEntry",
    "RemappableMsiAddress",
    "RemappableMsiData",
    "RemappedInterruptEntry",
    "ScalableContextEntry",
    "ScalableRootEntry",
    "SsPde2M",
    "SsPdeTable",
    "SsPdpe1G",
    "SsPdpeTable",
    "SsPml4E",
    "SsPml5E",
    "SsPte",
]

STRUCTURES: dict[str, type[Word]] = {
    layout.name: layout
    for layout in (
        LegacyRootEntry,
        LegacyContextEntry,
        ScalableRootEntry,
        ScalableContextEntry,
        PasidDirectoryEntry,
        PasidTableEntry,
        PasidTableEntryRev3Qword1,
        SsPml5E,
        SsPml4E,
        SsPdpeTable,
        SsPdeTable,
        SsPdpe1G,
        SsPde2M,
        SsPte,
        FsPml5E,
        FsPml4E,
        FsPdpeTable,
        FsPdeTable,
        FsPdpe1G,
        FsPde2M,
        FsPte,
        RemappedInterruptEntry,
        PostedInterruptEntry,
        PostedInterruptDescriptor,
        RemappableMsiAddress,
        RemappableMsiData,
        CompatibilityMsiAddress,
        CompatibilityMsiData,
        RemappableIoapicEntry,
        ContextCacheInvalidate,
        IotlbInvalidate,
        DeviceTlbInvalidate,
        InterruptEntryInvalidate,
        InvalidationWait,
        PasidIotlbInvalidate,
        PasidCacheInvalidate,
        PasidDeviceTlbInvalidate,
        PageGroupResponse,
        PageRequestDescriptor,
        AtsTranslationCompletion,
    )
}
LAYOUTS: dict[str, type[Word]] = {**STRUCTURES, **REGISTERS}


def find(name: str) -> type[Word]:
    """The layout called `name`: as in fixtures/layouts, in any case, with `-` or `_`; UnknownLayout otherwise."""
    wanted = name.replace("-", "_").lower()
    by_name = {key.lower(): layout for key, layout in LAYOUTS.items()}
    if wanted not in by_name:
        raise UnknownLayout(f"no layout is called {name!r}; {near(wanted, by_name)}")
    return by_name[wanted]
