/* Many walks of one source. Plain second-stage walks, which are nearly all there are, go in two passes: the first finds
 * the level 1 entries of a chunk and has them fetched, the second reads them, so that the misses overlap. Whatever is
 * not plain is walked by itself; the answer is the same either way. */
#include "tables.h"

#define INTERRUPT_MEGABYTE UINT64_C(0xfee) /* address bits 31:20 of the interrupt range; those above are 0 */

const char *core_layout_digest(void)
{
    return CORE_LAYOUT_DIGEST;
}

void core_nothing(void)
{
}

static bool prepare(const struct core_memory *memory, const struct core_space *space,
                    const struct core_request *request, struct descent *ret)
{
    const struct core_stage *stage = &space->second;
    uint64_t refused = 0;
    for (uint32_t level = 2; level < 6; level++)
        refused |= stage->table_reserved[level] | stage->large[level];
    if (space->translation != CORE_SECOND_STAGE || space->flags & CORE_SS_ACCESSED_DIRTY ||
        request->access & CORE_EXECUTE)
        return false; /* entries to mark, or rights to reckon with */
    return descent_from(memory, stage->root, stage->levels, refused, ret);
}

static void walk_one(const struct core_memory *memory, const struct core_space *space,
                     const struct core_request *request, uint64_t iova, struct core_answer *ret)
{
    struct core_request one = *request;
    one.iova = iova;
    core_walk(memory, space, &one, ret);
}

static void walk_chunk(const struct core_memory *memory, const struct core_space *space,
                       const struct core_request *request, const struct descent *descent, const uint64_t *iovas,
                       struct core_answer *ret)
{
    uint8_t *entries[CHUNK];
    uint64_t granted[CHUNK];
    uint64_t need = request->access, reserved = space->second.leaf_reserved[1];
    bool executable = space->flags & CORE_SS_EXECUTE;
    find_entries(descent, iovas, entries, granted);
    for (int i = 0; i < CHUNK; i++) {
        uint64_t entry = core_get_at(entries[i]), all = granted[i] & entry, start = table_of(entry);
        if (__builtin_expect((entry & reserved) | (need & ~all) | (iovas[i] >= space->input_limit) |
                                 (start >> 20 == INTERRUPT_MEGABYTE), 0)) {
            walk_one(memory, space, request, iovas[i], &ret[i]);
            continue;
        }
        ret[i] = (struct core_answer){
            .address = start | (iovas[i] & (PAGE_SIZE - 1)),
            .page_shift = PAGE_SHIFT,
            .permissions = (uint8_t)(executable ? all & 7 : (all & 3) | (all & SS_R) << 2),
        };
    }
}

void core_walk_many(const struct core_memory *memory, const struct core_space *space,
                    const struct core_request *request, const uint64_t *iovas, uint64_t count,
                    struct core_answer *ret)
{
    struct descent descent;
    uint64_t done = 0;
    if (prepare(memory, space, request, &descent))
        for (; count - done >= CHUNK; done += CHUNK)
            walk_chunk(memory, space, request, &descent, iovas + done, ret + done);
    for (; done < count; done++)
        walk_one(memory, space, request, iovas[done], &ret[done]);
}
