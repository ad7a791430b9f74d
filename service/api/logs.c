// Jobs.Logs: the log files of a job's processes, and what is appended to them while somebody follows.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "service/api/internal.h"

#define CHUNK_SIZE 32768
#define CHUNKS_PER_PUMP 64 // 2 MiB queued at most for a reader that keeps up
#define FILES_MAX 512

struct log_file {
    char name[RMJ_ID_SIZE + 8]; // <launch>.log
    uint64_t offset;
};

struct follower {
    char job[RMJ_ID_SIZE];
    char rank[RMJ_ID_SIZE]; // "" for all
    int follow;
    struct rmj_call *call;
    size_t file_count;
    struct log_file files[FILES_MAX];
};

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct log_file *)a)->name, ((const struct log_file *)b)->name);
}

static int wanted(const struct follower *follower, const char *name)
{
    size_t length = strlen(name), rank = strlen(follower->rank);
    if (length < 5 || length >= sizeof follower->files[0].name || strcmp(name + length - 4, ".log") != 0) {
        return 0;
    }
    length -= 4;
    // The whole name, or its last part: "3" for rm-7f3a2-3.
    return rank == 0 || (length == rank && strncmp(name, follower->rank, rank) == 0) ||
           (length > rank && name[length - rank - 1] == '-' &&
            strncmp(name + length - rank, follower->rank, rank) == 0);
}

static void find_files(struct follower *follower, const char *directory)
{
    DIR *handle = opendir(directory);
    if (handle == NULL) {
        return; // nothing was started yet
    }
    struct dirent *entry;
    size_t known = follower->file_count;
    while ((entry = readdir(handle)) != NULL && follower->file_count < FILES_MAX) {
        int seen = !wanted(follower, entry->d_name);
        for (size_t i = 0; i < known && !seen; i++) {
            seen = strcmp(follower->files[i].name, entry->d_name) == 0;
        }
        if (!seen) {
            struct log_file *file = &follower->files[follower->file_count++];
            memset(file, 0, sizeof *file);
            memcpy(file->name, entry->d_name, strlen(entry->d_name) + 1);
        }
    }
    closedir(handle);
    qsort(follower->files, follower->file_count, sizeof follower->files[0], by_name);
}

// Sends one chunk; RMJ_NOT_FOUND at the end of the file, RMJ_AGAIN when the reader is slow.
static enum rmj_status send_chunk(struct follower *follower, struct log_file *file, const char *directory)
{
    char path[4400];
    uint8_t chunk[CHUNK_SIZE];
    struct stat about;
    snprintf(path, sizeof path, "%s/%s", directory, file->name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return RMJ_NOT_FOUND;
    }
    if (fstat(fd, &about) == 0 && (uint64_t)about.st_size < file->offset) {
        file->offset = 0; // it was moved away and begun again
    }
    ssize_t size = pread(fd, chunk, sizeof chunk, (off_t)file->offset);
    close(fd);
    if (size <= 0) {
        return RMJ_NOT_FOUND;
    }
    char launch[RMJ_ID_SIZE + 8];
    snprintf(launch, sizeof launch, "%.*s", (int)(strlen(file->name) - 4), file->name);
    Rmjob__V1__LogChunk message = RMJOB__V1__LOG_CHUNK__INIT;
    message.rank = launch;
    message.has_data = 1;
    message.data.data = chunk;
    message.data.len = (size_t)size;
    enum rmj_status status = rmj_call_send(follower->call, &message.base);
    if (status == RMJ_OK) {
        file->offset += (uint64_t)size;
    }
    return status == RMJ_FULL ? RMJ_AGAIN : status;
}

// 1 when the follower is done with.
static int pump(struct rmj_service *service, struct follower *follower)
{
    char directory[4096];
    struct rmj_job_places places = {0};
    struct rmj_error err = {0};
    if (rmj_call_cancelled(follower->call)) {
        return 1;
    }
    int known = rmj_db_places(service->db, follower->job, &places, &err) == RMJ_OK;
    int ends = !follower->follow || !known || rmj_job_state_final(places.state);
    snprintf(directory, sizeof directory, "%s/jobs/%s/logs", service->state_directory, follower->job);
    find_files(follower, directory);
    int budget = CHUNKS_PER_PUMP;
    for (size_t i = 0; i < follower->file_count; i++) {
        enum rmj_status status = RMJ_OK;
        // Only what is sent counts: files that have been sent whole are looked at again each time, and must not keep
        // the later ones from their turn.
        for (; status == RMJ_OK && budget > 0; budget -= status == RMJ_OK) {
            status = send_chunk(follower, &follower->files[i], directory);
        }
        if (status == RMJ_CANCELLED) {
            return 1;
        }
        if (status != RMJ_NOT_FOUND) {
            return 0; // more to come, or a slow reader
        }
    }
    if (ends) {
        rmj_call_finish(follower->call, NULL);
    }
    return ends;
}

static void drop(struct rmj_service *service, size_t index)
{
    rmj_call_release(service->followers[index]->call);
    free(service->followers[index]);
    service->followers[index] = service->followers[--service->follower_count];
}

void followers_pump(struct rmj_service *service)
{
    int64_t mono = rmj_clock_mono_ms();
    if (service->follower_count == 0 || mono - service->followed_ms < SLOW_STREAM_MS) {
        return;
    }
    service->followed_ms = mono;
    for (size_t i = 0; i < service->follower_count;) {
        if (pump(service, service->followers[i])) {
            drop(service, i);
        } else {
            i++;
        }
    }
}

void followers_close_all(struct rmj_service *service)
{
    while (service->follower_count > 0) {
        struct rmj_error err = {0};
        (void)rmj_fail(&err, RMJ_AGAIN, "the service is stopping");
        rmj_call_finish(service->followers[0]->call, &err);
        drop(service, 0);
    }
}

static void run_logs(struct rmj_service *service, struct message *message)
{
    const Rmjob__V1__LogsRequest *request = (const Rmjob__V1__LogsRequest *)message->request;
    struct follower *follower = service->follower_count < FOLLOWERS_MAX ? calloc(1, sizeof *follower) : NULL;
    if (follower == NULL) {
        call_fail(message->call, RMJ_AGAIN, "%d readers of logs are connected already", FOLLOWERS_MAX);
        return;
    }
    snprintf(follower->job, sizeof follower->job, "%s", request->job);
    snprintf(follower->rank, sizeof follower->rank, "%s", request->rank == NULL ? "" : request->rank);
    follower->follow = request->has_follow && request->follow;
    follower->call = rmj_call_retain(message->call);
    service->followers[service->follower_count++] = follower;
    service->followed_ms = 0;
}

void on_logs(void *context, struct rmj_call *call, const ProtobufCMessage *request)
{
    struct rmj_service *service = context;
    struct rmj_job_places places = {0};
    struct rmj_error err = {0};
    const char *job = ((const Rmjob__V1__LogsRequest *)request)->job;
    if (rmj_db_places(service->db, job == NULL ? "" : job, &places, &err) != RMJ_OK) {
        rmj_call_fail(call, &err, NULL);
        return;
    }
    service_post(service, message_make(run_logs, call, request));
}
