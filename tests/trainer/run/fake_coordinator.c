#include "fake_coordinator.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/rng.h"
#include "base/status.h"
#include "proto/rpc/server.h"

enum { MEMBERS_MAX = 32, PAGES_MAX = 512, SNAPSHOTS_MAX = 4 };

struct snapshot {
    uint32_t step;
    uint8_t pages[PAGES_MAX];
};
struct member {
    struct fake *fake;
    struct rmj_call *call; // NULL: slot free
    char uid[64], address[96];
    int ready, leaving, rank; // rank in the running generation, -1: none
    struct snapshot snapshots[SNAPSHOTS_MAX];
    size_t snapshot_count;
};
struct fake {
    struct fake_options options;
    struct rmj_rpc_server *server;
    pthread_t thread;
    pthread_mutex_t lock;
    struct member members[MEMBERS_MAX];
    uint32_t wanted;
    int running, closing, stopping;
    struct fake_view view;
};

static void send_directive(struct member *member, Rmjob__V1__Directive *directive)
{
    (void)rmj_call_send(member->call, &directive->base);
}

static void send_end(struct fake *fake, struct member *member, Rmjob__V1__EndKind kind)
{
    Rmjob__V1__Directive directive = RMJOB__V1__DIRECTIVE__INIT;
    Rmjob__V1__EndGeneration end = RMJOB__V1__END_GENERATION__INIT;
    end.has_generation = end.has_kind = 1;
    end.generation = fake->view.generation;
    end.kind = kind;
    directive.kind_case = RMJOB__V1__DIRECTIVE__KIND_END_GENERATION;
    directive.end_generation = &end;
    send_directive(member, &directive);
}

static void send_leave(struct member *member, uint32_t code)
{
    Rmjob__V1__Directive directive = RMJOB__V1__DIRECTIVE__INIT;
    Rmjob__V1__Leave leave = RMJOB__V1__LEAVE__INIT;
    leave.has_exit_code = 1;
    leave.exit_code = code;
    directive.kind_case = RMJOB__V1__DIRECTIVE__KIND_LEAVE;
    directive.leave = &leave;
    send_directive(member, &directive);
}

// A member is lost or left on its own account: the others are to stop at once.
static void abort_generation(struct fake *fake)
{
    if (!fake->running) {
        return;
    }
    fake->running = 0;
    for (size_t i = 0; i < MEMBERS_MAX; i++) {
        if (fake->members[i].call != NULL && fake->members[i].rank >= 0 && !fake->members[i].ready) {
            send_end(fake, &fake->members[i], RMJOB__V1__END_KIND__ABORT);
        }
    }
}

static void stop_generation(struct fake *fake)
{
    if (!fake->running || fake->stopping) {
        return;
    }
    fake->stopping = 1;
    for (size_t i = 0; i < MEMBERS_MAX; i++) {
        if (fake->members[i].call != NULL && fake->members[i].rank >= 0) {
            send_end(fake, &fake->members[i], RMJOB__V1__END_KIND__AT_STEP);
        }
    }
}

static void take_snapshots(struct member *member, Rmjob__V1__Snapshot *const *snapshots, size_t count)
{
    member->snapshot_count = 0;
    for (size_t i = 0; i < count && i < SNAPSHOTS_MAX; i++) {
        struct snapshot *to = &member->snapshots[member->snapshot_count++];
        memset(to, 0, sizeof *to);
        to->step = snapshots[i]->step;
        for (size_t r = 0; r < snapshots[i]->n_pages; r++) {
            for (uint32_t p = 0; p < snapshots[i]->pages[r]->count; p++) {
                RMJ_ASSERT(snapshots[i]->pages[r]->first + p < PAGES_MAX);
                to->pages[snapshots[i]->pages[r]->first + p] = 1;
            }
        }
    }
}

static const struct snapshot *snapshot_of(const struct member *member, uint32_t step)
{
    for (size_t i = 0; i < member->snapshot_count; i++) {
        if (member->snapshots[i].step == step) {
            return &member->snapshots[i];
        }
    }
    return NULL;
}

static int is_whole(const struct fake *fake, struct member *const *chosen, uint32_t world, uint32_t step)
{
    for (uint32_t page = 0; page < fake->options.page_count; page++) {
        int held = 0;
        for (uint32_t rank = 0; rank < world; rank++) {
            const struct snapshot *snapshot = snapshot_of(chosen[rank], step);
            held = held || (snapshot != NULL && snapshot->pages[page]);
        }
        if (!held) {
            return 0;
        }
    }
    return 1;
}

static uint32_t newest_in_memory(const struct fake *fake, struct member *const *chosen, uint32_t world)
{
    uint32_t best = 0;
    for (uint32_t rank = 0; rank < world; rank++) {
        for (size_t i = 0; i < chosen[rank]->snapshot_count; i++) {
            uint32_t step = chosen[rank]->snapshots[i].step;
            if (step > best && is_whole(fake, chosen, world, step)) {
                best = step;
            }
        }
    }
    return best;
}

// Every held page as a range of its own: the hardest form for the reader.
static void add_pages(const struct fake *fake, Rmjob__V1__Peer *peer, const struct snapshot *snapshot)
{
    peer->pages = calloc(PAGES_MAX, sizeof(Rmjob__V1__PageRange *));
    for (uint32_t page = 0; snapshot != NULL && page < fake->options.page_count; page++) {
        if (snapshot->pages[page]) {
            Rmjob__V1__PageRange *range = malloc(sizeof *range);
            rmjob__v1__page_range__init(range);
            range->has_first = range->has_count = 1;
            range->first = page;
            range->count = 1;
            peer->pages[peer->n_pages++] = range;
        }
    }
}

static void assign(struct fake *fake, struct member **chosen, uint32_t world)
{
    Rmjob__V1__Assignment assignment = RMJOB__V1__ASSIGNMENT__INIT;
    Rmjob__V1__Peer peers[MEMBERS_MAX], *pointers[MEMBERS_MAX];
    uint8_t secret[32];
    uint32_t step = newest_in_memory(fake, chosen, world);
    RMJ_ASSERT(rmj_random_bytes(secret, sizeof secret));
    assignment.source = RMJOB__V1__RESUME_SOURCE__MEMORY;
    fake->view.memory_resumes += step > 0;
    if (fake->view.manifest_step > step) {
        step = fake->view.manifest_step;
        assignment.source = RMJOB__V1__RESUME_SOURCE__MANIFEST;
        assignment.manifest = fake->view.manifest;
        fake->view.manifest_resumes++;
    } else if (step == 0) {
        assignment.source = RMJOB__V1__RESUME_SOURCE__FRESH;
    }
    for (uint32_t rank = 0; rank < world; rank++) {
        rmjob__v1__peer__init(&peers[rank]);
        peers[rank].rank_uid = chosen[rank]->uid;
        peers[rank].comm_address = chosen[rank]->address;
        add_pages(fake, &peers[rank], snapshot_of(chosen[rank], step));
        pointers[rank] = &peers[rank];
    }
    fake->view.generation++;
    fake->view.owned_bytes_max = 0;
    fake->running = 1;
    fake->stopping = 0;
    assignment.has_generation = assignment.has_rank = assignment.has_secret = assignment.has_phase = 1;
    assignment.has_source = assignment.has_step = assignment.has_checkpoint_every_steps = 1;
    assignment.generation = fake->view.generation;
    assignment.peers = pointers;
    assignment.n_peers = world;
    assignment.secret.data = secret;
    assignment.secret.len = sizeof secret;
    assignment.phase = RMJOB__V1__PHASE__TRAIN;
    assignment.step = step;
    assignment.plan = (char *)(uintptr_t)fake->options.plan;
    assignment.checkpoint_every_steps = fake->options.checkpoint_every;
    for (uint32_t rank = 0; rank < world; rank++) {
        Rmjob__V1__Directive directive = RMJOB__V1__DIRECTIVE__INIT;
        assignment.rank = rank;
        directive.kind_case = RMJOB__V1__DIRECTIVE__KIND_ASSIGNMENT;
        directive.assignment = &assignment;
        chosen[rank]->ready = 0;
        chosen[rank]->rank = (int)rank;
        send_directive(chosen[rank], &directive);
    }
    for (uint32_t rank = 0; rank < world; rank++) {
        for (size_t i = 0; i < peers[rank].n_pages; i++) {
            free(peers[rank].pages[i]);
        }
        free(peers[rank].pages);
    }
}

static void consider(struct fake *fake)
{
    struct member *chosen[MEMBERS_MAX];
    uint32_t count = 0;
    if (fake->running || fake->view.evaluated || fake->view.failed) {
        return;
    }
    for (size_t i = 0; i < MEMBERS_MAX; i++) {
        struct member *member = &fake->members[i];
        if (member->call != NULL && member->ready && !member->leaving && count < fake->wanted) {
            chosen[count++] = member;
        }
    }
    // Survivors of the last generation must all be ready: their memories may hold what is needed.
    for (size_t i = 0; i < MEMBERS_MAX; i++) {
        if (fake->members[i].call != NULL && !fake->members[i].ready) {
            return;
        }
    }
    if (count >= fake->wanted) {
        assign(fake, chosen, count);
    }
}

static void *fake_main(void *context)
{
    struct fake *fake = context;
    pthread_mutex_lock(&fake->lock);
    while (!fake->closing) {
        consider(fake);
        pthread_mutex_unlock(&fake->lock);
        rmj_clock_sleep_ms(5);
        pthread_mutex_lock(&fake->lock);
    }
    pthread_mutex_unlock(&fake->lock);
    return NULL;
}

static void on_gone(void *context, struct rmj_call *call)
{
    struct member *member = context;
    struct fake *fake = member->fake;
    pthread_mutex_lock(&fake->lock);
    if (member->call == call) {
        member->call = NULL;
        fake->view.attached--;
        if (member->rank >= 0 && fake->running && !fake->closing) {
            abort_generation(fake);
        }
        rmj_call_release(call);
    }
    pthread_mutex_unlock(&fake->lock);
}

static void handle_attach(void *context, struct rmj_call *call, const ProtobufCMessage *message)
{
    struct fake *fake = context;
    const Rmjob__V1__AttachRequest *request = (const Rmjob__V1__AttachRequest *)message;
    pthread_mutex_lock(&fake->lock);
    struct member *member = NULL;
    for (size_t i = 0; i < MEMBERS_MAX && member == NULL; i++) {
        member = fake->members[i].call == NULL ? &fake->members[i] : NULL;
    }
    RMJ_ASSERT(member != NULL);
    *member = (struct member){.fake = fake, .call = rmj_call_retain(call), .ready = 1, .rank = -1};
    snprintf(member->uid, sizeof member->uid, "%s", request->rank_uid);
    snprintf(member->address, sizeof member->address, "%s", request->comm_address);
    take_snapshots(member, request->snapshots, request->n_snapshots);
    if (request->running_generation != 0 && request->running_generation == fake->view.generation && fake->running) {
        member->ready = 0;
        member->rank = (int)request->running_rank;
    }
    fake->view.attached++;
    int over = fake->view.evaluated || fake->view.failed;
    if (over) {
        send_leave(member, fake->view.failed ? 11 : 0);
    }
    pthread_mutex_unlock(&fake->lock);
    rmj_call_on_cancel(call, on_gone, member);
}

static void ack(struct rmj_call *call)
{
    Rmjob__V1__Ack reply = RMJOB__V1__ACK__INIT;
    rmj_call_reply(call, &reply.base);
}

static void handle_ready(void *context, struct rmj_call *call, const ProtobufCMessage *message)
{
    struct fake *fake = context;
    const Rmjob__V1__ReadyRequest *request = (const Rmjob__V1__ReadyRequest *)message;
    pthread_mutex_lock(&fake->lock);
    for (size_t i = 0; i < MEMBERS_MAX; i++) {
        struct member *member = &fake->members[i];
        if (member->call == NULL || strcmp(member->uid, request->rank_uid) != 0) {
            continue;
        }
        take_snapshots(member, request->snapshots, request->n_snapshots);
        member->ready = 1;
        if (request->generation == fake->view.generation && fake->running) {
            // A generation that stops at a step needs no abort; one that broke does.
            if (request->problem != NULL) {
                abort_generation(fake);
            }
            fake->running = 0;
        }
        if (request->bad_manifest != NULL) {
            fake->view.bad_manifests++;
            fake->view.manifest_step = 0;
        }
        if (request->leaving) {
            member->leaving = 1;
            fake->view.leavers++;
            send_leave(member, 10);
        }
    }
    pthread_mutex_unlock(&fake->lock);
    ack(call);
}

static void handle_heartbeat(void *context, struct rmj_call *call, const ProtobufCMessage *message)
{
    struct fake *fake = context;
    const Rmjob__V1__HeartbeatRequest *request = (const Rmjob__V1__HeartbeatRequest *)message;
    pthread_mutex_lock(&fake->lock);
    if (request->generation == fake->view.generation && request->owned_bytes > fake->view.owned_bytes_max) {
        fake->view.owned_bytes_max = request->owned_bytes;
    }
    pthread_mutex_unlock(&fake->lock);
    ack(call);
}

static void handle_step(void *context, struct rmj_call *call, const ProtobufCMessage *message)
{
    struct fake *fake = context;
    const Rmjob__V1__StepRequest *request = (const Rmjob__V1__StepRequest *)message;
    pthread_mutex_lock(&fake->lock);
    fake->view.step = request->step;
    fake->view.steps_reported++;
    pthread_mutex_unlock(&fake->lock);
    ack(call);
}

static void handle_manifest(void *context, struct rmj_call *call, const ProtobufCMessage *message)
{
    struct fake *fake = context;
    const Rmjob__V1__ManifestRequest *request = (const Rmjob__V1__ManifestRequest *)message;
    pthread_mutex_lock(&fake->lock);
    if (request->step >= fake->view.manifest_step) {
        fake->view.manifest_step = request->step;
        snprintf(fake->view.manifest, sizeof fake->view.manifest, "%s", request->digest);
    }
    pthread_mutex_unlock(&fake->lock);
    ack(call);
}

static void leave_all(struct fake *fake, uint32_t code)
{
    for (size_t i = 0; i < MEMBERS_MAX; i++) {
        if (fake->members[i].call != NULL) {
            send_leave(&fake->members[i], code);
        }
    }
}

static void handle_evaluated(void *context, struct rmj_call *call, const ProtobufCMessage *message)
{
    struct fake *fake = context;
    const Rmjob__V1__EvaluatedRequest *request = (const Rmjob__V1__EvaluatedRequest *)message;
    pthread_mutex_lock(&fake->lock);
    fake->view.evaluated = 1;
    fake->view.pairs = request->consumed->pairs;
    snprintf(fake->view.consumed_sum, sizeof fake->view.consumed_sum, "%s", request->consumed->pairs_sum);
    snprintf(fake->view.chain, sizeof fake->view.chain, "%s", request->consumed->chain);
    snprintf(fake->view.artifact, sizeof fake->view.artifact, "%s", request->report->artifact_digest);
    snprintf(fake->view.rows, sizeof fake->view.rows, "%s", request->report->rows_digest);
    leave_all(fake, 0);
    pthread_mutex_unlock(&fake->lock);
    ack(call);
}

static void handle_fail(void *context, struct rmj_call *call, const ProtobufCMessage *message)
{
    struct fake *fake = context;
    const Rmjob__V1__FailJobRequest *request = (const Rmjob__V1__FailJobRequest *)message;
    pthread_mutex_lock(&fake->lock);
    fake->view.failed = 1;
    snprintf(fake->view.reason, sizeof fake->view.reason, "%s", request->reason);
    fprintf(stderr, "job failed: %s\n", request->reason);
    for (size_t i = 0; i < request->n_explanation; i++) {
        fprintf(stderr, "  %s\n", request->explanation[i]);
    }
    leave_all(fake, 11);
    pthread_mutex_unlock(&fake->lock);
    ack(call);
}

static void handle_task(void *context, struct rmj_call *call, const ProtobufCMessage *message)
{
    struct fake *fake = context;
    Rmjob__V1__TaskSpec reply = RMJOB__V1__TASK_SPEC__INIT;
    (void)message;
    reply.spec = (Rmjob__V1__JobSpec *)(uintptr_t)fake->options.spec;
    reply.checkpoint_store = (char *)(uintptr_t)fake->options.checkpoint_store;
    reply.publish_store = (char *)(uintptr_t)fake->options.publish_store;
    reply.job_uid = (char *)(uintptr_t)fake->options.job_uid;
    rmj_call_reply(call, &reply.base);
}

static void serve(struct fake *fake)
{
#define METHOD(name, in, out, streams, fn)                                                                             \
    {                                                                                                                  \
        "rmjob.v1.Ranks", name, &rmjob__v1__##in##__descriptor, &rmjob__v1__##out##__descriptor, streams, fn, fake     \
    }
    const struct rmj_rpc_method methods[] = {
        METHOD("GetTask", task_request, task_spec, 0, handle_task),
        METHOD("Attach", attach_request, directive, 1, handle_attach),
        METHOD("Ready", ready_request, ack, 0, handle_ready),
        METHOD("Heartbeat", heartbeat_request, ack, 0, handle_heartbeat),
        METHOD("StepCommitted", step_request, ack, 0, handle_step),
        METHOD("ManifestCommitted", manifest_request, ack, 0, handle_manifest),
        METHOD("Evaluated", evaluated_request, ack, 0, handle_evaluated),
        METHOD("FailJob", fail_job_request, ack, 0, handle_fail),
    };
    struct rmj_error err = {0};
    struct rmj_rpc_server_options options = {.addresses = &fake->options.address,
                                             .address_count = 1,
                                             .methods = methods,
                                             .method_count = RMJ_COUNT(methods)};
    if (rmj_rpc_server_start(&fake->server, &options, &err) != RMJ_OK) {
        fprintf(stderr, "fake coordinator: %s\n", err.message);
        abort();
    }
}

struct fake *fake_start(const struct fake_options *options)
{
    struct fake *fake = calloc(1, sizeof *fake);
    RMJ_ASSERT(fake != NULL && options->page_count <= PAGES_MAX);
    fake->options = *options;
    fake->wanted = options->wanted;
    pthread_mutex_init(&fake->lock, NULL);
    serve(fake);
    RMJ_ASSERT(pthread_create(&fake->thread, NULL, fake_main, fake) == 0);
    return fake;
}

static void close_streams(struct fake *fake)
{
    for (size_t i = 0; i < MEMBERS_MAX; i++) {
        if (fake->members[i].call != NULL) {
            rmj_call_release(fake->members[i].call);
            fake->members[i].call = NULL;
        }
    }
    fake->view.attached = 0;
}

void fake_restart(struct fake *fake)
{
    pthread_mutex_lock(&fake->lock);
    fake->closing = 1; // breaking streams are no lost ranks
    struct rmj_rpc_server *server = fake->server;
    pthread_mutex_unlock(&fake->lock);
    pthread_join(fake->thread, NULL);
    rmj_rpc_server_stop(server, 0);
    pthread_mutex_lock(&fake->lock);
    close_streams(fake);
    fake->closing = 0;
    pthread_mutex_unlock(&fake->lock);
    serve(fake);
    RMJ_ASSERT(pthread_create(&fake->thread, NULL, fake_main, fake) == 0);
}

void fake_stop(struct fake *fake)
{
    pthread_mutex_lock(&fake->lock);
    fake->closing = 1;
    pthread_mutex_unlock(&fake->lock);
    pthread_join(fake->thread, NULL);
    rmj_rpc_server_stop(fake->server, 0);
    close_streams(fake);
    pthread_mutex_destroy(&fake->lock);
    free(fake);
}

void fake_set_wanted(struct fake *fake, uint32_t wanted)
{
    pthread_mutex_lock(&fake->lock);
    if (wanted != fake->wanted) {
        fake->wanted = wanted;
        stop_generation(fake);
    }
    pthread_mutex_unlock(&fake->lock);
}

void fake_view(struct fake *fake, struct fake_view *view)
{
    pthread_mutex_lock(&fake->lock);
    *view = fake->view;
    pthread_mutex_unlock(&fake->lock);
}
