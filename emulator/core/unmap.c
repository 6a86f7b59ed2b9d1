/* Unmap and split. Tables are taken out only where the range covers them fully, each after the tables below it. */
#include "tables.h"

/* Tables whose last entry was just passed, `level` the lowest of them: take out those that the range covers. */
static void take_out(struct core_mapper *mapper, const uint64_t *tables, uint32_t level, uint64_t at)
{
    uint64_t end = mapper->iova + mapper->size;
    for (; level < mapper->levels && !(at & (level_size(level + 1) - 1)); level++) {
        uint64_t first = at - level_size(level + 1);
        if (first < mapper->iova || at > end)
            break;
        core_set(mapper->memory, entry_address(tables[level + 1], first, level + 1), 0);
        mapper->freed.items[mapper->freed.count++] = tables[level];
        forget(mapper);
    }
}

/* Removes leaves of one table from iova `at` on. *hole: an empty entry was met. */
static int unmap_run(struct core_mapper *mapper, uint64_t at, bool *hole)
{
    uint64_t tables[6];
    uint64_t end = mapper->iova + mapper->size;
    uint32_t level = mapper->levels;
    uint64_t table = mapper->root;
    uint64_t address, entry;
    for (;; level--, table = table_of(entry)) {
        tables[level] = table;
        address = entry_address(table, at, level);
        if (!core_load(mapper->memory, address, &entry))
            return no_memory(mapper, address, 8);
        if (kind_of(mapper, entry, level) != TABLE)
            break;
    }
    if (level == 1 && mapper->remembering)
        remember(mapper, at, table);
    uint64_t page = level_size(level);
    while (kind_of(mapper, entry, level) == LEAF) {
        if (at & (page - 1))
            return refuse(mapper, CORE_IN_THE_MIDDLE, at, level);
        core_set(mapper->memory, address, 0);
        at += page;
        mapper->done += page;
        if (!(at & (level_size(level + 1) - 1)) || at >= end) {
            take_out(mapper, tables, level, at);
            return CORE_DONE;
        }
        address += 8;
        entry = core_get(mapper->memory, address);
    }
    *hole = kind_of(mapper, entry, level) == EMPTY;
    return CORE_DONE;
}

int core_unmap_more(struct core_mapper *mapper)
{
    bool hole = false;
    while (!hole && mapper->done < mapper->size) {
        if (mapper->freed.capacity - mapper->freed.count < mapper->levels)
            return CORE_NEED_ROOM;
        int status = unmap_run(mapper, mapper->iova + mapper->done, &hole);
        if (status)
            return status;
    }
    return mapper->done ? CORE_DONE : refuse(mapper, CORE_NOT_MAPPED, mapper->iova, 0);
}

int core_unmap(struct core_mapper *mapper, uint64_t iova, uint64_t size)
{
    uint64_t address;
    mapper->iova = iova;
    mapper->size = size;
    mapper->done = mapper->freed.count = 0;
    if (size == PAGE_SIZE && remembered(mapper, iova, &address) &&
        core_get(mapper->memory, address) & mapper->present) {
        core_set(mapper->memory, address, 0);
        mapper->done = PAGE_SIZE;
        return CORE_DONE;
    }
    return core_unmap_more(mapper);
}

static uint64_t leaf_address(const struct core_mapper *mapper, uint32_t level)
{
    if (mapper->first_stage)
        return level == 3 ? FS_1G_ADDR : FS_2M_ADDR;
    return level == 3 ? SS_1G_ADDR : SS_2M_ADDR;
}

static int split_leaf(struct core_mapper *mapper, uint64_t address, uint64_t entry, uint32_t level)
{
    if (!mapper->pages.count)
        return CORE_NEED_PAGE;
    uint64_t page = mapper->pages.items[--mapper->pages.count];
    if (!core_contains(mapper->memory, page, PAGE_SIZE))
        return no_memory(mapper, page, PAGE_SIZE);
    uint64_t base = entry & leaf_address(mapper, level);
    uint64_t attributes = entry & ~leaf_address(mapper, level);
    if (level == 2) {
        attributes &= ~SS_PS;
        /* The third PAT bit of a large page stands at 12; of a 4 KiB page at 7, where large pages have PS. */
        if (mapper->first_stage && attributes & FS_PAT)
            attributes = (attributes & ~FS_PAT) | FS_PTE_PAT;
    }
    for (uint32_t i = 0; i < ENTRIES; i++)
        core_set(mapper->memory, page + 8 * i, attributes | (base + ((uint64_t)i << level_shift(level - 1))));
    /* Linked when it is whole: a walk meets the old leaf or the new ones, never a half. */
    core_set(mapper->memory, address, page | mapper->link);
    return CORE_DONE;
}

int core_split(struct core_mapper *mapper, uint64_t iova)
{
    uint64_t table = mapper->root;
    mapper->iova = iova;
    mapper->done = 0;
    for (uint32_t level = mapper->levels; level; level--) {
        uint64_t address = entry_address(table, iova, level);
        uint64_t entry;
        if (!core_load(mapper->memory, address, &entry))
            return no_memory(mapper, address, 8);
        enum kind kind = kind_of(mapper, entry, level);
        if (kind == LEAF && (level == 1 || !(mapper->leaf_levels >> (level - 1) & 1)))
            return refuse(mapper, CORE_CANNOT_SPLIT, iova, level);
        if (kind == LEAF)
            return split_leaf(mapper, address, entry, level);
        if (kind == EMPTY)
            break;
        table = table_of(entry);
    }
    return refuse(mapper, CORE_NOT_MAPPED, iova, 0);
}

/* As in map.c: pages whose entries were found, then those that follow in the same table. A page of 4 KiB never covers a
 * table, so none is freed. */
static uint64_t unmap_found(const struct core_mapper *mapper, uint8_t *const *entries, const uint64_t *granted,
                            const uint64_t *iovas)
{
    uint64_t i = 0;
    for (; i < CHUNK; i++) {
        if (!(granted[i] & mapper->present) || iovas[i] & (PAGE_SIZE - 1) || iovas[i] >= mapper->limit ||
            !(core_get_at(entries[i]) & mapper->present))
            break;
        core_set_at(entries[i], 0);
    }
    return i;
}

static uint64_t unmap_neighbours(const struct core_mapper *mapper, uint8_t *table, const uint64_t *iovas,
                                 uint64_t count)
{
    uint64_t base = iovas[-1], present = mapper->present;
    uint64_t i = 0;
    for (; i < count; i++) {
        uint8_t *at = table + table_offset(iovas[i]);
        if ((iovas[i] ^ base) & ~INDEX || !(core_get_at(at) & present))
            break;
        core_set_at(at, 0);
    }
    return i;
}

static int unmap_page(struct core_mapper *mapper, uint64_t iova)
{
    mapper->done = 0;
    if (iova & (PAGE_SIZE - 1) || iova >= mapper->limit)
        return refuse(mapper, CORE_BAD_RANGE, iova, 1);
    int status = core_unmap(mapper, iova, PAGE_SIZE);
    mapper->total += mapper->done;
    return status;
}

int core_unmap_many(struct core_mapper *mapper, const uint64_t *iovas, uint64_t count, uint64_t *position)
{
    uint64_t i = *position, granted[CHUNK];
    uint8_t *entries[CHUNK];
    struct descent descent = {0};
    bool plain = descent_from(mapper->memory, mapper->root, mapper->levels, SS_PS, &descent);
    int status = CORE_DONE;
    mapper->total = 0;
    while (!status && i < count) {
        uint64_t start = i, found = 0;
        if (plain && count - i >= CHUNK) {
            find_entries(&descent, iovas + i, entries, granted);
            found = unmap_found(mapper, entries, granted, iovas + i);
            i += found;
        }
        if (found == CHUNK) {
            uint8_t *table = entries[CHUNK - 1] - table_offset(iovas[i - 1]);
            i += unmap_neighbours(mapper, table, iovas + i, count - i);
        }
        mapper->total += (i - start) * PAGE_SIZE;
        if (found != CHUNK && i < count) {
            status = unmap_page(mapper, iovas[i]);
            i += !status;
        }
    }
    *position = i;
    return status;
}
