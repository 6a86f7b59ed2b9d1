/* The replay loop: maps and unmaps of many domains, each unmap invalidated before the next event, as a strict kernel
 * driver does it. Both sides are here, and meet in bytes only: descriptors are written into the queue in memory, IQT is
 * written through the unit, and the status word is polled. What an event needs beyond that is left to Python. */
#include "layout.h"
#include "queue.h"
#include "tables.h"

#define WHOLE_SPACE 52 /* pages, as a power of two: more than an address mask of a PASID descriptor says */

/* The address mask that covers [iova, iova + size): pages rounded up to a power of two; where the start is not aligned
 * to that, up to the highest bit in which first and last page differ. */
static uint32_t covering_order(uint64_t iova, uint64_t size)
{
    uint64_t first = iova >> PAGE_SHIFT, pages = size >> PAGE_SHIFT;
    uint32_t order = pages > 1 ? 64 - (uint32_t)__builtin_clzll(pages - 1) : 0;
    if (first & ((UINT64_C(1) << order) - 1))
        order = 64 - (uint32_t)__builtin_clzll(first ^ (first + (UINT64_C(1) << order) - 1));
    return order;
}

/* Writes a descriptor into the slot at `tail`; the slot after it. */
static uint32_t put(const struct core_driver *driver, uint8_t *queue, uint32_t tail, uint64_t low, uint64_t high)
{
    core_set_at(queue + tail, low);
    core_set_at(queue + tail + 8, high);
    if (driver->slot == 32) {
        core_set_at(queue + tail + 16, 0);
        core_set_at(queue + tail + 24, 0);
    }
    tail += driver->slot;
    return tail < driver->queue_size ? tail : 0;
}

/* The descriptor that covers [iova, iova + size), and the count of its kind. */
static void describe(struct core_driver *driver, const struct core_domain *domain, uint64_t iova, uint64_t size,
                     bool leaves_only, uint64_t *low, uint64_t *high)
{
    uint32_t order = covering_order(iova, size);
    bool first_stage = domain->mapper->first_stage;
    bool all = order >= (first_stage ? WHOLE_SPACE : driver->mask_limit);
    *low = (first_stage ? driver->pasid_iotlb : driver->iotlb) | (uint64_t)domain->domain_id << IOTLB_DID_SHIFT |
           (uint64_t)(all ? DOMAIN : SELECTIVE) << IOTLB_G_SHIFT;
    *high = all ? 0 : iova >> order >> PAGE_SHIFT << PAGE_SHIFT << order | order | (leaves_only ? IOTLB_IH : 0);
    if (first_stage)
        *(all ? &driver->pasid_invalidations : &driver->pasid_page_invalidations) += 1;
    else
        *(all ? &driver->domain_invalidations : &driver->page_invalidations) += 1;
}

/* True once the unit has written the status word. */
static bool invalidate(struct core_driver *driver, const struct core_domain *domain, uint64_t iova, uint64_t size,
                       bool leaves_only)
{
    const struct core_unit *unit = driver->unit;
    uint8_t *base = unit->memory->base, *queue = base + driver->queue_base;
    uint64_t low, high;
    uint32_t sequence = driver->sequence == UINT32_MAX ? 1 : driver->sequence + 1;
    describe(driver, domain, iova, size, leaves_only, &low, &high);
    uint32_t tail = put(driver, queue, driver->tail, low, high);
    tail = put(driver, queue, tail, driver->wait | (uint64_t)sequence << WAIT_STDATA_SHIFT, driver->status);
    driver->tail = tail;
    driver->sequence = sequence;
    return core_unit_write_iqt(unit, tail) && core_get32_at(base + driver->status) == sequence;
}

static bool whole_pages(const struct core_domain *domain, uint64_t iova, uint64_t gpa, uint64_t size)
{
    /* Nothing overflows: a limit is at most 2^63, and what is below two limits adds up to less than 2^64. */
    return size && !((iova | gpa | size) & (PAGE_SIZE - 1)) && (iova | gpa | size) >> 63 == 0 &&
           iova + size <= domain->iova_limit && gpa + size <= domain->gpa_limit;
}

static int after(struct core_driver *driver, const struct core_domain *domain, uint64_t iova, uint64_t size)
{
    uint32_t freed = domain->mapper->freed.count;
    if (!invalidate(driver, domain, iova, size, !freed))
        return CORE_STOP_QUEUE;
    return freed ? CORE_STOP_FREED : CORE_STOP_END;
}

static int map_event(struct core_driver *driver, const struct core_domain *domain, const struct core_events *events,
                     uint64_t i)
{
    struct core_mapper *mapper = domain->mapper;
    uint64_t iova = events->iova[i], gpa = events->gpa[i], size = events->size[i];
    uint32_t access = events->access[i] & 3, allowed = mapper->leaf_levels;
    if (!whole_pages(domain, iova, gpa, size))
        return CORE_STOP_LEFT;
    if (events->leaf_levels[i] & 7)
        mapper->leaf_levels &= (uint32_t)events->leaf_levels[i] << 1 | 1 << 1;
    int status = core_map(mapper, iova, gpa, size, access ? access | driver->always : 3);
    if (status)
        core_map_undo(mapper);
    mapper->leaf_levels = allowed;
    if (status)
        return CORE_STOP_LEFT;
    driver->maps++;
    driver->unknown_access += !access;
    return mapper->freed.count ? after(driver, domain, iova, size) : CORE_STOP_END;
}

static int unmap_event(struct core_driver *driver, const struct core_domain *domain, const struct core_events *events,
                       uint64_t i)
{
    struct core_mapper *mapper = domain->mapper;
    uint64_t iova = events->iova[i], size = events->size[i];
    uint64_t tables = (size >> level_shift(2)) + (size >> level_shift(3)) + (size >> level_shift(4)) + mapper->levels;
    if (!whole_pages(domain, iova, 0, size) || tables > mapper->freed.capacity)
        return CORE_STOP_LEFT;
    if (core_unmap(mapper, iova, size))
        return CORE_STOP_LEFT;
    driver->unmaps++;
    return after(driver, domain, iova, mapper->done);
}

/* While the loop runs nobody else touches the tables: each mapper may remember where level 1 tables lie. */
static void remember_tables(const struct core_domain *domains, uint32_t count, bool remembering)
{
    for (uint32_t i = 0; i < count; i++)
        if (domains[i].mapper) {
            domains[i].mapper->remembering = remembering;
            forget(domains[i].mapper);
        }
}

static int do_events(struct core_driver *driver, const struct core_domain *domains, uint32_t domain_count,
                     const struct core_events *events, uint64_t end, uint64_t deadline, uint64_t *position)
{
    int stop = CORE_STOP_END;
    while (*position < end && !stop) {
        uint64_t i = *position;
        uint32_t space = events->space[i], kind = events->kind[i];
        if (events->time[i] >= deadline)
            return CORE_STOP_DEADLINE;
        if (space >= domain_count || !domains[space].mapper)
            return CORE_STOP_LEFT;
        if (kind == CORE_UNMAP)
            stop = unmap_event(driver, &domains[space], events, i);
        else if (kind == CORE_MAP)
            stop = map_event(driver, &domains[space], events, i);
        else
            return CORE_STOP_LEFT;
        *position += stop != CORE_STOP_LEFT;
    }
    return stop;
}

int core_replay(struct core_driver *driver, const struct core_domain *domains, uint32_t domain_count,
                const struct core_events *events, uint64_t end, uint64_t deadline, uint64_t *position)
{
    const struct core_memory *memory = driver->unit->memory;
    if (!core_contains(memory, driver->queue_base, driver->queue_size) || !core_contains(memory, driver->status, 4) ||
        driver->tail >= driver->queue_size || driver->queue_size % driver->slot)
        return CORE_STOP_LEFT;
    remember_tables(domains, domain_count, true);
    int stop = do_events(driver, domains, domain_count, events, end, deadline, position);
    remember_tables(domains, domain_count, false);
    return stop;
}
