// Starting and stopping: directory, lock, database, recovery, server.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "service/api/internal.h"

#define CHECK_DEADLINE_MS 10000
#define JOIN_WAIT_MS 2000
#define REATTACH_WAIT_MS 15000
#define HEARTBEAT_TIMEOUT_MS 60000
#define READY_TIMEOUT_MS 15000
#define BACKOFF_MS_MAX 30000
#define ADDRESSES_MAX 8
#define METHODS_MAX 64
#define DATABASE "rmjobd.db"

static enum rmj_status take_lock(struct rmj_service *service, struct rmj_error *err)
{
    char *path = rmj_fs_join(service->state_directory, "lock");
    char text[32] = "";
    enum rmj_status status = RMJ_OK;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        status = rmj_fail_errno(err, rmj_fs_errno_status(errno), "cannot open %s", path);
    } else if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        ssize_t size = read(fd, text, sizeof text - 1);
        text[size > 0 ? strcspn(text, "\n") : 0] = '\0';
        status =
            rmj_fail(err, RMJ_CONFLICT, "another rmjobd (pid %s) has %s; stop it, or use another --state directory",
                     text[0] == '\0' ? "unknown" : text, service->state_directory);
        close(fd);
        fd = -1;
    } else {
        int length = snprintf(text, sizeof text, "%d\n", (int)getpid());
        if (ftruncate(fd, 0) != 0 || write(fd, text, (size_t)length) != length) {
            status = rmj_fail_errno(err, rmj_fs_errno_status(errno), "cannot write %s", path);
        }
    }
    service->lock_fd = fd;
    free(path);
    return status;
}

static enum rmj_status make_directories(struct rmj_service *service, struct rmj_error *err)
{
    RMJ_TRY(rmj_fs_make_directories(service->state_directory, 0700, err));
    if (chmod(service->state_directory, 0700) != 0) {
        return rmj_fail_errno(err, rmj_fs_errno_status(errno), "cannot make %s private", service->state_directory);
    }
    // A whole path, so that it means the same to every process.
    char *whole = realpath(service->state_directory, NULL);
    if (whole == NULL) {
        return rmj_fail_errno(err, RMJ_IO, "cannot find %s", service->state_directory);
    }
    free(service->state_directory);
    service->state_directory = whole;
    struct sockaddr_un address;
    if (strlen(whole) + sizeof "/rmjobd.sock" > sizeof address.sun_path) {
        return rmj_fail(err, RMJ_INVALID, "--state %s is too long for a socket in it (%zu characters at most)", whole,
                        sizeof address.sun_path - sizeof "/rmjobd.sock");
    }
    return RMJ_OK;
}

// What is private or may be thrown away. After the lock.
static enum rmj_status make_inside(struct rmj_service *service, struct rmj_error *err)
{
    static const char *const inside[] = {"jobs", "keys", "tmp"};
    char *tmp = rmj_fs_join(service->state_directory, "tmp");
    enum rmj_status status = rmj_fs_remove_tree(tmp, err);
    free(tmp);
    for (size_t i = 0; i < RMJ_COUNT(inside) && status == RMJ_OK; i++) {
        char *path = rmj_fs_join(service->state_directory, inside[i]);
        status = rmj_fs_make_directories(path, 0700, err);
        free(path);
    }
    service->checkpoint_store = rmj_fs_join(service->state_directory, "checkpoints");
    service->publish_store = rmj_fs_join(service->state_directory, "artifacts");
    return status;
}

static enum rmj_status open_key(struct rmj_service *service, struct rmj_error *err)
{
    char *path = rmj_fs_join(service->state_directory, "keys/signing.pem");
    struct rmj_buf pem;
    rmj_buf_init(&pem, 65536);
    enum rmj_status status = rmj_signing_key_open(&service->key, path, 1, err);
    if (status == RMJ_OK) {
        status = rmj_signing_key_public_pem(service->key, &pem, err);
    }
    if (status == RMJ_OK) {
        service->key_pem = rmj_buf_detach(&pem);
    }
    rmj_buf_deinit(&pem);
    free(path);
    return status;
}

// ---- recovery ----

static enum rmj_status tell_limits(void *context, const Rmjob__V1__Policy *policy)
{
    struct rmj_service *service = context;
    struct rmj_event event = owner_event_of(RMJ_EVENT_LIMITS, "");
    snprintf(event.project, sizeof event.project, "%s", policy->project == NULL ? "" : policy->project);
    event.max_ranks = policy->max_ranks;
    event.max_jobs = policy->max_jobs;
    owner_later(service, &event);
    return RMJ_OK;
}

// What `later` holds is told at once: the order matters here.
static void tell_later_now(struct rmj_service *service)
{
    for (size_t i = 0; i < service->later_count; i++) {
        owner_event(service, &service->later[i]);
    }
    service->later_count = 0;
}

static enum rmj_status recover(struct rmj_service *service, struct rmj_error *err)
{
    struct rmj_job_record *records = NULL;
    size_t count = 0;
    RMJ_TRY(rmj_db_policies(service->db, tell_limits, service, err));
    tell_later_now(service);
    RMJ_TRY(rmj_db_records(service->db, 1, &records, &count, err));
    for (size_t i = 0; i < count; i++) {
        live_get(service, records[i].id);
        struct rmj_event event = owner_event_of(RMJ_EVENT_RECOVERED, records[i].id);
        event.record = &records[i];
        owner_event(service, &event);
    }
    free(records);
    if (count > 0) {
        rmj_log(RMJ_LOG_INFO, "rmjobd", "event=recovered jobs=%zu", count);
    }
    return processes_adopt(service, err);
}

static enum rmj_status clean_leftovers(struct rmj_service *service, struct rmj_error *err)
{
    char(*jobs)[RMJ_ID_SIZE] = NULL;
    size_t count = 0;
    RMJ_TRY(rmj_db_uncleaned(service->db, CHORES_MAX / 4, &jobs, &count, err));
    for (size_t i = 0; i < count; i++) {
        chores_add(service, CHORE_CLEAN, jobs[i]);
    }
    free(jobs);
    return RMJ_OK;
}

// ---- server ----

static enum rmj_status check_addresses(const struct rmj_service_options *options, struct rmj_error *err)
{
    if (options->address_count > ADDRESSES_MAX - 1) {
        return rmj_fail(err, RMJ_INVALID, "%zu addresses to listen on; at most %d", options->address_count,
                        ADDRESSES_MAX - 1);
    }
    for (size_t i = 0; i < options->address_count; i++) {
        if (strncmp(options->addresses[i], "unix:", 5) != 0 && options->token == NULL) {
            return rmj_fail(err, RMJ_INVALID,
                            "--listen %s is a network address, where anybody could call; give --token-file as well",
                            options->addresses[i]);
        }
    }
    return RMJ_OK;
}

static enum rmj_status listen_all(struct rmj_service *service, const struct rmj_service_options *options,
                                  struct rmj_error *err)
{
    const char *addresses[ADDRESSES_MAX] = {service->socket_address};
    struct rmj_rpc_method methods[METHODS_MAX];
    RMJ_ASSERT(service_method_count <= METHODS_MAX);
    for (size_t i = 0; i < service_method_count; i++) {
        methods[i] = service_methods[i];
        methods[i].context = service;
    }
    for (size_t i = 0; i < options->address_count; i++) {
        addresses[i + 1] = options->addresses[i];
    }
    service->address_count = options->address_count + 1;
    // We have the directory's lock, so a socket that is there is a dead one's.
    unlink(service->socket_address + strlen("unix:"));
    struct rmj_rpc_server_options server = {.addresses = addresses,
                                            .address_count = service->address_count,
                                            .methods = methods,
                                            .method_count = service_method_count,
                                            .authorize = service_authorize,
                                            .authorize_context = service};
    mode_t before = umask(0177);
    enum rmj_status status = rmj_rpc_server_start(&service->server, &server, err);
    umask(before);
    if (status == RMJ_OK && chmod(service->socket_address + strlen("unix:"), 0600) != 0) {
        status = rmj_fail_errno(err, RMJ_IO, "cannot make %s private", service->socket_address);
    }
    return status;
}

// For tools and people: who runs here, and where.
static enum rmj_status write_card(struct rmj_service *service, struct rmj_error *err)
{
    struct rmj_buf text;
    rmj_buf_init(&text, 65536);
    rmj_buf_printf(&text, "{\"pid\": %d, \"addresses\": [", (int)getpid());
    for (size_t i = 0; i < service->address_count; i++) {
        rmj_buf_printf(&text, "%s\"%s\"", i == 0 ? "" : ", ", rmj_rpc_server_address(service->server, i));
    }
    rmj_buf_puts(&text, "]}\n");
    char *path = rmj_fs_join(service->state_directory, "rmjobd.json");
    enum rmj_status status = rmj_buf_check(&text, err);
    if (status == RMJ_OK) {
        status = rmj_fs_write(path, text.bytes, text.size, 0600, err);
    }
    free(path);
    rmj_buf_deinit(&text);
    return status;
}

static uint32_t cores(void)
{
    long count = sysconf(_SC_NPROCESSORS_ONLN);
    return count < 1 ? 1 : (uint32_t)count;
}

static enum rmj_status make_core(struct rmj_service *service, struct rmj_error *err)
{
    struct rmj_scheduler_options scheduler = {.rank_slots = service->slots,
                                              .join_wait_ms = JOIN_WAIT_MS,
                                              .reattach_wait_ms = REATTACH_WAIT_MS,
                                              .heartbeat_timeout_ms = HEARTBEAT_TIMEOUT_MS,
                                              .ready_timeout_ms = READY_TIMEOUT_MS,
                                              .backoff_ms_max = BACKOFF_MS_MAX,
                                              .seed = (uint64_t)rmj_clock_unix_ms()};
    char *database = rmj_fs_join(service->state_directory, DATABASE);
    enum rmj_status status = RMJ_OK;
    service->batch = rmj_batch_create();
    service->scheduler = rmj_scheduler_create(&scheduler);
    RMJ_GO(rmj_db_open(&service->db, database, err));
    RMJ_GO(open_key(service, err));
    RMJ_GO(rmj_launcher_local_create(&service->launcher, service->rank_program, err));
    RMJ_GO(chores_start(service, err));
    RMJ_GO(recover(service, err));
    status = clean_leftovers(service, err);
out:
    free(database);
    return status;
}

enum rmj_status rmj_service_start(struct rmj_service **service_out, const struct rmj_service_options *options,
                                  struct rmj_error *err)
{
    RMJ_TRY(check_addresses(options, err));
    struct rmj_service *service = calloc(1, sizeof *service);
    if (service == NULL) {
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory for the service");
    }
    pthread_mutex_init(&service->queue_lock, NULL);
    pthread_cond_init(&service->queue_room, NULL);
    service->lock_fd = -1;
    service->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    service->stop_fd = options->stop_fd;
    service->state_directory = strdup(options->state_directory);
    service->token = options->token == NULL ? NULL : strdup(options->token);
    service->core_count = cores();
    service->slots = options->slots == 0 ? service->core_count : options->slots;
    service->grace_ms = options->grace_ms;
    service->check_deadline_ms = options->check_deadline_ms == 0 ? CHECK_DEADLINE_MS : options->check_deadline_ms;
    enum rmj_status status = RMJ_OK;
    RMJ_GO(make_directories(service, err));
    RMJ_GO(take_lock(service, err));
    RMJ_GO(make_inside(service, err));
    if (options->rank_program != NULL) {
        service->rank_program = strdup(options->rank_program);
    } else {
        RMJ_GO(rmj_launcher_find_rank(&service->rank_program, err));
    }
    char *socket_path = rmj_fs_join(service->state_directory, "rmjobd.sock");
    service->socket_address = malloc(strlen(socket_path) + sizeof "unix:");
    RMJ_ASSERT(service->socket_address != NULL);
    sprintf(service->socket_address, "unix:%s", socket_path);
    free(socket_path);
    RMJ_GO(make_core(service, err));
    RMJ_GO(listen_all(service, options, err));
    status = write_card(service, err);
out:
    if (status != RMJ_OK) {
        rmj_service_stop(service);
        service = NULL;
    }
    *service_out = service;
    return status;
}

size_t rmj_service_address_count(const struct rmj_service *service)
{
    return service->address_count;
}

const char *rmj_service_address(const struct rmj_service *service, size_t index)
{
    return rmj_rpc_server_address(service->server, index);
}

static void free_owner_state(struct rmj_service *service)
{
    effects_clear(service);
    free(service->effects);
    free(service->later);
    while (service->job_count > 0) {
        live_forget(service, service->jobs[0]->id);
    }
    free(service->jobs);
    rmj_actions_deinit(&service->actions);
    rmj_scheduler_destroy(service->scheduler);
    rmj_batch_destroy(service->batch);
    if (service->launcher != NULL) {
        service->launcher->ops->destroy(service->launcher);
    }
}

int rmj_service_stop(struct rmj_service *service)
{
    if (service == NULL) {
        return 1;
    }
    service_close_queue(service);
    streams_close_all(service);
    watchers_close_all(service);
    followers_close_all(service);
    rmj_rpc_server_stop(service->server, service->grace_ms);
    if (!chores_stop(service, service->grace_ms)) {
        return 0;
    }
    free_owner_state(service);
    rmj_db_close(service->db);
    rmj_signing_key_close(service->key);
    if (service->socket_address != NULL && service->server != NULL) {
        unlink(service->socket_address + strlen("unix:"));
    }
    if (service->lock_fd >= 0) {
        close(service->lock_fd);
    }
    close(service->wake_fd);
    char *const texts[] = {
        service->state_directory,  service->token,         service->rank_program, service->socket_address,
        service->checkpoint_store, service->publish_store, service->key_pem};
    for (size_t i = 0; i < RMJ_COUNT(texts); i++) {
        free(texts[i]);
    }
    pthread_mutex_destroy(&service->queue_lock);
    pthread_cond_destroy(&service->queue_room);
    free(service);
    return 1;
}
