/* Table geometry, and the entries of both formats as software writes them. */
#ifndef VTD_TABLES_H
#define VTD_TABLES_H

#include "layout.h"
#include "memory.h"

#define ENTRIES 512u
#define CHUNK 32 /* addresses that are walked side by side */

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

/* Where an address is looked up in its level 1 table; these bits of it alone say so. */
#define INDEX (UINT64_C(511) << PAGE_SHIFT)

static inline uint64_t table_offset(uint64_t iova)
{
    return (iova & INDEX) >> (PAGE_SHIFT - 3);
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

/* -- plain descents: what nearly every walk is, as loads and masks, with everything odd left to the caller --- */

/* The tables below one root, as far as they lie in the root's own region of memory; offsets are from its start. */
struct descent {
    uint8_t *region; /* host address */
    uint64_t start;
    uint64_t size;
    uint64_t root;    /* offset */
    uint64_t refused; /* bits that no entry of a plain descent has: reserved, or a large page */
    uint32_t levels;
};

/* False if the root is not where a descent can start. */
static inline bool descent_from(const struct core_memory *memory, uint64_t root, uint32_t levels, uint64_t refused,
                                struct descent *ret)
{
    const struct core_region *home = core_region_of(memory, root);
    if (!home || levels < 3 || levels > 5)
        return false;
    *ret = (struct descent){memory->base + home->start, home->start, home->size, root - home->start, refused, levels};
    return true;
}

/* One level; a table elsewhere makes the descent odd, and it goes on in the root table. */
static inline uint64_t descend_level(const struct descent *descent, uint64_t table, uint64_t iova, uint32_t level,
                                     uint64_t *any, uint64_t *all)
{
    uint64_t entry = core_get_at(descent->region + entry_address(table, iova, level));
    uint64_t next = table_of(entry) - descent->start;
    *any |= entry;
    *all &= entry;
    if (__builtin_expect(next < descent->size, 1))
        return next;
    *any = ~UINT64_C(0);
    return descent->root;
}

/* `levels` apart, so that each number of levels gets a loop without a branch for it. */
static inline __attribute__((always_inline)) void descend(const struct descent *descent, uint32_t levels,
                                                          const uint64_t *iovas, uint8_t **entries, uint64_t *granted)
{
    for (int i = 0; i < CHUNK; i++) {
        uint64_t table = descent->root, any = 0, all = ~UINT64_C(0);
        for (uint32_t level = levels; level > 1; level--)
            table = descend_level(descent, table, iovas[i], level, &any, &all);
        entries[i] = descent->region + entry_address(table, iovas[i], 1);
        granted[i] = any & descent->refused ? 0 : all;
        __builtin_prefetch(entries[i]);
    }
}

/* For a chunk of addresses the host addresses of their level 1 entries, and for each the AND of the entries above it: 0
 * if one of them is odd, and the entry then is some entry of the root table. */
static inline void find_entries(const struct descent *descent, const uint64_t *iovas, uint8_t **entries,
                                uint64_t *granted)
{
    if (descent->levels == 4)
        descend(descent, 4, iovas, entries, granted);
    else if (descent->levels == 3)
        descend(descent, 3, iovas, entries, granted);
    else
        descend(descent, 5, iovas, entries, granted);
}

/* -- what a mapper remembers --------------------------------------------------------------------------------- */

static inline void remember(struct core_mapper *mapper, uint64_t iova, uint64_t table)
{
    uint64_t region = iova >> level_shift(2);
    mapper->regions[region & 7] = region;
    mapper->region_tables[region & 7] = table;
}

static inline void forget(struct core_mapper *mapper)
{
    memset(mapper->regions, 0xff, sizeof mapper->regions);
}

/* The address of iova's level 1 entry, if its table is remembered. */
static inline bool remembered(const struct core_mapper *mapper, uint64_t iova, uint64_t *ret)
{
    uint64_t region = iova >> level_shift(2);
    if (!mapper->remembering || mapper->regions[region & 7] != region)
        return false;
    *ret = entry_address(mapper->region_tables[region & 7], iova, 1);
    return true;
}

#endif
