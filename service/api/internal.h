// What the files of this folder share. See service.h for the picture.
#ifndef RMJ_SERVICE_API_INTERNAL_H
#define RMJ_SERVICE_API_INTERNAL_H

#include <pthread.h>

#include "proto/rpc/server.h"
#include "proto/text/text_format.h"
#include "service/api/service.h"
#include "service/jobs/db.h"
#include "service/launch/launch.h"
#include "service/scheduler/scheduler.h"
#include "storage/artifact/artifact.h"

// Bounds of this folder.
#define QUEUE_MAX 1024
#define MESSAGES_PER_TURN 64
#define BATCH_FULL 1500 // writes after which a turn takes no more messages
#define STREAMS_MAX 512
#define WATCHERS_MAX 256
#define FOLLOWERS_MAX 64
#define CHORES_MAX 1024
#define PING_MS 1000
#define TURN_MS_MAX 1000
#define SLOW_STREAM_MS 50 // how soon a watcher or follower that was too slow is tried again
#define FOLLOW_MS 200
#define COLLECT_MS 60000
#define COLLECT_GRACE_MS (60 * 60 * 1000)
#define PREPARE_ATTEMPTS_MAX 3
#define PROGRESS_MS 200
#define RETRY_WRITE_MS 500
#define STORE_DEADLINE_MS 30000

// One thing for the owner thread to do. Everything in it is owned by it.
struct message {
    struct message *next;
    void (*run)(struct rmj_service *service, struct message *message);
    struct rmj_call *call; // NULL: nobody waits
    ProtobufCMessage *request;
    void *extra;                // of `run`
    void (*free_extra)(void *); // NULL: free()
};

// Done in order once the turn's writes are on disk.
enum effect_kind {
    EFFECT_DIRECTIVE, // to a rank
    EFFECT_LAUNCH,
    EFFECT_PREPARE,
    EFFECT_KILL,
    EFFECT_REFUSE,
    EFFECT_CHORE,
    EFFECT_FINISHED,
    EFFECT_REPLY,
    EFFECT_FAIL,
};
enum chore_kind { CHORE_GATE, CHORE_PUBLISH, CHORE_CLEAN, CHORE_COLLECT };
struct effect {
    enum effect_kind kind;
    enum chore_kind chore;
    char job[RMJ_ID_SIZE];
    char target[RMJ_ID_SIZE];  // launch or rank_uid
    ProtobufCMessage *message; // owned: directive, or reply (NULL: the job as it is then)
    struct rmj_call *call;     // owned reference
    struct rmj_error err;
};

// A job that has not ended, or has just. Owner thread.
struct live_job {
    char id[RMJ_ID_SIZE];
    uint64_t sequence; // newest event
    Rmjob__V1__JobState state;
    Rmjob__V1__Progress progress;
    int progress_dirty;
    int64_t progress_written_ms;
    double step_seconds, stall_seconds; // sums since this rmjobd started
    uint64_t pairs_before;
    int preparing; // a prepare task runs
    uint32_t prepare_attempts;
    uint32_t prepare_told;         // the attempt of which it was told that it goes on where a former one was
    char trouble[RMJ_REASON_SIZE]; // last note of the scheduler
    int64_t trouble_ms;            // mono; since when no step was made; 0: none
    uint32_t resume_generation, resume_step, lost_step;
    uint32_t told_generation; // newest whose start was told
    int64_t eval_told_ms;
    int64_t collected_ms;
    int checkpoints_fail; // told, and not yet told to be well again
};

// An Attach stream. Owner thread.
struct stream {
    char job[RMJ_ID_SIZE];
    char rank_uid[RMJ_ID_SIZE];
    uint32_t incarnation;
    struct rmj_call *call;
};

// A Watch call. Owner thread.
struct watcher {
    char job[RMJ_ID_SIZE];
    uint64_t after;
    struct rmj_call *call;
    int behind; // the stream was full
};

struct follower; // a Logs call, logs.c
struct chores;   // chores.c

struct rmj_service {
    // Immutable after start.
    char *state_directory;
    char *token;
    char *rank_program;
    char *socket_address; // unix:<state>/rmjobd.sock
    char *checkpoint_store, *publish_store;
    char *key_pem;
    struct rmj_signing_key *key;
    struct rmj_db *db;
    struct rmj_rpc_server *server;
    struct chores *chores;
    size_t address_count;
    uint32_t core_count, slots;
    int64_t grace_ms, check_deadline_ms;
    int lock_fd, stop_fd, wake_fd;
    // Locked.
    pthread_mutex_t queue_lock;
    pthread_cond_t queue_room;
    struct message *first, *last;
    size_t queue_count;
    int closed, stop_wanted;
    struct rmj_error unwritten; // why the state cannot be written now; its status is RMJ_OK while it can
    uint32_t jobs_running;
    // Owner thread.
    struct rmj_launcher *launcher;
    struct rmj_scheduler *scheduler;
    struct rmj_actions actions;
    struct rmj_batch *batch;
    int64_t now_ms; // never falls
    struct effect *effects;
    size_t effect_count, effect_capacity;
    struct rmj_event *later; // events that effects brought, for the next turn
    size_t later_count, later_capacity;
    struct live_job **jobs;
    size_t job_count, job_capacity;
    struct stream streams[STREAMS_MAX];
    size_t stream_count;
    struct watcher watchers[WATCHERS_MAX];
    size_t watcher_count;
    struct follower *followers[FOLLOWERS_MAX];
    size_t follower_count;
    int64_t pinged_ms, followed_ms, collected_ms;
};

// queue.c
// Takes the message over. 0 when the service is stopping (the message is freed, its call failed). Waits for room.
int service_post(struct rmj_service *service, struct message *message);
// A message about a call: keeps a reference of the call and a copy of the request (either may be NULL).
struct message *message_make(void (*run)(struct rmj_service *, struct message *), struct rmj_call *call,
                             const ProtobufCMessage *request);
struct message *service_take_messages(struct rmj_service *service, size_t max); // a list
void service_close_queue(struct rmj_service *service);
void message_free(struct message *message);
void call_fail(struct rmj_call *call, enum rmj_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

// owner.c
void owner_event(struct rmj_service *service, const struct rmj_event *event);
void owner_later(struct rmj_service *service, const struct rmj_event *event);
struct effect *owner_effect(struct rmj_service *service, enum effect_kind kind, const char *job);
// Answers after this turn's writes. message: taken over; NULL: the job as it is then.
void owner_reply(struct rmj_service *service, struct rmj_call *call, const char *job, ProtobufCMessage *message);
void owner_fail(struct rmj_service *service, struct rmj_call *call, const struct rmj_error *err);
// Fails the call and returns 1 while the state cannot be written: the owner waits for room and would answer nobody.
int service_refuses(struct rmj_service *service, struct rmj_call *call);
void owner_ack(struct rmj_service *service, struct rmj_call *call);
// Writes what is gathered; waits while the disk is full.
enum rmj_status owner_commit(struct rmj_service *service, struct rmj_error *err);
struct rmj_event owner_event_of(enum rmj_event_kind kind, const char *job);

// live.c
struct live_job *live_find(struct rmj_service *service, const char *job);
struct live_job *live_get(struct rmj_service *service, const char *job); // made from the database when absent
void live_forget(struct rmj_service *service, const char *job);
void live_tell(struct rmj_service *service, struct live_job *live, Rmjob__V1__EventKind kind, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void live_persist(struct rmj_service *service, const struct rmj_job_record *record);
void live_note(struct rmj_service *service, const char *job, const char *reason);
void live_generation(struct rmj_service *service, const char *job, const struct rmj_assignment *assignment);
void live_step(struct rmj_service *service, const Rmjob__V1__StepRequest *step, int known);
void live_manifest(struct rmj_service *service, const Rmjob__V1__ManifestRequest *manifest);
void live_preparing(struct rmj_service *service, const Rmjob__V1__PreparingRequest *preparing);
void live_warn(struct rmj_service *service, const Rmjob__V1__WarnJobRequest *warned);
void live_heartbeat(struct rmj_service *service, const Rmjob__V1__HeartbeatRequest *beat);
void live_flush(struct rmj_service *service);

// effects.c
void effects_translate(struct rmj_service *service, const struct rmj_action *action);
void effects_run(struct rmj_service *service);
void effects_clear(struct rmj_service *service);
void processes_collect(struct rmj_service *service);
enum rmj_status processes_adopt(struct rmj_service *service, struct rmj_error *err);

// ranks_api.c
void streams_ping(struct rmj_service *service);
struct stream *stream_find(struct rmj_service *service, const char *rank_uid);
void stream_close(struct rmj_service *service, struct stream *stream, enum rmj_status status, const char *reason);
void streams_close_all(struct rmj_service *service);

// watch.c
void watchers_pump(struct rmj_service *service, int all);
int watchers_behind(const struct rmj_service *service);
void watchers_close_all(struct rmj_service *service);
void on_watch(void *context, struct rmj_call *call, const ProtobufCMessage *request);

// logs.c
void followers_pump(struct rmj_service *service);
void followers_close_all(struct rmj_service *service);
void on_logs(void *context, struct rmj_call *call, const ProtobufCMessage *request);

// chores.c
RMJ_MUST_USE enum rmj_status chores_start(struct rmj_service *service, struct rmj_error *err);
void chores_add(struct rmj_service *service, enum chore_kind kind, const char *job);
int chores_stop(struct rmj_service *service, int64_t grace_ms); // 0: not ended in time
// The whole report of a job from the database; free with rmjob__v1__job_report__free_unpacked.
enum rmj_status report_load(struct rmj_service *service, const char *job, Rmjob__V1__JobReport **report,
                            struct rmj_error *err);

// jobs_api.c, submit.c, ranks_api.c, registry_api.c: handlers, listed in methods.c
enum rmj_status service_authorize(void *context, const char *full_method, const char *bearer, const char *peer,
                                  struct rmj_error *err);
extern const struct rmj_rpc_method service_methods[];
extern const size_t service_method_count;
void on_submit(void *context, struct rmj_call *call, const ProtobufCMessage *request);
void on_validate(void *context, struct rmj_call *call, const ProtobufCMessage *request);
void on_get(void *context, struct rmj_call *call, const ProtobufCMessage *request);
void on_list(void *context, struct rmj_call *call, const ProtobufCMessage *request);
void on_cancel(void *context, struct rmj_call *call, const ProtobufCMessage *request);
void on_resize(void *context, struct rmj_call *call, const ProtobufCMessage *request);
void on_get_report(void *context, struct rmj_call *call, const ProtobufCMessage *request);
void on_get_policy(void *context, struct rmj_call *call, const ProtobufCMessage *request);
void on_set_policy(void *context, struct rmj_call *call, const ProtobufCMessage *request);
void on_server_info(void *context, struct rmj_call *call, const ProtobufCMessage *request);
void on_list_models(void *context, struct rmj_call *call, const ProtobufCMessage *request);
void on_resolve(void *context, struct rmj_call *call, const ProtobufCMessage *request);
void on_get_task(void *context, struct rmj_call *call, const ProtobufCMessage *request);
void on_preparing(void *context, struct rmj_call *call, const ProtobufCMessage *request);
void on_prepared(void *context, struct rmj_call *call, const ProtobufCMessage *request);
void on_attach(void *context, struct rmj_call *call, const ProtobufCMessage *request);
void on_ready(void *context, struct rmj_call *call, const ProtobufCMessage *request);
void on_heartbeat(void *context, struct rmj_call *call, const ProtobufCMessage *request);
void on_step(void *context, struct rmj_call *call, const ProtobufCMessage *request);
void on_manifest(void *context, struct rmj_call *call, const ProtobufCMessage *request);
void on_evaluated(void *context, struct rmj_call *call, const ProtobufCMessage *request);
void on_fail_job(void *context, struct rmj_call *call, const ProtobufCMessage *request);
void on_warn_job(void *context, struct rmj_call *call, const ProtobufCMessage *request);
// The policy of a project, the built-in one when it has none.
enum rmj_status policy_of(struct rmj_service *service, const char *project, Rmjob__V1__Policy **policy,
                          struct rmj_error *err);

#endif
