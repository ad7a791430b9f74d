// Where a generation starts from: the base model, the memories of its ranks, or a committed manifest. In every case
// each rank ends with all weights, the optimizer state of its own pages, and the replicated state. Weights that are
// never trained come from the base model in every case.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "trainer/data/pins.h"
#include "trainer/run/collective.h"
#include "trainer/run/trainer.h"

enum rmj_status rmj_check_base(struct rmj_trainer *trainer, enum rmj_model_part part, struct rmj_error *err)
{
    struct rmj_digest found;
    const struct rmj_digest *pinned =
        part == RMJ_MODEL_WHOLE ? &trainer->info->base_digest : &trainer->info->companions_digest;
    enum rmj_status status = part == RMJ_MODEL_WHOLE
                                 ? rmj_model_files_digest(trainer->spec->base_model, part, &found, err)
                                 : rmj_pins_companions(trainer->spec, &found, err);
    if (status == RMJ_NOT_FOUND) {
        return rmj_fail(err, RMJ_DATA,
                        "the base model, its tokenizer or its template is gone since the job was prepared: %s",
                        err->message);
    }
    RMJ_TRY(status);
    if (!rmj_digest_equal(&found, pinned)) {
        return rmj_fail(
            err, RMJ_DATA,
            "the files of %s, or those that data.tokenizer and data.chat_template name, changed after the job "
            "was prepared: they are not those it was pinned to; put them back and submit again",
            trainer->spec->base_model);
    }
    return RMJ_OK;
}

// All weights as a job begins with them.
static enum rmj_status load_base(struct rmj_trainer *trainer, struct rmj_error *err)
{
    struct rmj_weights_options options = {.directory = trainer->spec->base_model,
                                          .config = &trainer->config,
                                          .layout = trainer->layout,
                                          .head_init = trainer->settings.head_init,
                                          .seed = trainer->settings.seed};
    trainer->has_frozen = 0;
    RMJ_TRY(rmj_weights_load(&options, trainer->weights, err));
    RMJ_TRY(rmj_check_base(trainer, RMJ_MODEL_WHOLE, err)); // after the load: what was read is what was pinned
    trainer->has_frozen = 1;
    return RMJ_OK;
}

// Memories and manifests hold what is trained; a new process reads what is frozen from the base model.
static enum rmj_status load_frozen(struct rmj_trainer *trainer, struct rmj_error *err)
{
    int frozen = trainer->layout->weight_count > trainer->layout->element_count;
    return frozen && !trainer->has_frozen ? load_base(trainer, err) : RMJ_OK;
}

static enum rmj_status resume_fresh(struct rmj_trainer *trainer, struct rmj_error *err)
{
    struct rmj_generation *gen = &trainer->generation;
    RMJ_TRY(load_base(trainer, err));
    for (uint32_t i = 0; i < gen->own_count; i++) {
        size_t size = trainer->layout->pages[gen->own_pages[i]].element_count * sizeof(float);
        memset(gen->m[gen->own_pages[i]], 0, size);
        memset(gen->v[gen->own_pages[i]], 0, size);
    }
    rmj_state_init(trainer->state, trainer->exponent_count, rmj_monitor_state_bytes(&trainer->monitor));
    return RMJ_OK;
}

static int peer_holds(const Rmjob__V1__Peer *peer, uint32_t page)
{
    for (size_t i = 0; i < peer->n_pages; i++) {
        if (page >= peer->pages[i]->first && page - peer->pages[i]->first < peer->pages[i]->count) {
            return 1;
        }
    }
    return 0;
}

// Pages from their holders' slots to their new owners.
struct memory {
    struct rmj_trainer *trainer;
    uint32_t step;
    uint32_t *holders; // [page_count]
    uint32_t state_holder;
    const void *state; // at the holder
    uint32_t next_out[RMJ_COMM_WORLD_MAX], next_in[RMJ_COMM_WORLD_MAX];
    uint8_t part_out[RMJ_COMM_WORLD_MAX], part_in[RMJ_COMM_WORLD_MAX]; // 0 w, 1 m, 2 v
    uint8_t state_out[RMJ_COMM_WORLD_MAX], state_in;
};

// The owner itself where it holds the page, else the lowest rank that does.
static enum rmj_status find_holders(struct memory *memory, const Rmjob__V1__Assignment *assignment,
                                    struct rmj_error *err)
{
    struct rmj_trainer *trainer = memory->trainer;
    uint32_t world = trainer->generation.world;
    memory->state_holder = world;
    for (uint32_t rank = world; rank-- > 0;) {
        if (assignment->peers[rank]->n_pages > 0) {
            memory->state_holder = rank;
        }
    }
    for (uint32_t page = 0; page < trainer->layout->page_count; page++) {
        uint32_t holder = trainer->page_owners[page];
        if (!peer_holds(assignment->peers[holder], page)) {
            holder = 0;
            while (holder < world && !peer_holds(assignment->peers[holder], page)) {
                holder++;
            }
        }
        if (holder == world) {
            return rmj_fail(err, RMJ_INTERNAL, "page %u of step %u is in nobody's memory", page, memory->step);
        }
        memory->holders[page] = holder;
    }
    return RMJ_OK;
}

static const float *slot_page(const struct memory *memory, uint32_t page)
{
    struct rmj_trainer *trainer = memory->trainer;
    return rmj_slots_find(&trainer->slots, memory->step, page, trainer->layout->pages[page].element_count);
}

// What this rank is to send or to take from itself must be there before anything moves.
static enum rmj_status check_own(struct memory *memory, struct rmj_error *err)
{
    struct rmj_trainer *trainer = memory->trainer;
    for (uint32_t page = 0; page < trainer->layout->page_count; page++) {
        if (memory->holders[page] == trainer->generation.rank && slot_page(memory, page) == NULL) {
            return rmj_fail(err, RMJ_CORRUPT, "snapshot of step %u does not hold page %u any more", memory->step, page);
        }
    }
    if (memory->state_holder == trainer->generation.rank) {
        memory->state = rmj_slots_find_state(&trainer->slots, memory->step, trainer->state_size);
        if (memory->state == NULL) {
            return rmj_fail(err, RMJ_CORRUPT, "snapshot of step %u does not hold the state any more", memory->step);
        }
    }
    return RMJ_OK;
}

static uint32_t next_moving(const struct memory *memory, uint32_t holder, uint32_t owner, uint32_t at)
{
    const struct rmj_trainer *trainer = memory->trainer;
    while (at < trainer->layout->page_count && (memory->holders[at] != holder || trainer->page_owners[at] != owner)) {
        at++;
    }
    return at;
}

static int memory_out(void *context, uint32_t to, const void **bytes, size_t *size)
{
    struct memory *memory = context;
    struct rmj_trainer *trainer = memory->trainer;
    if (memory->state_holder == trainer->generation.rank && memory->state_out[to]++ == 0) {
        *bytes = memory->state;
        *size = trainer->state_size;
        return 1;
    }
    memory->state_out[to] = 1;
    uint32_t page = next_moving(memory, trainer->generation.rank, to, memory->next_out[to]);
    if (page == trainer->layout->page_count) {
        return 0;
    }
    uint64_t count = trainer->layout->pages[page].element_count;
    *bytes = slot_page(memory, page) + memory->part_out[to] * count;
    *size = count * sizeof(float);
    memory->part_out[to] = (uint8_t)((memory->part_out[to] + 1) % 3);
    memory->next_out[to] = memory->part_out[to] == 0 ? page + 1 : page;
    return 1;
}

static int memory_in(void *context, uint32_t from, void **bytes, size_t *size)
{
    struct memory *memory = context;
    struct rmj_trainer *trainer = memory->trainer;
    struct rmj_generation *gen = &trainer->generation;
    if (from == memory->state_holder && !memory->state_in) {
        memory->state_in = 1;
        *bytes = trainer->state;
        *size = trainer->state_size;
        return 1;
    }
    uint32_t page = next_moving(memory, from, gen->rank, memory->next_in[from]);
    if (page == trainer->layout->page_count) {
        return 0;
    }
    float *parts[] = {trainer->weights + trainer->layout->pages[page].offset, gen->m[page], gen->v[page]};
    *bytes = parts[memory->part_in[from]];
    *size = trainer->layout->pages[page].element_count * sizeof(float);
    memory->part_in[from] = (uint8_t)((memory->part_in[from] + 1) % 3);
    memory->next_in[from] = memory->part_in[from] == 0 ? page + 1 : page;
    return 1;
}

static void memory_received(void *context, uint32_t from)
{
    (void)context;
    (void)from;
}

static void take_own(struct memory *memory)
{
    struct rmj_trainer *trainer = memory->trainer;
    struct rmj_generation *gen = &trainer->generation;
    for (uint32_t i = 0; i < gen->own_count; i++) {
        uint32_t page = gen->own_pages[i];
        if (memory->holders[page] == gen->rank) {
            uint64_t count = trainer->layout->pages[page].element_count;
            const float *from = slot_page(memory, page);
            memcpy(trainer->weights + trainer->layout->pages[page].offset, from, count * sizeof(float));
            memcpy(gen->m[page], from + count, count * sizeof(float));
            memcpy(gen->v[page], from + 2 * count, count * sizeof(float));
        }
    }
    if (memory->state_holder == gen->rank) {
        memcpy(trainer->state, memory->state, trainer->state_size);
    }
}

static enum rmj_status resume_memory(struct rmj_trainer *trainer, const Rmjob__V1__Assignment *assignment,
                                     struct rmj_error *err)
{
    struct memory memory = {.trainer = trainer, .step = assignment->step, .holders = trainer->order};
    RMJ_TRY(find_holders(&memory, assignment, err));
    RMJ_TRY(check_own(&memory, err));
    take_own(&memory);
    struct rmj_comm_exchange exchange = {&memory, memory_out, memory_in, memory_received};
    rmj_collective_note(trainer);
    RMJ_TRY(rmj_comm_exchange(trainer->generation.comm, &exchange, err));
    if (!rmj_state_is_sound(trainer->state, assignment->step, trainer->exponent_count,
                            rmj_monitor_state_bytes(&trainer->monitor))) {
        return rmj_fail(err, RMJ_CORRUPT, "rank %u sent no state of step %u", memory.state_holder, assignment->step);
    }
    return rmj_exchange_weights(trainer, err);
}

static enum rmj_status read_page(struct rmj_trainer *trainer, const struct rmj_manifest *manifest, uint32_t page,
                                 float *raw, struct rmj_error *err)
{
    struct rmj_generation *gen = &trainer->generation;
    uint64_t count = trainer->layout->pages[page].element_count;
    if (manifest->pages[page].raw_size != 3 * count * sizeof(float)) {
        return rmj_fail(err, RMJ_CORRUPT, "page %u of manifest %u has %llu bytes instead of %llu", page, manifest->step,
                        (unsigned long long)manifest->pages[page].raw_size,
                        (unsigned long long)(3 * count * sizeof(float)));
    }
    RMJ_TRY(rmj_page_get(trainer->checkpoint_store, trainer->prefix, &manifest->pages[page].digest, raw,
                         3 * count * sizeof(float), err));
    memcpy(trainer->weights + trainer->layout->pages[page].offset, raw, count * sizeof(float));
    memcpy(gen->m[page], raw + count, count * sizeof(float));
    memcpy(gen->v[page], raw + 2 * count, count * sizeof(float));
    return RMJ_OK;
}

static enum rmj_status read_state(struct rmj_trainer *trainer, const struct rmj_manifest *manifest,
                                  struct rmj_error *err)
{
    char hex[RMJ_DIGEST_HEX_SIZE], key[160];
    struct rmj_digest digest;
    rmj_digest_hex(&manifest->state, hex);
    snprintf(key, sizeof key, "%.64s/state/%s", trainer->prefix, hex);
    if (manifest->state_size != trainer->state_size) {
        return rmj_fail(err, RMJ_CORRUPT, "state of manifest %u has %llu bytes instead of %zu", manifest->step,
                        (unsigned long long)manifest->state_size, trainer->state_size);
    }
    RMJ_TRY(rmj_store_get_range(trainer->checkpoint_store, key, 0, trainer->state, trainer->state_size, err));
    rmj_sha256_of(trainer->state, trainer->state_size, &digest);
    if (!rmj_digest_equal(&digest, &manifest->state) ||
        !rmj_state_is_sound(trainer->state, manifest->step, trainer->exponent_count,
                            rmj_monitor_state_bytes(&trainer->monitor))) {
        return rmj_fail(err, RMJ_CORRUPT, "%s does not match its digest", key);
    }
    return RMJ_OK;
}

static enum rmj_status read_manifest(struct rmj_trainer *trainer, const Rmjob__V1__Assignment *assignment,
                                     struct rmj_manifest *manifest, struct rmj_error *err)
{
    struct rmj_digest digest;
    char hex[RMJ_DIGEST_HEX_SIZE];
    RMJ_TRY(rmj_manifest_read(trainer->checkpoint_store, trainer->prefix, assignment->step, manifest, &digest, err));
    rmj_digest_hex(&digest, hex);
    if (assignment->manifest == NULL || strcmp(hex, assignment->manifest) != 0) {
        return rmj_fail(err, RMJ_CORRUPT, "manifest of step %u is %s, not the one that was named", assignment->step,
                        hex);
    }
    if (manifest->page_count != trainer->layout->page_count || strcmp(manifest->plan, trainer->plan_digest) != 0) {
        return rmj_fail(err, RMJ_CORRUPT, "manifest of step %u is of another plan", assignment->step);
    }
    return RMJ_OK;
}

static enum rmj_status resume_manifest(struct rmj_trainer *trainer, const Rmjob__V1__Assignment *assignment,
                                       struct rmj_error *err)
{
    struct rmj_generation *gen = &trainer->generation;
    struct rmj_manifest manifest = {0};
    float *raw = malloc(gen->page_bytes_max * 3); // more than 3 float32 an element
    enum rmj_status status = raw == NULL ? rmj_fail(err, RMJ_NO_MEMORY, "no memory to read a page") : RMJ_OK;
    if (status == RMJ_OK) {
        status = read_manifest(trainer, assignment, &manifest, err);
    }
    if (status == RMJ_OK) {
        status = read_state(trainer, &manifest, err);
    }
    for (uint32_t i = 0; status == RMJ_OK && i < gen->own_count; i++) {
        status = read_page(trainer, &manifest, gen->own_pages[i], raw, err);
    }
    free(raw);
    rmj_manifest_deinit(&manifest);
    if ((status == RMJ_CORRUPT || status == RMJ_NOT_FOUND) && assignment->manifest != NULL) {
        snprintf(gen->bad_manifest, sizeof gen->bad_manifest, "%s", assignment->manifest);
    }
    RMJ_TRY(status);
    return rmj_exchange_weights(trainer, err);
}

enum rmj_status rmj_resume(struct rmj_trainer *trainer, const Rmjob__V1__Assignment *assignment, struct rmj_error *err)
{
    struct rmj_generation *gen = &trainer->generation;
    rmj_comm_set_deadline(gen->comm, RMJ_COLLECTIVE_MS_LONG);
    RMJ_TRY(rmj_check_base(trainer, RMJ_MODEL_COMPANIONS, err));
    switch (assignment->source) {
    case RMJOB__V1__RESUME_SOURCE__MEMORY:
        RMJ_TRY(load_frozen(trainer, err));
        RMJ_TRY(resume_memory(trainer, assignment, err));
        break;
    case RMJOB__V1__RESUME_SOURCE__MANIFEST:
        RMJ_TRY(load_frozen(trainer, err));
        RMJ_TRY(resume_manifest(trainer, assignment, err));
        break;
    default:
        RMJ_TRY(resume_fresh(trainer, err));
        break;
    }
    gen->resume_step = trainer->state->step;
    atomic_store(&rmj_link_progress(trainer->link)->step, trainer->state->step);
    rmj_log(RMJ_LOG_INFO, "rank", "event=resumed job=%s generation=%u rank=%u world=%u source=%d step=%u",
            trainer->options->job, gen->number, gen->rank, gen->world, (int)assignment->source, trainer->state->step);
    return RMJ_OK;
}
