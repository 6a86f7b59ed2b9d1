/* The native engine: everything Python may call. Without its preprocessor lines this file is also the text given to
 * cffi. Nothing here allocates or keeps state of its own; whatever comes from a guest is bounds-checked; a result in a
 * last parameter `ret` is written only on success. */
#ifndef VTD_CORE_H
#define VTD_CORE_H
#include <stdint.h>

/* SHA-256 of the layouts this core was compiled from. */
const char *core_layout_digest(void);

/* Does nothing: what a call itself costs. */
void core_nothing(void);

/* -- memory ------------------------------------------------------------------------------------------------------ */

struct core_region {
    uint64_t start;
    uint64_t size;
};

struct core_memory {
    uint8_t *base; /* host address of physical address 0 */
    const struct core_region *regions;
    uint32_t region_count;
    uint32_t fixed_count;
    const struct core_region *fixed; /* where entries cannot be updated */
};

/* -- walk -------------------------------------------------------------------------------------------------------- */

enum core_access { CORE_READ = 1, CORE_WRITE = 2, CORE_EXECUTE = 4 };
enum core_permission { CORE_PERMISSION_R = 1, CORE_PERMISSION_W = 2, CORE_PERMISSION_X = 4, CORE_PERMISSION_USER = 8 };
enum core_translation { CORE_FIRST_STAGE = 1, CORE_SECOND_STAGE = 2, CORE_NESTED = 3, CORE_PASS_THROUGH = 4 };
enum core_pasid { CORE_NO_PASID = 0x100000 };
enum core_space_flag {
    CORE_LEGACY = 0x001,
    CORE_SS_ACCESSED_DIRTY = 0x002,
    CORE_SS_EXECUTE = 0x004,
    CORE_WRITE_PROTECT = 0x008,
    CORE_NO_EXECUTE = 0x010,
    CORE_SMEP = 0x020,
    CORE_EXTENDED_ACCESSED = 0x040,
    CORE_UPDATE_SNOOPED = 0x080, /* accessed and dirty bits may be written */
    CORE_PRIVILEGED = 0x100
};

/* One stage of tables; the arrays are indexed by level. `large`: the PS bit where a level may map pages, else 0. */
struct core_stage {
    uint64_t root;
    uint64_t table_reserved[6];
    uint64_t leaf_reserved[6];
    uint64_t large[6];
    uint32_t levels;
};

/* Where a source's requests are translated, with what the unit's capabilities make reserved and too large. */
struct core_space {
    struct core_stage first;
    struct core_stage second;
    uint64_t input_limit;   /* first second-stage input that is too large */
    uint64_t address_limit; /* first address beyond the host address width */
    uint32_t flags;
    uint32_t translation;
    uint32_t domain_id;
    uint32_t rid_pasid; /* whose tables these are for requests without PASID */
};

struct core_request {
    uint64_t iova;
    uint32_t access;
    uint32_t pasid; /* CORE_NO_PASID for a request without PASID */
    uint16_t source_id;
    uint8_t privileged;
};

/* reason 0: `address` is the GPA. Otherwise a fault; `address` is the entry that decided, of `level`, where there is
 * one: level 0 is a check of an address alone. */
struct core_answer {
    uint64_t address;
    uint8_t reason;
    uint8_t level;
    uint8_t page_shift;
    uint8_t permissions;
};

void core_walk(const struct core_memory *memory, const struct core_space *space, const struct core_request *request,
               struct core_answer *ret);

/* The same for `count` addresses; everything else as in `request`. */
void core_walk_many(const struct core_memory *memory, const struct core_space *space,
                    const struct core_request *request, const uint64_t *iovas, uint64_t count,
                    struct core_answer *ret);

/* -- IOTLB ------------------------------------------------------------------------------------------------------- */

/* A tag holds, from bit 0: source-id 16, domain-id 16, PASID 20, without-PASID 1, privileged 1, translation type 3,
 * page shift 6. 0 is a free entry. The low bits of `gpa` are permissions (3:0) and dirty (4). */
struct core_entry {
    uint64_t tag;
    uint64_t page;
    uint64_t gpa;
};

/* entries[sets * ways], victims[sets]. counts[t][s]: entries of translation type t and page size s (4 KiB, 2 MiB,
 * 1 GiB); total[s]: of all types. A fill at `limit` entries (0: no limit) empties the cache first.
 * tables[1 << table_bits]: the paging-structure caches, or a null pointer. There the page-shift bits of a tag hold the
 * level, the type is the stage, a second-stage tag has no requester, and `gpa` is the table that the entry leads to. */
struct core_iotlb {
    struct core_entry *entries;
    uint8_t *victims;
    struct core_entry *tables;
    uint32_t set_bits;
    uint32_t ways;
    uint32_t table_bits;
    uint32_t table_count; /* entries in use */
    uint64_t limit;
    uint64_t compared; /* low bits of 4 KiB page numbers: all that an invalidation of pages compares; 0: it does not */
    uint64_t counts[5][3];
    uint64_t total[3];
};

/* The entry that serves the request, whatever it permits; 0 if there is none. */
int core_iotlb_lookup(const struct core_iotlb *iotlb, uint64_t tag, uint64_t iova, struct core_entry *ret);
void core_iotlb_fill(struct core_iotlb *iotlb, const struct core_entry *entry);
void core_iotlb_invalidate_all(struct core_iotlb *iotlb);
void core_iotlb_invalidate_domain(struct core_iotlb *iotlb, uint32_t domain_id);
/* `hint`: only leaves changed, so that paging-structure entries may stay. */
void core_iotlb_invalidate_pages(struct core_iotlb *iotlb, uint32_t domain_id, uint64_t address, uint32_t mask,
                                 uint32_t hint);
void core_iotlb_invalidate_pasid(struct core_iotlb *iotlb, uint32_t domain_id, uint32_t pasid);
void core_iotlb_invalidate_pasid_pages(struct core_iotlb *iotlb, uint32_t domain_id, uint32_t pasid, uint64_t address,
                                       uint32_t mask, uint32_t hint);

/* core_walk with the paging-structure caches of `iotlb`: it starts below the lowest entry that they know, and leaves
 * there what it reads. `tag` is the request's,
 * without page shift. */
void core_walk_with_tables(struct core_iotlb *iotlb, uint64_t tag, const struct core_memory *memory,
                           const struct core_space *space, const struct core_request *request,
                           struct core_answer *ret);

void core_translate(struct core_iotlb *iotlb, const struct core_memory *memory, const struct core_space *space,
                    const struct core_request *request, struct core_answer *ret);
void core_translate_many(struct core_iotlb *iotlb, const struct core_memory *memory, const struct core_space *space,
                         const struct core_request *request, const uint64_t *iovas, uint64_t count,
                         struct core_answer *ret);

/* -- map and unmap ------------------------------------------------------------------------------------------------ */

enum core_status {
    CORE_DONE = 0,
    CORE_NEED_PAGE = 1,      /* put a page into `pages` and call ..._more */
    CORE_NEED_ROOM = 2,      /* make `freed` or `undo` larger and call ..._more */
    CORE_ALREADY_MAPPED = 3, /* at iova `at`, by a leaf of `level` */
    CORE_NOT_MAPPED = 4,     /* nothing at iova `at` */
    CORE_IN_THE_MIDDLE = 5,  /* iova `at` lies in the middle of a leaf of `level` */
    CORE_NO_FIT = 6,         /* no allowed page size fits at iova `at` */
    CORE_CANNOT_SPLIT = 7,   /* the leaf of `level` at iova `at` */
    CORE_NO_MEMORY = 8,      /* `at` is a physical address, `level` the bytes wanted there */
    CORE_BAD_RANGE = 9       /* iova `at`, or what it would map to, is no page or out of reach */
};

struct core_list {
    uint64_t *items;
    uint32_t count;
    uint32_t capacity;
};

/* One set of tables as software sees it; the last fields say where a call stands. */
struct core_mapper {
    const struct core_memory *memory;
    uint64_t root;
    uint64_t limit; /* first address that the tables cannot map */
    uint32_t levels;
    uint32_t leaf_levels; /* bit n: level n may map a page */
    uint32_t first_stage;
    uint64_t present;
    uint64_t link;         /* of an entry that points to a table */
    uint64_t leaf[4];      /* of a leaf, by permissions R and W */
    struct core_list pages; /* taken from the end */
    struct core_list freed; /* table pages no longer linked, in order */
    struct core_list undo;  /* pairs: address of an entry, what stood there */
    uint64_t iova;
    uint64_t gpa;
    uint64_t size;
    uint64_t done;  /* bytes */
    uint64_t total; /* bytes that core_unmap_many removed */
    uint64_t at;
    uint32_t level;
    uint32_t permissions;
    /* Whether level 1 tables that were met are kept below: only while nobody else touches the tables. */
    uint32_t remembering;
    uint64_t regions[8];       /* iova >> 21, at its own low bits; all ones: none */
    uint64_t region_tables[8];
};

int core_map(struct core_mapper *mapper, uint64_t iova, uint64_t gpa, uint64_t size, uint32_t permissions);
int core_map_more(struct core_mapper *mapper);
/* Takes back the leaves of a map that did not finish; tables stay linked. */
void core_map_undo(struct core_mapper *mapper);

/* Removes what is mapped from iova on, up to the first hole or the end: `done` bytes. */
int core_unmap(struct core_mapper *mapper, uint64_t iova, uint64_t size);
int core_unmap_more(struct core_mapper *mapper);

int core_split(struct core_mapper *mapper, uint64_t iova);

/* Pages of 4 KiB, from index *position on; *position is then the first one not done. */
int core_map_many(struct core_mapper *mapper, const uint64_t *iovas, const uint64_t *gpas, uint64_t count,
                  uint32_t permissions, uint64_t *position);
int core_unmap_many(struct core_mapper *mapper, const uint64_t *iovas, uint64_t count, uint64_t *position);

/* -- invalidation queue ------------------------------------------------------------------------------------------ */

/* What executing the queue needs; IQH and IQT are in the register bytes. */
struct core_unit {
    const struct core_memory *memory;
    struct core_iotlb *iotlb;
    uint8_t *registers;
    uint64_t queue_base;
    uint32_t queue_size; /* bytes */
    uint32_t slot;       /* bytes of a descriptor: 16 or 32 */
    uint64_t address_limit;
    uint32_t mask_limit; /* first address mask that a page-selective IOTLB invalidation may not have; 0 without PSI */
};

/* Executes common descriptors from IQH on, advancing IQH; stops at IQT, or before one that is left to Python. Returns
 * how many it executed. */
uint32_t core_queue_run(const struct core_unit *unit);
/* Software's write of IQT, with what follows from it. 1 if the queue is empty afterwards; 0 if the unit in Python has
 * to be written to instead: the queue is off or in error, the tail is no place in it, or a descriptor was left. */
int core_unit_write_iqt(const struct core_unit *unit, uint64_t tail);

/* -- replay ------------------------------------------------------------------------------------------------------ */

enum core_event { CORE_MAP = 1, CORE_UNMAP = 2 };
enum core_stop {
    CORE_STOP_END = 0,      /* every event is done */
    CORE_STOP_LEFT = 1,     /* event `position` is for Python: nothing of it was done but tables linked */
    CORE_STOP_DEADLINE = 2, /* event `position` is at or after the deadline, and not done */
    CORE_STOP_FREED = 3,    /* the last event is done but for the pages in its mapper's `freed` */
    CORE_STOP_QUEUE = 4     /* as FREED, and its descriptors are in the queue, IQT not yet accepted */
};

/* Events as columns of equal length. `access`: R and W, 0 unknown; `leaf_levels`: bit n for level n + 1, 0 as the
 * domain has it. */
struct core_events {
    const uint8_t *kind;
    const uint32_t *space;
    const uint64_t *iova;
    const uint64_t *gpa;
    const uint64_t *size;
    const uint8_t *access;
    const uint8_t *leaf_levels;
    const uint64_t *time;
};

/* One domain of the trace; without a mapper its events are left to Python. */
struct core_domain {
    struct core_mapper *mapper;
    uint64_t iova_limit;
    uint64_t gpa_limit;
    uint32_t domain_id;
};

/* The software side of the queue, strict invalidation, and what it did. */
struct core_driver {
    const struct core_unit *unit;
    uint64_t queue_base;
    uint64_t status;
    uint32_t queue_size;
    uint32_t slot;
    uint32_t tail;
    uint32_t sequence;
    uint32_t mask_limit;  /* as that of the unit */
    uint32_t always;      /* permissions that every mapping gets */
    uint64_t iotlb;       /* first qwords of descriptors, without granularity and domain-id */
    uint64_t pasid_iotlb;
    uint64_t wait;
    uint64_t maps;
    uint64_t unmaps;
    uint64_t unknown_access;
    uint64_t page_invalidations;
    uint64_t domain_invalidations;
    uint64_t pasid_page_invalidations;
    uint64_t pasid_invalidations;
};

/* Maps and unmaps from event *position to before event `end`, each unmap followed by its invalidation and a wait. */
int core_replay(struct core_driver *driver, const struct core_domain *domains, uint32_t domain_count,
                const struct core_events *events, uint64_t end, uint64_t deadline, uint64_t *position);

/* -- listing ------------------------------------------------------------------------------------------------------ */

/* Physical memory from `start` on that stands in a buffer at `offset`. */
struct core_stretch {
    uint64_t start;
    uint64_t size;
    uint64_t offset;
};

struct core_held {
    const uint8_t *buffer;
    uint64_t size;
    const struct core_stretch *stretches; /* ascending and disjoint */
    uint32_t stretch_count;
};

/* How leaves of level 1 are read: masks, and the rights that each combination of the deciding bits grants. */
struct core_leaf_rules {
    uint64_t present;
    uint64_t reserved;
    uint64_t address;
    uint64_t deciding;
    uint64_t keys[16];
    uint8_t rights[16];
    uint32_t key_count;
};

/* Columns with room for every entry of the tables of a call. `pages`: the first of each run, counted from the first
 * table; `lengths` in pages; `separate`: how many runs there are if each table is taken for itself. */
struct core_runs {
    uint64_t *gpas;
    uint16_t *pages;
    uint16_t *lengths;
    uint8_t *rights;
    uint32_t capacity;
    uint32_t count;
    uint32_t leaves;
    uint32_t separate;
};

/* The runs of up to 64 tables, the n-th of which is neighbours[n] (ascending, below 64) tables behind the first. 0 if
 * one of them is not held whole, or has a reserved bit set: the counts are as before. */
int core_list_leaves(const struct core_held *held, const struct core_leaf_rules *rules, const uint64_t *tables,
                     const uint16_t *neighbours, uint32_t count, struct core_runs *ret);
#endif
