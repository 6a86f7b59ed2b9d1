/* Physical memory: little-endian loads and stores that never leave the regions. */
#ifndef VTD_MEMORY_H
#define VTD_MEMORY_H

#include <stdbool.h>
#include <string.h>

#include "core.h"

#define PAGE_SHIFT 12
#define PAGE_SIZE 4096u

static inline uint64_t core_little(uint64_t value)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    return __builtin_bswap64(value);
#else
    return value;
#endif
}

/* The region that holds a whole page at `page`, which is page-aligned; or a null pointer. */
static inline const struct core_region *core_region_of(const struct core_memory *memory, uint64_t page)
{
    for (uint32_t i = 0; i < memory->region_count; i++)
        if (page - memory->regions[i].start < memory->regions[i].size && !(page & (PAGE_SIZE - 1)))
            return &memory->regions[i];
    return 0;
}

/* True if all size bytes at address lie in one region. */
static inline bool core_contains(const struct core_memory *memory, uint64_t address, uint64_t size)
{
    for (uint32_t i = 0; i < memory->region_count; i++) {
        uint64_t offset = address - memory->regions[i].start;
        if (offset < memory->regions[i].size)
            return size <= memory->regions[i].size - offset;
    }
    return false;
}

/* What follows is for addresses that core_contains has vouched for. */
static inline uint64_t core_get_at(const uint8_t *at)
{
    uint64_t raw;
    memcpy(&raw, at, sizeof raw);
    return core_little(raw);
}

static inline void core_set_at(uint8_t *at, uint64_t value)
{
    uint64_t raw = core_little(value);
    memcpy(at, &raw, sizeof raw);
}

static inline uint64_t core_get(const struct core_memory *memory, uint64_t address)
{
    return core_get_at(memory->base + address);
}

static inline void core_set(const struct core_memory *memory, uint64_t address, uint64_t value)
{
    core_set_at(memory->base + address, value);
}

static inline uint32_t core_little32(uint32_t value)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    return __builtin_bswap32(value);
#else
    return value;
#endif
}

static inline uint32_t core_get32_at(const uint8_t *at)
{
    uint32_t raw;
    memcpy(&raw, at, sizeof raw);
    return core_little32(raw);
}

static inline void core_set32_at(uint8_t *at, uint32_t value)
{
    uint32_t raw = core_little32(value);
    memcpy(at, &raw, sizeof raw);
}

static inline bool core_load(const struct core_memory *memory, uint64_t address, uint64_t *ret)
{
    if (!core_contains(memory, address, sizeof *ret))
        return false;
    *ret = core_get(memory, address);
    return true;
}

static inline bool core_is_fixed(const struct core_memory *memory, uint64_t address)
{
    for (uint32_t i = 0; i < memory->fixed_count; i++)
        if (address - memory->fixed[i].start < memory->fixed[i].size)
            return true;
    return false;
}

/* Replace `from` by `to` at address, at once; false if something else stood there, or the memory refuses. */
static inline bool core_exchange(const struct core_memory *memory, uint64_t address, uint64_t from, uint64_t to)
{
    typedef uint64_t __attribute__((may_alias)) word;
    uint64_t expected = core_little(from);
    if (core_is_fixed(memory, address))
        return false;
    return __atomic_compare_exchange_n((word *)(memory->base + address), &expected, core_little(to), false,
                                       __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
}

#endif
