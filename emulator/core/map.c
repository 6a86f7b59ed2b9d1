/* Map: the largest page that fits, tables made from the top down as they are needed, all or nothing. A call that needs
 * a page or room for a list returns, and goes on where it stood. */
#include "tables.h"

static uint32_t largest_level(const struct core_mapper *mapper, uint64_t iova, uint64_t gpa, uint64_t size)
{
    for (uint32_t level = mapper->levels < 3 ? mapper->levels : 3; level; level--)
        if (mapper->leaf_levels >> level & 1 && !((iova | gpa) & (level_size(level) - 1)) && size >= level_size(level))
            return level;
    return 0;
}

static bool has_room(const struct core_list *list, uint32_t items)
{
    return list->capacity - list->count >= items;
}

static int link_new(struct core_mapper *mapper, uint64_t address, uint64_t *ret)
{
    if (!mapper->pages.count)
        return CORE_NEED_PAGE;
    uint64_t page = mapper->pages.items[--mapper->pages.count];
    if (!core_contains(mapper->memory, page, PAGE_SIZE))
        return no_memory(mapper, page, PAGE_SIZE);
    memset(mapper->memory->base + page, 0, PAGE_SIZE);
    core_set(mapper->memory, address, page | mapper->link);
    *ret = table_of(page);
    return CORE_DONE;
}

/* The address of iova's entry in the table of `level`; all 512 entries there are in memory. */
static int entry_for(struct core_mapper *mapper, uint64_t iova, uint32_t level, uint64_t *ret)
{
    uint64_t table = mapper->root;
    if (level == 1 && remembered(mapper, iova, ret))
        return CORE_DONE;
    for (uint32_t upper = mapper->levels; upper > level; upper--) {
        uint64_t address = entry_address(table, iova, upper);
        uint64_t entry;
        if (!core_load(mapper->memory, address, &entry))
            return no_memory(mapper, address, 8);
        enum kind kind = kind_of(mapper, entry, upper);
        if (kind == LEAF)
            return refuse(mapper, CORE_ALREADY_MAPPED, iova, upper);
        table = table_of(entry);
        int status = kind == EMPTY ? link_new(mapper, address, &table) : CORE_DONE;
        if (status)
            return status;
    }
    *ret = entry_address(table, iova, level);
    if (!core_contains(mapper->memory, *ret, 8))
        return no_memory(mapper, *ret, 8);
    if (level == 1 && mapper->remembering)
        remember(mapper, iova, table);
    return CORE_DONE;
}

/* Counts the tables from `table` down, or lists them, lower ones first; refuses if a leaf is met. */
static int collect_empty(struct core_mapper *mapper, uint64_t table, uint32_t level, uint64_t iova, bool list,
                         uint32_t *count)
{
    for (uint32_t i = 0; i < ENTRIES; i++) {
        uint64_t at = iova + ((uint64_t)i << level_shift(level));
        uint64_t entry;
        if (!core_load(mapper->memory, table + 8 * i, &entry))
            return no_memory(mapper, table + 8 * i, 8);
        enum kind kind = kind_of(mapper, entry, level);
        if (kind == LEAF)
            return refuse(mapper, CORE_ALREADY_MAPPED, at, level);
        int status = kind == TABLE ? collect_empty(mapper, table_of(entry), level - 1, at, list, count) : CORE_DONE;
        if (status)
            return status;
    }
    if (list)
        mapper->freed.items[mapper->freed.count++] = table;
    ++*count;
    return CORE_DONE;
}

/* Whatever stands in the entry must be empty, or a table with nothing below it, which is then given back. */
static int make_room(struct core_mapper *mapper, uint64_t address, uint64_t before, uint64_t iova, uint32_t level)
{
    uint32_t tables = 0;
    enum kind kind = kind_of(mapper, before, level);
    if (kind == LEAF)
        return refuse(mapper, CORE_ALREADY_MAPPED, iova, level);
    if (kind == TABLE) {
        int status = collect_empty(mapper, table_of(before), level - 1, iova, false, &tables);
        if (status)
            return status;
    }
    if (!has_room(&mapper->undo, 2) || !has_room(&mapper->freed, tables))
        return CORE_NEED_ROOM;
    if (kind == TABLE) {
        collect_empty(mapper, table_of(before), level - 1, iova, true, &tables);
        forget(mapper);
    }
    mapper->undo.items[mapper->undo.count++] = address;
    mapper->undo.items[mapper->undo.count++] = before;
    return CORE_DONE;
}

static uint64_t leaf(const struct core_mapper *mapper, uint64_t gpa, uint32_t level, uint32_t permissions)
{
    return gpa | mapper->leaf[permissions & 3] | (level > 1 ? SS_PS : 0);
}

/* Leaves of one size, up to the end of their table. */
static int map_run(struct core_mapper *mapper)
{
    uint64_t iova = mapper->iova + mapper->done, gpa = mapper->gpa + mapper->done, left = mapper->size - mapper->done;
    uint32_t level = largest_level(mapper, iova, gpa, left);
    if (!level)
        return refuse(mapper, CORE_NO_FIT, iova, 0);
    uint64_t address;
    int status = entry_for(mapper, iova, level, &address);
    if (status)
        return status;
    uint64_t page = level_size(level);
    do {
        uint64_t before = core_get(mapper->memory, address);
        status = before ? make_room(mapper, address, before, iova, level) : CORE_DONE;
        if (status)
            return status;
        core_set(mapper->memory, address, leaf(mapper, gpa, level, mapper->permissions));
        mapper->done += page;
        left -= page;
        iova += page;
        gpa += page;
        address += 8;
    } while (left && iova & (level_size(level + 1) - 1) && largest_level(mapper, iova, gpa, left) == level);
    return CORE_DONE;
}

int core_map_more(struct core_mapper *mapper)
{
    int status = CORE_DONE;
    while (!status && mapper->done < mapper->size)
        status = map_run(mapper);
    return status;
}

int core_map(struct core_mapper *mapper, uint64_t iova, uint64_t gpa, uint64_t size, uint32_t permissions)
{
    uint64_t address;
    mapper->iova = iova;
    mapper->gpa = gpa;
    mapper->size = size;
    mapper->permissions = permissions;
    mapper->done = mapper->freed.count = mapper->undo.count = 0;
    if (size == PAGE_SIZE && mapper->leaf_levels & 1 << 1 && remembered(mapper, iova, &address) &&
        !core_get(mapper->memory, address)) {
        core_set(mapper->memory, address, leaf(mapper, gpa, 1, permissions));
        mapper->done = PAGE_SIZE;
        return CORE_DONE;
    }
    return core_map_more(mapper);
}

void core_map_undo(struct core_mapper *mapper)
{
    uint64_t end = mapper->done;
    for (uint64_t done = 0; done < end;) {
        uint32_t level = largest_level(mapper, mapper->iova + done, mapper->gpa + done, mapper->size - done);
        uint64_t address;
        if (entry_for(mapper, mapper->iova + done, level, &address))
            break; /* it was there when the leaf was written */
        core_set(mapper->memory, address, 0);
        done += level_size(level);
    }
    while (mapper->undo.count) {
        uint64_t before = mapper->undo.items[--mapper->undo.count];
        core_set(mapper->memory, mapper->undo.items[--mapper->undo.count], before);
    }
    mapper->done = mapper->freed.count = 0;
}

static bool is_page(const struct core_mapper *mapper, uint64_t iova, uint64_t gpa)
{
    return !(iova & (PAGE_SIZE - 1)) && iova < mapper->limit && !(gpa & ~SS_PTE_ADDR);
}

static int map_page(struct core_mapper *mapper, uint64_t iova, uint64_t gpa, uint64_t bits)
{
    uint64_t address;
    mapper->iova = iova;
    if (!is_page(mapper, iova, gpa))
        return refuse(mapper, CORE_BAD_RANGE, iova, 1);
    int status = entry_for(mapper, iova, 1, &address);
    if (status)
        return status;
    if (core_get(mapper->memory, address) & mapper->present)
        return refuse(mapper, CORE_ALREADY_MAPPED, iova, 1);
    core_set(mapper->memory, address, gpa | bits);
    return CORE_DONE;
}

/* Pages whose entries were found: those that can be are mapped at once, in order. Returns how many were. */
static uint64_t map_found(const struct core_mapper *mapper, uint8_t *const *entries, const uint64_t *granted,
                          const uint64_t *iovas, const uint64_t *gpas, uint64_t bits)
{
    uint64_t i = 0;
    for (; i < CHUNK; i++) {
        if (!(granted[i] & mapper->present) || !is_page(mapper, iovas[i], gpas[i]) ||
            core_get_at(entries[i]) & mapper->present)
            break;
        core_set_at(entries[i], gpas[i] | bits);
    }
    return i;
}

/* Pages that follow in the table of the page before them, which was just mapped. */
static uint64_t map_neighbours(const struct core_mapper *mapper, uint8_t *table, const uint64_t *iovas,
                               const uint64_t *gpas, uint64_t count, uint64_t bits)
{
    uint64_t base = iovas[-1], present = mapper->present;
    uint64_t i = 0;
    for (; i < count; i++) {
        uint8_t *at = table + table_offset(iovas[i]);
        if ((iovas[i] ^ base) & ~INDEX || gpas[i] & ~SS_PTE_ADDR || core_get_at(at) & present)
            break;
        core_set_at(at, gpas[i] | bits);
    }
    return i;
}

int core_map_many(struct core_mapper *mapper, const uint64_t *iovas, const uint64_t *gpas, uint64_t count,
                  uint32_t permissions, uint64_t *position)
{
    uint64_t bits = leaf(mapper, 0, 1, permissions), i = *position, granted[CHUNK];
    uint8_t *entries[CHUNK];
    struct descent descent = {0};
    bool plain = descent_from(mapper->memory, mapper->root, mapper->levels, SS_PS, &descent);
    int status = mapper->leaf_levels & 1 << 1 ? CORE_DONE : refuse(mapper, CORE_NO_FIT, 0, 0);
    mapper->done = 0;
    while (!status && i < count) {
        uint64_t found = 0;
        if (plain && count - i >= CHUNK) {
            find_entries(&descent, iovas + i, entries, granted);
            found = map_found(mapper, entries, granted, iovas + i, gpas + i, bits);
            i += found;
        }
        if (found == CHUNK) {
            uint8_t *table = entries[CHUNK - 1] - table_offset(iovas[i - 1]);
            i += map_neighbours(mapper, table, iovas + i, gpas + i, count - i, bits);
        } else if (i < count) {
            status = map_page(mapper, iovas[i], gpas[i], bits);
            i += !status;
        }
    }
    *position = i;
    return status;
}
