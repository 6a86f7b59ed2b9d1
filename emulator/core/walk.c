/* One walk: second-stage, first-stage, nested or none; the same as pagetables/walk.py, where each rule is explained.
 * A fault names the last entry that the deciding stage read; a check of an address alone names none. */
#include "iotlb.h"
#include "tables.h"

#define INTERRUPT_START UINT64_C(0xfee00000)
#define INTERRUPT_END UINT64_C(0xfef00000)
#define ATTEMPTS 8 /* of a walk whose entries change under its hands */

struct walk {
    const struct core_memory *memory;
    const struct core_space *space;
    uint64_t iova;
    uint32_t access;
    uint32_t flags;
    uint64_t at; /* the entry that a fault names; none if level is 0 */
    uint32_t level;
    struct core_iotlb *caches; /* its paging-structure caches are used; or a null pointer */
    uint64_t first_tag;        /* of their entries */
    uint64_t second_tag;
};

/* Where one stage led. */
struct leaf {
    uint64_t gpa;
    uint64_t at;
    uint64_t entry;
    uint32_t level;
    uint32_t shift;
    uint32_t permissions;
};

static bool has(const struct walk *walk, uint32_t flag)
{
    return walk->flags & flag;
}

static uint32_t fault(struct walk *walk, uint32_t reason, const struct leaf *leaf)
{
    walk->at = leaf ? leaf->at : 0;
    walk->level = leaf ? leaf->level : 0;
    return reason;
}

static uint32_t by_mode(const struct walk *walk, uint32_t legacy, uint32_t scalable)
{
    return has(walk, CORE_LEGACY) ? legacy : scalable;
}

/* Read the next entry of a stage into `leaf`; 0 or the reason why it leads nowhere. */
static uint32_t read_entry(struct walk *walk, const struct core_stage *stage, uint64_t table, uint64_t input,
                           struct leaf *leaf, uint32_t root_access, uint32_t entry_access)
{
    leaf->at = entry_address(table, input, leaf->level);
    leaf->shift = level_shift(leaf->level);
    if (core_load(walk->memory, leaf->at, &leaf->entry))
        return 0;
    return fault(walk, leaf->level == stage->levels ? root_access : entry_access, leaf);
}

static bool is_leaf(const struct core_stage *stage, const struct leaf *leaf)
{
    return leaf->level == 1 || leaf->entry & stage->large[leaf->level];
}

static bool reserved(const struct core_stage *stage, const struct leaf *leaf)
{
    const uint64_t *masks = is_leaf(stage, leaf) ? stage->leaf_reserved : stage->table_reserved;
    return leaf->entry & masks[leaf->level];
}

static void enter_page(struct leaf *leaf, uint64_t input)
{
    uint64_t offset = (UINT64_C(1) << leaf->shift) - 1;
    leaf->gpa = (leaf->entry & SS_PTE_ADDR & ~offset) | (input & offset);
}

static bool set_bits(struct walk *walk, struct leaf *leaf, uint64_t bits)
{
    if (!core_exchange(walk->memory, leaf->at, leaf->entry, leaf->entry | bits))
        return false;
    leaf->entry |= bits;
    return true;
}

/* -- paging-structure caches ---------------------------------------------------------------------------------------- */

#define TABLE_PERMISSIONS 0xfu

/* Where to start: below the lowest cached entry on the way of `input`, or at the root. */
static void resume(const struct walk *walk, uint64_t tag, uint64_t input, uint32_t levels, struct leaf *leaf,
                   uint64_t *table, uint32_t *granted)
{
    for (uint32_t level = 2; level <= levels; level++) {
        uint64_t whole = tag | (uint64_t)level << TAG_PAGE_SHIFT_SHIFT, page = input >> level_shift(level);
        const struct core_entry *entry = iotlb_table(walk->caches, whole, page);
        if (entry->tag == whole && entry->page == page) {
            *table = table_of(entry->gpa);
            *granted = entry->gpa & TABLE_PERMISSIONS;
            leaf->level = level - 1;
            return;
        }
    }
}

static void keep_table(struct walk *walk, uint64_t tag, uint64_t input, const struct leaf *leaf, uint32_t granted)
{
    uint64_t whole = tag | (uint64_t)leaf->level << TAG_PAGE_SHIFT_SHIFT, page = input >> leaf->shift;
    struct core_entry *entry = iotlb_table(walk->caches, whole, page);
    walk->caches->table_count += !entry->tag;
    *entry = (struct core_entry){whole, page, table_of(leaf->entry) | (granted & TABLE_PERMISSIONS)};
}

/* -- second stage -------------------------------------------------------------------------------------------------- */

static bool executes(const struct walk *walk)
{
    return has(walk, CORE_SS_EXECUTE) && walk->access & CORE_EXECUTE;
}

static uint32_t mark_second(struct walk *walk, struct leaf *leaf, uint64_t bits)
{
    if (!has(walk, CORE_SS_ACCESSED_DIRTY) || (leaf->entry & bits) == bits)
        return 0;
    if (!has(walk, CORE_UPDATE_SNOOPED))
        return fault(walk, FAULT_SS_UPDATE_NOT_SNOOPED, leaf);
    return set_bits(walk, leaf, bits) ? 0 : fault(walk, FAULT_SS_UPDATE_FAILED, leaf);
}

static uint32_t not_present(const struct walk *walk)
{
    uint32_t denied = walk->access & CORE_WRITE ? FAULT_WRITE_DENIED : FAULT_READ_DENIED;
    return by_mode(walk, denied, FAULT_SM_SS_NOT_PRESENT);
}

/* Tables only: rights are gathered, not judged. */
static uint32_t second_stage(struct walk *walk, uint64_t input, struct leaf *leaf)
{
    const struct core_stage *stage = &walk->space->second;
    uint64_t present = SS_R | SS_W | (executes(walk) ? SS_X : 0);
    uint64_t table = stage->root;
    uint32_t granted = CORE_PERMISSION_R | CORE_PERMISSION_W | CORE_PERMISSION_X;
    leaf->level = stage->levels;
    if (walk->caches)
        resume(walk, walk->second_tag, input, stage->levels, leaf, &table, &granted);
    for (;; leaf->level--) {
        uint32_t reason = read_entry(walk, stage, table, input, leaf,
                                     by_mode(walk, FAULT_CONTEXT_INVALID, FAULT_SM_SS_ROOT_ACCESS),
                                     by_mode(walk, FAULT_SS_ENTRY_ACCESS, FAULT_SM_SS_ENTRY_ACCESS));
        if (reason)
            return reason;
        if (!(leaf->entry & present))
            return fault(walk, not_present(walk), leaf);
        if (reserved(stage, leaf))
            return fault(walk, by_mode(walk, FAULT_SS_ENTRY_RESERVED, FAULT_SM_SS_RESERVED), leaf);
        granted &= (uint32_t)leaf->entry; /* R, W and X stand where the permissions have them */
        reason = mark_second(walk, leaf, SS_A);
        if (reason)
            return reason;
        if (is_leaf(stage, leaf))
            break;
        table = table_of(leaf->entry);
        if (walk->caches && leaf->entry & (SS_R | SS_W)) /* X alone is present to some requests only */
            keep_table(walk, walk->second_tag, input, leaf, granted);
    }
    enter_page(leaf, input);
    if (!has(walk, CORE_SS_EXECUTE)) /* X bits are ignored: to execute takes what to read takes */
        granted = (granted & ~CORE_PERMISSION_X) | (granted & CORE_PERMISSION_R ? CORE_PERMISSION_X : 0);
    leaf->permissions = granted;
    return 0;
}

static bool usable(const struct walk *walk, uint32_t granted)
{
    return granted & (CORE_PERMISSION_R | CORE_PERMISSION_W | (executes(walk) ? CORE_PERMISSION_X : 0));
}

static uint32_t denied_by_second(const struct walk *walk, uint32_t granted)
{
    uint32_t missing = walk->access & ~granted;
    if (!has(walk, CORE_LEGACY) && !usable(walk, granted))
        return FAULT_SM_SS_NOT_PRESENT;
    if (missing & CORE_PERMISSION_W)
        return by_mode(walk, FAULT_WRITE_DENIED, FAULT_SM_WRITE_DENIED);
    if (missing & CORE_PERMISSION_X && has(walk, CORE_SS_EXECUTE))
        return FAULT_EXECUTE_DENIED;
    return missing ? by_mode(walk, FAULT_READ_DENIED, FAULT_SM_READ_DENIED) : 0;
}

static uint32_t judged_second_stage(struct walk *walk, uint64_t input, struct leaf *leaf)
{
    if (input >= walk->space->input_limit)
        return fault(walk, by_mode(walk, FAULT_ADDRESS_BEYOND_WIDTH, FAULT_SM_ADDRESS_BEYOND_WIDTH), 0);
    uint32_t reason = second_stage(walk, input, leaf);
    if (reason)
        return reason;
    reason = denied_by_second(walk, leaf->permissions);
    if (reason)
        return fault(walk, reason, leaf);
    return walk->access & CORE_WRITE ? mark_second(walk, leaf, SS_D) : 0;
}

/* -- first stage --------------------------------------------------------------------------------------------------- */

static bool nested(const struct walk *walk)
{
    return walk->space->translation == CORE_NESTED;
}

static uint32_t fs_permissions(uint64_t entry)
{
    return CORE_PERMISSION_R | (entry & FS_RW ? CORE_PERMISSION_W : 0) | (entry & FS_US ? CORE_PERMISSION_USER : 0) |
           (entry & FS_XD ? 0 : CORE_PERMISSION_X);
}

/* `host` is where the second stage put the table that holds the entry. */
static uint32_t mark_first(struct walk *walk, struct leaf *leaf, struct leaf *host, uint64_t bits)
{
    if ((leaf->entry & bits) == bits)
        return 0;
    if (nested(walk) && !(host->permissions & CORE_PERMISSION_W))
        return fault(walk, FAULT_FS_UPDATE_DENIED, host);
    if (!has(walk, CORE_UPDATE_SNOOPED))
        return fault(walk, FAULT_FS_UPDATE_NOT_SNOOPED, leaf);
    uint32_t reason = nested(walk) ? mark_second(walk, host, SS_D) : 0;
    if (reason)
        return reason;
    return set_bits(walk, leaf, bits) ? 0 : fault(walk, FAULT_FS_UPDATE_FAILED, leaf);
}

static uint32_t host_table(struct walk *walk, uint64_t table, bool top, struct leaf *host)
{
    if (table >= walk->space->input_limit)
        return fault(walk, FAULT_FS_TABLE_BEYOND_WIDTH, 0);
    uint32_t reason = second_stage(walk, table, host);
    if (reason)
        return reason;
    if (!usable(walk, host->permissions))
        return fault(walk, FAULT_SM_SS_NOT_PRESENT, host);
    if (!(host->permissions & CORE_PERMISSION_R))
        return fault(walk, top ? FAULT_FS_ROOT_READ_DENIED : FAULT_FS_TABLE_READ_DENIED, host);
    return 0;
}

/* What the entries grant, as the source's switches and the request's privilege see it. */
static uint32_t effective(const struct walk *walk, uint32_t granted)
{
    bool supervisor = has(walk, CORE_PRIVILEGED);
    if (supervisor && !has(walk, CORE_WRITE_PROTECT))
        granted |= CORE_PERMISSION_W;
    if (!has(walk, CORE_NO_EXECUTE))
        granted |= CORE_PERMISSION_X;
    if (supervisor && has(walk, CORE_SMEP) && granted & CORE_PERMISSION_USER)
        granted &= ~(uint32_t)CORE_PERMISSION_X;
    return granted;
}

static uint32_t first_stage(struct walk *walk, struct leaf *leaf, struct leaf *host)
{
    const struct core_stage *stage = &walk->space->first;
    uint64_t marks = FS_A | (has(walk, CORE_EXTENDED_ACCESSED) ? FS_EA : 0);
    uint64_t table = stage->root;
    uint32_t granted = ~0u;
    leaf->level = stage->levels;
    if (walk->caches)
        resume(walk, walk->first_tag, walk->iova, stage->levels, leaf, &table, &granted);
    for (;; leaf->level--) {
        uint32_t reason = nested(walk) ? host_table(walk, table, leaf->level == stage->levels, host) : 0;
        if (!reason)
            reason = read_entry(walk, stage, nested(walk) ? host->gpa : table, walk->iova, leaf, FAULT_FS_ROOT_ACCESS,
                                FAULT_FS_ENTRY_ACCESS);
        if (reason)
            return reason;
        if (!(leaf->entry & FS_P))
            return fault(walk, FAULT_FS_NOT_PRESENT, leaf);
        if (reserved(stage, leaf))
            return fault(walk, FAULT_FS_RESERVED, leaf);
        granted &= fs_permissions(leaf->entry);
        reason = mark_first(walk, leaf, host, marks);
        if (reason)
            return reason;
        if (is_leaf(stage, leaf))
            break;
        table = table_of(leaf->entry);
        if (walk->caches)
            keep_table(walk, walk->first_tag, walk->iova, leaf, granted);
    }
    enter_page(leaf, walk->iova);
    leaf->permissions = effective(walk, granted);
    return 0;
}

static uint32_t denied_by_first(const struct walk *walk, uint32_t granted)
{
    uint32_t missing = walk->access & ~granted;
    if (!has(walk, CORE_PRIVILEGED) && !(granted & CORE_PERMISSION_USER))
        return FAULT_USER_DENIED;
    if (missing & CORE_PERMISSION_X)
        return FAULT_EXECUTE_DENIED;
    return missing & CORE_PERMISSION_W ? FAULT_SM_WRITE_DENIED : 0;
}

static uint32_t judged_first_stage(struct walk *walk, struct leaf *leaf)
{
    struct leaf host = {0};
    uint32_t width = level_shift(walk->space->first.levels + 1);
    uint64_t sign = walk->iova >> (width - 1);
    if (sign && sign != (UINT64_C(1) << (65 - width)) - 1)
        return fault(walk, FAULT_NOT_CANONICAL, 0);
    uint32_t reason = first_stage(walk, leaf, &host);
    if (reason)
        return reason;
    reason = denied_by_first(walk, leaf->permissions);
    if (reason)
        return fault(walk, reason, leaf);
    return walk->access & CORE_WRITE ? mark_first(walk, leaf, &host, FS_D) : 0;
}

/* -- the whole ----------------------------------------------------------------------------------------------------- */

static uint32_t pass_through(struct walk *walk, struct leaf *leaf)
{
    if (walk->iova >= walk->space->address_limit)
        return fault(walk, by_mode(walk, FAULT_ADDRESS_BEYOND_WIDTH, FAULT_SM_ADDRESS_BEYOND_HAW), 0);
    *leaf = (struct leaf){
        .gpa = walk->iova,
        .shift = PAGE_SHIFT,
        .permissions = CORE_PERMISSION_R | CORE_PERMISSION_W | CORE_PERMISSION_X,
    };
    return 0;
}

static uint32_t walk_stages(struct walk *walk, struct leaf *leaf)
{
    if (walk->space->translation == CORE_PASS_THROUGH)
        return pass_through(walk, leaf);
    if (walk->space->translation == CORE_SECOND_STAGE)
        return judged_second_stage(walk, walk->iova, leaf);
    uint32_t reason = judged_first_stage(walk, leaf);
    if (reason || !nested(walk))
        return reason;
    struct leaf first = *leaf;
    reason = judged_second_stage(walk, first.gpa, leaf);
    if (first.shift < leaf->shift)
        leaf->shift = first.shift;
    leaf->permissions = (leaf->permissions | CORE_PERMISSION_USER) & first.permissions; /* second stage: no users */
    return reason;
}

static uint32_t answer(struct walk *walk, struct leaf *leaf)
{
    uint32_t reason = walk_stages(walk, leaf);
    if (reason)
        return reason;
    uint64_t start = leaf->gpa >> leaf->shift << leaf->shift;
    if (start < INTERRUPT_END && start + (UINT64_C(1) << leaf->shift) > INTERRUPT_START)
        return fault(walk, by_mode(walk, FAULT_OUTPUT_IN_INTERRUPT_RANGE, FAULT_SM_OUTPUT_IN_INTERRUPT_RANGE), leaf);
    return 0;
}

static void run(struct walk *walk, bool privileged, struct core_answer *ret)
{
    struct leaf leaf = {0};
    uint32_t reason = 0;
    if (privileged)
        walk->flags |= CORE_PRIVILEGED;
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        reason = answer(walk, &leaf);
        if (reason != FAULT_SS_UPDATE_FAILED && reason != FAULT_FS_UPDATE_FAILED)
            break;
    }
    *ret = reason ? (struct core_answer){walk->at, (uint8_t)reason, (uint8_t)walk->level, 0, 0}
                  : (struct core_answer){leaf.gpa, 0, 0, (uint8_t)leaf.shift, (uint8_t)leaf.permissions};
}

void core_walk(const struct core_memory *memory, const struct core_space *space, const struct core_request *request,
               struct core_answer *ret)
{
    struct walk walk = {memory, space, request->iova, request->access, space->flags, 0, 0, 0, 0, 0};
    run(&walk, request->privileged, ret);
}

void core_walk_with_tables(struct core_iotlb *iotlb, uint64_t tag, const struct core_memory *memory,
                           const struct core_space *space, const struct core_request *request,
                           struct core_answer *ret)
{
    uint64_t first = (tag & (0xffff | TAG_DOMAIN | TAG_PASID)) | (uint64_t)CORE_FIRST_STAGE << TAG_TRANSLATION_SHIFT;
    uint64_t second = (tag & TAG_DOMAIN) | (uint64_t)CORE_SECOND_STAGE << TAG_TRANSLATION_SHIFT;
    struct walk walk = {memory, space, request->iova, request->access, space->flags, 0, 0, iotlb, first, second};
    run(&walk, request->privileged, ret);
}
