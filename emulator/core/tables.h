/* Table geometry, and the entries of both formats as software writes them. */
#ifndef VTD_TABLES_H
#define VTD_TABLES_H

#include "layout.h"
#include "memory.h"

#define ENTRIES 512u
#define NO_REGION (~UINT64_C(0))

enum kind { EMPTY, TABLE, LEAF };

static inline uint32_t level_shift(uint32_t level)
{
    return PAGE_SHIFT + 9 * (level - 1);
}

static inline uint64_t level_size(uint32_t level)
{
    return UINT64_C(1) << level_shift(level);
}

static inline uint64_t entry_address(uint64_t table, uint64_t iova, uint32_t level)
{
    return table + 8 * (iova >> level_shift(level) & (ENTRIES - 1));
}

static inline enum kind kind_of(const struct core_mapper *mapper, uint64_t entry, uint32_t level)
{
    /* PS is bit 7 of both formats, and means a leaf at levels 2 and 3 only. */
    if (!(entry & mapper->present))
        return EMPTY;
    return level == 1 || (level <= 3 && entry & SS_PS) ? LEAF : TABLE;
}

static inline uint64_t table_of(uint64_t entry)
{
    return entry & SS_PTE_ADDR;
}

static inline int no_memory(struct core_mapper *mapper, uint64_t address, uint32_t size)
{
    mapper->at = address;
    mapper->level = size;
    return CORE_NO_MEMORY;
}

static inline int refuse(struct core_mapper *mapper, int status, uint64_t iova, uint32_t level)
{
    mapper->at = iova;
    mapper->level = level;
    return status;
}

/* core_map and core_unmap which trust `region`: for callers that keep everybody else away from the tables. */
int mapper_map(struct core_mapper *mapper, uint64_t iova, uint64_t gpa, uint64_t size, uint32_t permissions);
int mapper_unmap(struct core_mapper *mapper, uint64_t iova, uint64_t size);

#endif
