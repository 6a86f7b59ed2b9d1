/* Many walks of one source. */
#include "tables.h"

void core_walk_many(const struct core_memory *memory, const struct core_space *space,
                    const struct core_request *request, const uint64_t *iovas, uint64_t count,
                    struct core_answer *ret)
{
    struct core_request one = *request;
    for (uint64_t i = 0; i < count; i++) {
        one.iova = iovas[i];
        core_walk(memory, space, &one, &ret[i]);
    }
}

void core_nothing(void)
{
}

const char *core_layout_digest(void)
{
    return CORE_LAYOUT_DIGEST;
}
