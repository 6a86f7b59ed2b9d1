/* Registers as bytes, and 32-bit words in memory: what the queue's two sides share. */
#ifndef VTD_QUEUE_H
#define VTD_QUEUE_H

#include "memory.h"

static inline uint64_t core_register(const uint8_t *registers, uint32_t offset)
{
    uint64_t raw;
    memcpy(&raw, registers + offset, sizeof raw);
    return core_little(raw);
}

static inline void core_set_register(uint8_t *registers, uint32_t offset, uint64_t value)
{
    uint64_t raw = core_little(value);
    memcpy(registers + offset, &raw, sizeof raw);
}

#endif
