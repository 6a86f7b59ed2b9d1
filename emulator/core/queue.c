/* The invalidation queue: fetch, and execution of the descriptors that every unmap submits. What is rare or irregular
 * stays in the queue, untouched, for the unit in Python. */
#include "layout.h"
#include "memory.h"
#include "queue.h"

enum { TYPE_IOTLB = 2, TYPE_WAIT = 5, TYPE_PASID_IOTLB = 6 };

static uint32_t field(uint64_t qword, uint64_t mask)
{
    return (uint32_t)((qword & mask) >> __builtin_ctzll(mask));
}

static bool iotlb(const struct core_unit *unit, const uint64_t *d)
{
    uint32_t mask = field(d[1], IOTLB_AM);
    uint32_t domain_id = field(d[0], IOTLB_DID);
    if ((d[0] & IOTLB_RESERVED0) | (d[1] & IOTLB_RESERVED1) | d[2] | d[3])
        return false;
    switch (field(d[0], IOTLB_G)) {
    case GLOBAL:
        core_iotlb_invalidate_all(unit->iotlb);
        return true;
    case DOMAIN:
        core_iotlb_invalidate_domain(unit->iotlb, domain_id);
        return true;
    case SELECTIVE:
        if (mask >= unit->mask_limit)
            return false;
        core_iotlb_invalidate_pages(unit->iotlb, domain_id, d[1] & IOTLB_ADDR, mask, field(d[1], IOTLB_IH));
        return true;
    default:
        return false;
    }
}

static bool pasid_iotlb(const struct core_unit *unit, const uint64_t *d)
{
    uint32_t domain_id = field(d[0], PASID_IOTLB_DID);
    uint32_t pasid = field(d[0], PASID_IOTLB_PASID);
    if (unit->slot != 32 || (d[0] & PASID_IOTLB_RESERVED0) | (d[1] & PASID_IOTLB_RESERVED1) | d[2] | d[3])
        return false;
    switch (field(d[0], PASID_IOTLB_G)) {
    case DOMAIN:
        core_iotlb_invalidate_pasid(unit->iotlb, domain_id, pasid);
        return true;
    case SELECTIVE:
        core_iotlb_invalidate_pasid_pages(unit->iotlb, domain_id, pasid, d[1] & PASID_IOTLB_ADDR,
                                          field(d[1], PASID_IOTLB_AM), field(d[1], PASID_IOTLB_IH));
        return true;
    default:
        return false;
    }
}

/* Only a wait that writes its status: interrupts and drains are the unit's business. */
static bool wait(const struct core_unit *unit, const uint64_t *d)
{
    uint64_t address = d[1] & WAIT_STADDR;
    if ((d[0] & (WAIT_RESERVED0 | WAIT_IF | WAIT_PD)) | (d[1] & WAIT_RESERVED1) | d[2] | d[3] || !(d[0] & WAIT_SW))
        return false;
    if (address >= unit->address_limit || !core_contains(unit->memory, address, 4))
        return false;
    core_set32_at(unit->memory->base + address, field(d[0], WAIT_STDATA));
    return true;
}

static bool execute(const struct core_unit *unit, const uint64_t *d)
{
    switch (field(d[0], IOTLB_TYPE_LO) | field(d[0], IOTLB_TYPE_HI) << 4) {
    case TYPE_IOTLB:
        return iotlb(unit, d);
    case TYPE_WAIT:
        return wait(unit, d);
    case TYPE_PASID_IOTLB:
        return pasid_iotlb(unit, d);
    default:
        return false;
    }
}

static bool is_aligned(const struct core_unit *unit, uint64_t offset)
{
    return !(offset & (unit->slot - 1)); /* 16 or 32 */
}

uint32_t core_queue_run(const struct core_unit *unit)
{
    const struct core_unit own = *unit; /* nothing written below can change it */
    uint8_t *registers = own.registers, *queue = own.memory->base + own.queue_base;
    uint64_t head = core_get_at(registers + IQH_OFFSET) & IQH_QH;
    uint64_t tail = core_get_at(registers + IQT_OFFSET) & IQT_QT;
    uint32_t executed = 0;
    if (!core_contains(own.memory, own.queue_base, own.queue_size))
        return 0;
    while (head != tail && head + own.slot <= own.queue_size && is_aligned(&own, head)) {
        uint64_t descriptor[4] = {core_get_at(queue + head), core_get_at(queue + head + 8), 0, 0};
        if (own.slot == 32) {
            descriptor[2] = core_get_at(queue + head + 16);
            descriptor[3] = core_get_at(queue + head + 24);
        }
        if (!execute(&own, descriptor))
            break;
        head = head + own.slot == own.queue_size ? 0 : head + own.slot;
        core_set_at(registers + IQH_OFFSET, head);
        executed++;
    }
    return executed;
}

int core_unit_write_iqt(const struct core_unit *unit, uint64_t tail)
{
    uint32_t status = core_get32_at(unit->registers + GSTS_OFFSET);
    uint32_t faults = core_get32_at(unit->registers + FSTS_OFFSET);
    if (!(status & GSTS_QIES) || faults & FSTS_IQE || tail & ~IQT_QT || tail >= unit->queue_size ||
        !is_aligned(unit, tail))
        return 0;
    core_set_at(unit->registers + IQT_OFFSET, tail);
    core_queue_run(unit);
    return core_get_at(unit->registers + IQH_OFFSET) == tail;
}
