#include "trainer/run/work.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"

// A directory as young as this may not be locked yet.
#define FRESH_SECONDS 60
// A killed preparation is begun again within seconds; what nobody came back for in a day goes.
#define ABANDONED_SECONDS 86400
#define POLL_MS 200

static const char rank_prefix[] = "rmjob-rank-", prepare_prefix[] = "rmjob-prepare-";

static int open_directory(const char *path)
{
    return open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

// Ours, older than that, and its holder gone: then its lock is held by the descriptor that is returned, else -1.
static int take_abandoned(const char *path, time_t seconds)
{
    struct stat status;
    int fd = open_directory(path);
    if (fd >= 0 && fstat(fd, &status) == 0 && status.st_uid == geteuid() && time(NULL) - status.st_mtime > seconds &&
        flock(fd, LOCK_EX | LOCK_NB) == 0) {
        return fd;
    }
    if (fd >= 0) {
        close(fd);
    }
    return -1;
}

static void sweep(const char *base, const char *prefix, time_t seconds)
{
    DIR *directory = opendir(base);
    const struct dirent *entry;
    while (directory != NULL && (entry = readdir(directory)) != NULL) {
        char path[4096];
        if (strncmp(entry->d_name, prefix, strlen(prefix)) != 0 ||
            snprintf(path, sizeof path, "%s/%s", base, entry->d_name) >= (int)sizeof path) {
            continue;
        }
        int fd = take_abandoned(path, seconds);
        if (fd < 0) {
            continue;
        }
        if (rmj_fs_remove_tree(path, NULL) != RMJ_OK) {
            rmj_log(RMJ_LOG_WARN, "rank", "event=left_behind directory=\"%s\"", path);
        }
        close(fd); // after: nobody takes it while it is removed
    }
    if (directory != NULL) {
        closedir(directory);
    }
}

static const char *base_directory(void)
{
    const char *base = getenv("TMPDIR");
    return base == NULL || base[0] == '\0' ? "/tmp" : base;
}

int rmj_work_make(char *path, size_t size)
{
    sweep(base_directory(), rank_prefix, FRESH_SECONDS);
    if (snprintf(path, size, "%s/%sXXXXXX", base_directory(), rank_prefix) >= (int)size) {
        errno = ENAMETOOLONG;
        return 0;
    }
    if (mkdtemp(path) == NULL) {
        return 0;
    }
    int fd = open_directory(path); // stays open: the lock is the sign of life
    return fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0;
}

// Its descriptor with the lock; -1 with RMJ_AGAIN where another one has it, or where it was removed just now.
static int hold_once(const char *path, struct rmj_error *err)
{
    struct stat status, named;
    if (mkdir(path, 0700) != 0 && errno != EEXIST) {
        (void)rmj_fail_errno(err, rmj_fs_errno_status(errno), "cannot make %s, set TMPDIR to a directory with room",
                             path);
        return -1;
    }
    int fd = open_directory(path);
    if (fd < 0 && errno == ENOENT) {
        (void)rmj_fail(err, RMJ_AGAIN, "%s was removed", path);
    } else if (fd < 0 || fstat(fd, &status) != 0 || status.st_uid != geteuid()) {
        (void)rmj_fail(err, RMJ_DENIED, "%s is not a directory of this user; remove it", path);
    } else if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        (void)rmj_fail(err, RMJ_AGAIN, "another process prepares this job in %s", path);
    } else if (lstat(path, &named) != 0 || named.st_ino != status.st_ino) {
        (void)rmj_fail(err, RMJ_AGAIN, "%s was removed", path);
    } else {
        return fd;
    }
    if (fd >= 0) {
        close(fd);
    }
    return -1;
}

int rmj_work_hold(const char *job_uid, char *path, size_t size, int64_t wait_ms, struct rmj_error *err)
{
    const char *base = base_directory();
    int64_t until = rmj_clock_mono_ms() + wait_ms;
    sweep(base, prepare_prefix, ABANDONED_SECONDS);
    if (snprintf(path, size, "%s/%s%s", base, prepare_prefix, job_uid) >= (int)size) {
        (void)rmj_fail(err, RMJ_INVALID, "TMPDIR is too long a name");
        return -1;
    }
    for (char *at = path + strlen(base) + strlen(prepare_prefix) + 1; *at != '\0'; at++) {
        *at = *at == '/' ? '-' : *at; // a uid is a prefix in the store
    }
    for (;;) {
        struct rmj_error own = {0};
        int fd = hold_once(path, &own);
        if (fd >= 0 || own.status != RMJ_AGAIN || rmj_clock_mono_ms() >= until) {
            if (fd < 0 && err != NULL) {
                *err = own;
            }
            return fd;
        }
        rmj_clock_sleep_ms(POLL_MS);
    }
}
