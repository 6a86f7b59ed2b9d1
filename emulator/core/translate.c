/* A translation: the IOTLB's answer where it has one that permits the request, else the tables', which is then kept. */
#include "iotlb.h"

/* What must stand in the low bits of an entry for it to serve a request; more than an entry can have if none does. */
static uint32_t needed(const struct core_space *space, const struct core_request *request)
{
    uint32_t need = 0;
    if (request->access & CORE_EXECUTE)
        return ~0u; /* depends on more than an entry keeps: the tables decide */
    if (request->access & CORE_READ)
        need |= CORE_PERMISSION_R;
    if (request->access & CORE_WRITE)
        need |= CORE_PERMISSION_W;
    if (space->translation == CORE_FIRST_STAGE || space->translation == CORE_NESTED) {
        if (!request->privileged && !(space->flags & CORE_PRIVILEGED))
            need |= CORE_PERMISSION_USER;
        if (request->access & CORE_WRITE)
            need |= ENTRY_DIRTY;
    } else if (space->flags & CORE_SS_ACCESSED_DIRTY && request->access & CORE_WRITE) {
        need |= ENTRY_DIRTY;
    }
    return need;
}

static void keep(struct core_iotlb *iotlb, uint64_t tag, const struct core_request *request,
                 const struct core_answer *answer)
{
    uint32_t shift = answer->page_shift;
    struct core_entry entry = {
        .tag = tag | (uint64_t)shift << TAG_PAGE_SHIFT_SHIFT,
        .page = request->iova >> shift,
        .gpa = answer->address >> shift << shift | answer->permissions |
               (request->access & CORE_WRITE ? ENTRY_DIRTY : 0),
    };
    core_iotlb_fill(iotlb, &entry);
}

static void miss(struct core_iotlb *iotlb, const struct core_memory *memory, const struct core_space *space,
                 const struct core_request *request, uint64_t tag, struct core_answer *ret)
{
    if (iotlb->tables)
        core_walk_with_tables(iotlb, tag, memory, space, request, ret);
    else
        core_walk(memory, space, request, ret);
    if (!ret->reason && space->translation != CORE_PASS_THROUGH)
        keep(iotlb, tag, request, ret);
}

static inline void answer(const struct core_entry *entry, uint64_t iova, uint32_t shift, struct core_answer *ret)
{
    *ret = (struct core_answer){
        .address = (entry->gpa >> shift << shift) | (iova & ((UINT64_C(1) << shift) - 1)),
        .page_shift = (uint8_t)shift,
        .permissions = entry->gpa & ENTRY_PERMISSIONS,
    };
}

void core_translate(struct core_iotlb *iotlb, const struct core_memory *memory, const struct core_space *space,
                    const struct core_request *request, struct core_answer *ret)
{
    core_translate_many(iotlb, memory, space, request, &request->iova, 1, ret);
}

void core_translate_many(struct core_iotlb *iotlb, const struct core_memory *memory, const struct core_space *space,
                         const struct core_request *request, const uint64_t *iovas, uint64_t count,
                         struct core_answer *ret)
{
    uint64_t tag = tag_of(space, request);
    uint32_t need = needed(space, request);
    for (uint64_t i = 0; i < count; i++) {
        const struct core_entry *entry = 0;
        uint32_t shift = 12;
        for (uint32_t size = 0; size < TAG_SIZES && !entry; size++) {
            shift = size_shift(size);
            if (iotlb->total[size])
                entry = iotlb_probe(iotlb, tag | (uint64_t)shift << TAG_PAGE_SHIFT_SHIFT, iovas[i] >> shift);
        }
        if (entry && (entry->gpa & need) == need) {
            answer(entry, iovas[i], shift, &ret[i]);
        } else {
            struct core_request one = *request;
            one.iova = iovas[i];
            miss(iotlb, memory, space, &one, tag, &ret[i]);
        }
    }
}
