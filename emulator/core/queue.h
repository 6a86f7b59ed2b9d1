/* Registers as bytes, and the granularities of descriptors: what the queue's two sides share. */
#ifndef VTD_QUEUE_H
#define VTD_QUEUE_H

#include "memory.h"

enum { GLOBAL = 1, DOMAIN = 2, SELECTIVE = 3 };

static inline uint64_t core_register(const uint8_t *registers, uint32_t offset)
{
    uint64_t raw;
    memcpy(&raw, registers + offset, sizeof raw);
    return core_little(raw);
}

static inline uint32_t core_register32(const uint8_t *registers, uint32_t offset)
{
    const uint8_t *at = registers + offset;
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static inline void core_set_register(uint8_t *registers, uint32_t offset, uint64_t value)
{
    uint64_t raw = core_little(value);
    memcpy(registers + offset, &raw, sizeof raw);
}

#endif
