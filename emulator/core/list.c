/* The leaves of many level 1 tables as runs. What cannot be judged by one look at an entry is left to Python. */
#include "memory.h"

enum { ENTRIES = 512, TABLES = 64 }; /* of one call: pages are then numbered in 16 bits */

/* Where a whole table stands in the buffer; or a null pointer. Stretches are ascending. */
static const uint8_t *table_at(const struct core_held *held, uint64_t table)
{
    uint32_t low = 0, high = held->stretch_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (held->stretches[middle].start <= table)
            low = middle + 1;
        else
            high = middle;
    }
    if (!low)
        return 0;
    const struct core_stretch *found = &held->stretches[low - 1];
    uint64_t within = table - found->start;
    if (within > found->size || found->size - within < PAGE_SIZE || found->offset > held->size ||
        held->size - found->offset < found->size)
        return 0;
    return held->buffer + found->offset + within;
}

static uint8_t rights_of(const struct core_leaf_rules *rules, uint64_t key)
{
    for (uint32_t i = 0; i < rules->key_count && i < 16; i++)
        if (rules->keys[i] == key)
            return rules->rights[i];
    return 0;
}

int core_list_leaves(const struct core_held *held, const struct core_leaf_rules *rules, const uint64_t *tables,
                     const uint16_t *neighbours, uint32_t count, struct core_runs *ret)
{
    const struct core_leaf_rules by = *rules;
    uint64_t *const gpas = ret->gpas;
    uint16_t *const pages = ret->pages, *const lengths = ret->lengths;
    uint8_t *const rights = ret->rights;
    uint64_t next_gpa = 0, key = ~by.deciding; /* no entry has it */
    uint32_t next_page = UINT32_MAX, done = 0, leaves = 0, joined = 0;
    uint8_t granted = 0, last = 0;
    if (count > TABLES || ret->capacity < count * ENTRIES)
        return 0;
    for (uint32_t n = 0; n < count; n++) {
        const uint8_t *at = table_at(held, tables[n]);
        if (!at || neighbours[n] >= TABLES)
            return 0;
        uint32_t page = neighbours[n] * ENTRIES;
        bool begins = true;
        for (uint32_t end = page + ENTRIES; page < end; page++, at += 8) {
            uint64_t entry = core_get_at(at), gpa = entry & by.address;
            if (!(entry & by.present))
                continue;
            if (__builtin_expect((entry & by.reserved) != 0, 0))
                return 0;
            if (__builtin_expect((entry & by.deciding) != key, 0)) {
                key = entry & by.deciding;
                granted = rights_of(&by, key);
            }
            if ((gpa ^ next_gpa) | (page ^ next_page) | (uint32_t)(granted ^ last)) {
                gpas[done] = gpa;
                pages[done] = (uint16_t)page;
                rights[done] = granted;
                done++;
            } else {
                joined += begins;
            }
            lengths[done - 1] = (uint16_t)(page + 1); /* its end, for now */
            begins = false;
            next_gpa = gpa + PAGE_SIZE;
            next_page = page + 1;
            last = granted;
            leaves++;
        }
    }
    for (uint32_t i = 0; i < done; i++)
        lengths[i] = (uint16_t)(lengths[i] - pages[i]);
    ret->count = done;
    ret->leaves = leaves;
    ret->separate = done + joined;
    return 1;
}
