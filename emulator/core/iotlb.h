/* What an IOTLB tag holds, and the probe of one set: shared by the cache and by the translations that use it. */
#ifndef VTD_IOTLB_H
#define VTD_IOTLB_H

#include <stdbool.h>

#include "core.h"

#define TAG_DOMAIN_SHIFT 16
#define TAG_PASID_SHIFT 32
#define TAG_NO_PASID (UINT64_C(1) << 52)
#define TAG_PRIVILEGED_SHIFT 53
#define TAG_TRANSLATION_SHIFT 54
#define TAG_PAGE_SHIFT_SHIFT 57
#define TAG_DOMAIN (UINT64_C(0xffff) << TAG_DOMAIN_SHIFT)
#define TAG_PASID (UINT64_C(0xfffff) << TAG_PASID_SHIFT)
#define TAG_SIZES 3

#define ENTRY_PERMISSIONS 0xfu
#define ENTRY_DIRTY 0x10u

/* Without the page size, which a probe adds. */
static inline uint64_t tag_of(const struct core_space *space, const struct core_request *request)
{
    bool without = request->pasid == CORE_NO_PASID;
    uint64_t pasid = (uint64_t)((without ? space->rid_pasid : request->pasid) & 0xfffff) << TAG_PASID_SHIFT;
    return request->source_id | (uint64_t)(space->domain_id & 0xffff) << TAG_DOMAIN_SHIFT | pasid |
           (without ? TAG_NO_PASID : 0) |
           (uint64_t)(request->privileged != 0) << TAG_PRIVILEGED_SHIFT |
           (uint64_t)(space->translation & 7) << TAG_TRANSLATION_SHIFT;
}

static inline uint32_t tag_translation(uint64_t tag)
{
    return tag >> TAG_TRANSLATION_SHIFT & 7;
}

static inline uint32_t tag_page_shift(uint64_t tag)
{
    return (uint32_t)(tag >> TAG_PAGE_SHIFT_SHIFT);
}

/* 0, 1, 2 for pages of 4 KiB, 2 MiB, 1 GiB. */
static inline uint32_t tag_size(uint64_t tag)
{
    return (tag_page_shift(tag) - 12) / 9;
}

static inline uint32_t size_shift(uint32_t size)
{
    return 12 + 9 * size;
}

static inline uint32_t iotlb_set(const struct core_iotlb *iotlb, uint64_t page, uint32_t domain_id)
{
    return (uint32_t)((page ^ page >> iotlb->set_bits ^ domain_id) & ((UINT64_C(1) << iotlb->set_bits) - 1));
}

/* The entry with this tag (page size included) and page, or a null pointer. */
static inline struct core_entry *iotlb_probe(const struct core_iotlb *iotlb, uint64_t tag, uint64_t page)
{
    uint32_t set = iotlb_set(iotlb, page, (uint32_t)(tag >> TAG_DOMAIN_SHIFT) & 0xffff);
    struct core_entry *entry = iotlb->entries + (uint64_t)set * iotlb->ways;
    for (uint32_t way = 0; way < iotlb->ways; way++, entry++)
        if (!((entry->tag ^ tag) | (entry->page ^ page)))
            return entry;
    return 0;
}

/* The one place of a paging-structure entry. */
static inline struct core_entry *iotlb_table(const struct core_iotlb *iotlb, uint64_t tag, uint64_t page)
{
    uint64_t mixed = page ^ page >> iotlb->table_bits ^ tag ^ tag >> TAG_DOMAIN_SHIFT ^ tag >> TAG_PASID_SHIFT ^
                     (uint64_t)tag_page_shift(tag) << 1;
    return iotlb->tables + (mixed & ((UINT64_C(1) << iotlb->table_bits) - 1));
}

#endif
