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
        core_iotlb_invalidate_pages(unit->iotlb, domain_id, d[1] & IOTLB_ADDR, mask);
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
                                          field(d[1], PASID_IOTLB_AM));
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
    core_set32(unit->memory, address, field(d[0], WAIT_STDATA));
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

uint32_t core_queue_run(const struct core_unit *unit)
{
    uint64_t head = core_register(unit->registers, IQH_OFFSET) & IQH_QH;
    uint64_t tail = core_register(unit->registers, IQT_OFFSET) & IQT_QT;
    uint32_t executed = 0;
    if (!core_contains(unit->memory, unit->queue_base, unit->queue_size))
        return 0;
    while (head != tail && head + unit->slot <= unit->queue_size && head % unit->slot == 0) {
        uint64_t descriptor[4] = {0};
        for (uint32_t i = 0; i < unit->slot / 8; i++)
            descriptor[i] = core_get(unit->memory, unit->queue_base + head + 8 * i);
        if (!execute(unit, descriptor))
            break;
        head = (head + unit->slot) % unit->queue_size;
        core_set_register(unit->registers, IQH_OFFSET, head);
        executed++;
    }
    return executed;
}

int core_unit_write_iqt(const struct core_unit *unit, uint64_t tail)
{
    uint64_t status = core_register32(unit->registers, GSTS_OFFSET);
    uint64_t faults = core_register32(unit->registers, FSTS_OFFSET);
    if (!(status & GSTS_QIES) || faults & FSTS_IQE || tail & ~IQT_QT || tail >= unit->queue_size || tail % unit->slot)
        return 0;
    core_set_register(unit->registers, IQT_OFFSET, tail);
    core_queue_run(unit);
    return core_register(unit->registers, IQH_OFFSET) == tail;
}
