/* The IOTLB: set-associative, tagged, with the replacement and the invalidations that emulator/engine.py describes. */
#include <string.h>

#include "iotlb.h"

/* Entries to remove: those whose tag agrees in `mask`, of the translation types in the bit set `types`. */
struct doomed {
    uint64_t mask;
    uint64_t value;
    uint32_t types;
};

#define EVERY_TYPE 0x1e
#define TYPE(translation) (1u << (translation))

static void count(struct core_iotlb *iotlb, uint64_t tag, int change)
{
    iotlb->counts[tag_translation(tag)][tag_size(tag)] += change;
    iotlb->total[tag_size(tag)] += change;
}

static uint64_t present(const struct core_iotlb *iotlb, uint32_t types, uint32_t size)
{
    uint64_t total = 0;
    for (uint32_t type = 1; type <= 4; type++)
        if (types & TYPE(type))
            total += iotlb->counts[type][size];
    return total;
}

static void drop(struct core_iotlb *iotlb, struct core_entry *entry)
{
    count(iotlb, entry->tag, -1);
    entry->tag = entry->page = entry->gpa = 0;
}

static bool matches(uint64_t tag, const struct doomed *doomed)
{
    return tag && (tag & doomed->mask) == doomed->value && doomed->types & TYPE(tag_translation(tag));
}

int core_iotlb_lookup(const struct core_iotlb *iotlb, uint64_t tag, uint64_t iova, struct core_entry *ret)
{
    for (uint32_t size = 0; size < TAG_SIZES; size++) {
        if (!iotlb->total[size])
            continue;
        uint32_t shift = size_shift(size);
        uint64_t whole = tag | (uint64_t)shift << TAG_PAGE_SHIFT_SHIFT;
        const struct core_entry *entry = iotlb_probe(iotlb, whole, iova >> shift);
        if (entry) {
            *ret = *entry;
            return 1;
        }
    }
    return 0;
}

static void empty(struct core_iotlb *iotlb)
{
    memset(iotlb->entries, 0, ((uint64_t)iotlb->ways << iotlb->set_bits) * sizeof *iotlb->entries);
    memset(iotlb->counts, 0, sizeof iotlb->counts);
    memset(iotlb->total, 0, sizeof iotlb->total);
}

void core_iotlb_fill(struct core_iotlb *iotlb, const struct core_entry *new)
{
    if (iotlb->limit && iotlb->total[0] + iotlb->total[1] + iotlb->total[2] >= iotlb->limit)
        empty(iotlb);
    uint32_t set = iotlb_set(iotlb, new->page, (uint32_t)(new->tag >> TAG_DOMAIN_SHIFT) & 0xffff);
    struct core_entry *ways = iotlb->entries + (uint64_t)set * iotlb->ways;
    struct core_entry *place = iotlb_probe(iotlb, new->tag, new->page);
    for (uint32_t way = 0; !place && way < iotlb->ways; way++)
        if (!ways[way].tag)
            place = &ways[way];
    if (!place) {
        place = &ways[iotlb->victims[set]];
        iotlb->victims[set] = (uint8_t)((iotlb->victims[set] + 1u) % iotlb->ways);
    }
    if (place->tag)
        drop(iotlb, place);
    *place = *new;
    count(iotlb, new->tag, 1);
}

static void drop_tables(struct core_iotlb *iotlb, const struct doomed *doomed)
{
    if (!iotlb->table_count)
        return;
    for (uint64_t i = 0; i >> iotlb->table_bits == 0; i++) {
        struct core_entry *entry = iotlb->tables + i;
        if (matches(entry->tag, doomed)) {
            entry->tag = entry->page = entry->gpa = 0;
            iotlb->table_count--;
        }
    }
}

void core_iotlb_invalidate_all(struct core_iotlb *iotlb)
{
    static const struct doomed everything = {0, 0, EVERY_TYPE};
    empty(iotlb);
    drop_tables(iotlb, &everything);
}

static bool is_empty(const struct core_iotlb *iotlb)
{
    return !(iotlb->total[0] | iotlb->total[1] | iotlb->total[2]);
}

static void drop_everywhere(struct core_iotlb *iotlb, const struct doomed *doomed)
{
    uint64_t total = (uint64_t)iotlb->ways << iotlb->set_bits;
    if (!(present(iotlb, doomed->types, 0) | present(iotlb, doomed->types, 1) | present(iotlb, doomed->types, 2)))
        return;
    for (uint64_t i = 0; i < total; i++)
        if (matches(iotlb->entries[i].tag, doomed))
            drop(iotlb, &iotlb->entries[i]);
}

/* Drop the pages first..last (both of this size) that are doomed. */
static void drop_pages(struct core_iotlb *iotlb, const struct doomed *doomed, uint32_t size, uint64_t first,
                       uint64_t last)
{
    uint64_t sets = UINT64_C(1) << iotlb->set_bits;
    uint32_t domain_id = (uint32_t)(doomed->value >> TAG_DOMAIN_SHIFT) & 0xffff;
    uint64_t span = last - first;
    for (uint64_t i = 0; i < sets && i <= span; i++) {
        /* More pages than sets: look at every set, else at each page's own. */
        uint64_t set = span < sets ? iotlb_set(iotlb, first + i, domain_id) : i;
        struct core_entry *entry = iotlb->entries + set * iotlb->ways;
        for (uint32_t way = 0; way < iotlb->ways; way++, entry++)
            if (entry->page - first <= span && matches(entry->tag, doomed) && tag_size(entry->tag) == size)
                drop(iotlb, entry);
    }
}

static void drop_range(struct core_iotlb *iotlb, const struct doomed *doomed, uint64_t address, uint32_t mask)
{
    uint64_t low = mask < 52 ? (UINT64_C(4096) << mask) - 1 : ~UINT64_C(0);
    for (uint32_t size = 0; size < TAG_SIZES; size++)
        if (present(iotlb, doomed->types, size))
            drop_pages(iotlb, doomed, size, (address & ~low) >> size_shift(size), (address | low) >> size_shift(size));
}

void core_iotlb_invalidate_domain(struct core_iotlb *iotlb, uint32_t domain_id)
{
    struct doomed doomed = {TAG_DOMAIN, (uint64_t)domain_id << TAG_DOMAIN_SHIFT, EVERY_TYPE};
    drop_everywhere(iotlb, &doomed);
    drop_tables(iotlb, &doomed);
}

/* Drop what agrees in the few bits that this unit compares, wherever it is. */
static void drop_agreeing(struct core_iotlb *iotlb, const struct doomed *doomed, uint64_t address, uint32_t mask)
{
    uint64_t total = (uint64_t)iotlb->ways << iotlb->set_bits;
    uint64_t compared = mask < 64 ? iotlb->compared >> mask << mask : 0;
    for (uint64_t i = 0; i < total; i++) {
        struct core_entry *entry = &iotlb->entries[i];
        if (!matches(entry->tag, doomed))
            continue;
        uint64_t page = entry->page << (tag_page_shift(entry->tag) - 12);
        if (!((page ^ address >> 12) & compared))
            drop(iotlb, entry);
    }
}

/* A descriptor 2 address is a second-stage input: combined entries cannot be told apart by it and all go, and with them
 * the first stage's paging-structure entries; the second stage's stay if only leaves changed. */
void core_iotlb_invalidate_pages(struct core_iotlb *iotlb, uint32_t domain_id, uint64_t address, uint32_t mask,
                                 uint32_t hint)
{
    struct doomed pages = {TAG_DOMAIN, (uint64_t)domain_id << TAG_DOMAIN_SHIFT, TYPE(CORE_SECOND_STAGE)};
    struct doomed others = {pages.mask, pages.value, EVERY_TYPE & ~TYPE(CORE_SECOND_STAGE)};
    drop_tables(iotlb, &others);
    if (!hint)
        drop_tables(iotlb, &pages);
    if (is_empty(iotlb))
        return;
    drop_range(iotlb, &pages, address, mask);
    if (iotlb->compared)
        drop_agreeing(iotlb, &pages, address, mask);
    drop_everywhere(iotlb, &others);
}

/* Bit 52 (without PASID) is outside the mask: such entries have RID_PASID here. */
void core_iotlb_invalidate_pasid(struct core_iotlb *iotlb, uint32_t domain_id, uint32_t pasid)
{
    uint64_t value = (uint64_t)domain_id << TAG_DOMAIN_SHIFT | (uint64_t)pasid << TAG_PASID_SHIFT;
    struct doomed doomed = {TAG_DOMAIN | TAG_PASID, value, EVERY_TYPE};
    struct doomed tables = {doomed.mask, value, TYPE(CORE_FIRST_STAGE)};
    drop_everywhere(iotlb, &doomed);
    drop_tables(iotlb, &tables);
}

void core_iotlb_invalidate_pasid_pages(struct core_iotlb *iotlb, uint32_t domain_id, uint32_t pasid, uint64_t address,
                                       uint32_t mask, uint32_t hint)
{
    uint64_t value = (uint64_t)domain_id << TAG_DOMAIN_SHIFT | (uint64_t)pasid << TAG_PASID_SHIFT;
    struct doomed doomed = {TAG_DOMAIN | TAG_PASID, value, TYPE(CORE_FIRST_STAGE) | TYPE(CORE_NESTED)};
    if (!hint)
        drop_tables(iotlb, &doomed);
    if (is_empty(iotlb))
        return;
    drop_range(iotlb, &doomed, address, mask);
}
