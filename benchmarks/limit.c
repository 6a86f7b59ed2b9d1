/* The least work that gives the same result, in plain C: what the core is measured against. No checks, no errors. */
#include <stdint.h>
#include <string.h>

#define ADDRESS UINT64_C(0xffffffffff000)

static uint64_t load(const uint8_t *base, uint64_t at)
{
    uint64_t value;
    memcpy(&value, base + at, 8);
    return value;
}

static void store(uint8_t *base, uint64_t at, uint64_t value)
{
    memcpy(base + at, &value, 8);
}

static uint64_t entry_at(uint64_t table, uint64_t iova, int shift)
{
    return table + 8 * (iova >> shift & 511);
}

static uint64_t leaf_table(const uint8_t *base, uint64_t root, uint64_t iova)
{
    uint64_t table = load(base, entry_at(root, iova, 39)) & ADDRESS;
    table = load(base, entry_at(table, iova, 30)) & ADDRESS;
    return load(base, entry_at(table, iova, 21)) & ADDRESS;
}

void limit_nothing(void)
{
}

/* Four dependent loads for each address. */
void limit_walk(const uint8_t *base, uint64_t root, const uint64_t *iovas, uint64_t count, uint64_t *ret)
{
    for (uint64_t i = 0; i < count; i++) {
        uint64_t entry = load(base, entry_at(leaf_table(base, root, iovas[i]), iovas[i], 12));
        ret[i] = (entry & ADDRESS) | (iovas[i] & 4095);
    }
}

/* slots[2 * (set * 4 + way)]: key (page and domain-id in one word), then the page's address. No branch over 4 ways. */
void limit_probe(const uint64_t *slots, uint64_t bits, uint64_t domain, const uint64_t *iovas, uint64_t count,
                 uint64_t *ret)
{
    for (uint64_t i = 0; i < count; i++) {
        uint64_t page = iovas[i] >> 12;
        uint64_t key = page | domain << 48;
        const uint64_t *way = slots + 8 * ((page ^ page >> bits ^ domain) & ((UINT64_C(1) << bits) - 1));
        uint64_t found = 0;
        for (int n = 0; n < 4; n++)
            found = way[2 * n] == key ? way[2 * n + 1] : found;
        ret[i] = found | (iovas[i] & 4095);
    }
}

/* An entry store for each page; the walk to the table is repeated only where the table changes. */
void limit_map(uint8_t *base, uint64_t root, const uint64_t *iovas, const uint64_t *gpas, uint64_t count)
{
    uint64_t region = ~UINT64_C(0), table = 0;
    for (uint64_t i = 0; i < count; i++) {
        if (iovas[i] >> 21 != region) {
            region = iovas[i] >> 21;
            table = leaf_table(base, root, iovas[i]);
        }
        store(base, entry_at(table, iovas[i], 12), gpas[i] | 3);
    }
}

void limit_unmap(uint8_t *base, uint64_t root, const uint64_t *iovas, uint64_t count)
{
    uint64_t region = ~UINT64_C(0), table = 0;
    for (uint64_t i = 0; i < count; i++) {
        if (iovas[i] >> 21 != region) {
            region = iovas[i] >> 21;
            table = leaf_table(base, root, iovas[i]);
        }
        store(base, entry_at(table, iovas[i], 12), 0);
    }
}

/* What the events of a strict replay load and store: the entries; for each unmap two descriptors, IQT, the fetch of
 * both, IQH, and the status word, written and polled. Pages of 4 KiB, one domain for each space. */
uint64_t limit_replay(uint8_t *base, uint8_t *registers, const uint64_t *roots, uint64_t queue, uint64_t status,
                      const uint8_t *kind, const uint32_t *space, const uint64_t *iova, const uint64_t *gpa,
                      uint64_t count)
{
    uint64_t tail = 0, sequence = 0, check = 0;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t at = entry_at(leaf_table(base, roots[space[i]], iova[i]), iova[i], 12);
        if (kind[i] == 1) {
            store(base, at, gpa[i] | 3);
            continue;
        }
        check += load(base, at);
        store(base, at, 0);
        uint64_t first = queue + tail, second = queue + (tail + 16) % 4096;
        store(base, first, 0x32 | (uint64_t)(space[i] + 2) << 16);
        store(base, first + 8, iova[i]);
        store(base, second, 0x25 | ++sequence << 32);
        store(base, second + 8, status);
        tail = (tail + 32) % 4096;
        store(registers, 0x88, tail);
        check += load(base, first) + load(base, first + 8);
        uint32_t word = (uint32_t)(load(base, second) >> 32);
        memcpy(base + load(base, second + 8), &word, 4);
        store(registers, 0x80, tail);
        memcpy(&word, base + status, 4);
        check += word;
    }
    return check;
}

/* Everything mapped below a 4-level table of 4 KiB pages: address, page, size and rights of each run; how many. */
uint64_t limit_list(const uint8_t *base, uint64_t root, uint64_t *ret)
{
    uint64_t *run = ret - 4;
    for (uint64_t top = 0; top < 512 * 512 * 512; top++) {
        uint64_t iova = top << 21;
        uint64_t upper = load(base, entry_at(root, iova, 39));
        uint64_t middle = upper & 3 ? load(base, entry_at(upper & ADDRESS, iova, 30)) : 0;
        uint64_t lower = middle & 3 ? load(base, entry_at(middle & ADDRESS, iova, 21)) : 0;
        if (!(lower & 3)) {
            top |= upper & 3 ? middle & 3 ? 0 : 511 : 512 * 512 - 1;
            continue;
        }
        for (uint64_t i = 0; i < 512; i++, iova += 4096) {
            uint64_t entry = load(base, (lower & ADDRESS) + 8 * i);
            if (!(entry & 3))
                continue;
            if (run >= ret && run[0] + run[2] == iova && run[1] + run[2] == (entry & ADDRESS) && run[3] == (entry & 3)) {
                run[2] += 4096;
                continue;
            }
            run += 4;
            run[0] = iova, run[1] = entry & ADDRESS, run[2] = 4096, run[3] = entry & 3;
        }
    }
    return (uint64_t)(run + 4 - ret) / 4;
}
