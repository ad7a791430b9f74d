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

#include "base/fs.h"
#include "base/log.h"

#define PREFIX "rmjob-rank-"
#define FRESH_SECONDS 60 // a directory this young may not be locked yet

static int open_directory(const char *path)
{
    return open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

// Ours, old enough, and its holder gone.
static int is_abandoned(const char *path)
{
    struct stat status;
    int fd = open_directory(path);
    int abandoned = fd >= 0 && fstat(fd, &status) == 0 && status.st_uid == geteuid() &&
                    time(NULL) - status.st_mtime > FRESH_SECONDS && flock(fd, LOCK_EX | LOCK_NB) == 0;
    if (fd >= 0) {
        close(fd);
    }
    return abandoned;
}

static void sweep(const char *base)
{
    DIR *directory = opendir(base);
    const struct dirent *entry;
    while (directory != NULL && (entry = readdir(directory)) != NULL) {
        char path[600];
        if (strncmp(entry->d_name, PREFIX, strlen(PREFIX)) != 0 ||
            snprintf(path, sizeof path, "%s/%s", base, entry->d_name) >= (int)sizeof path || !is_abandoned(path)) {
            continue;
        }
        if (rmj_fs_remove_tree(path, NULL) != RMJ_OK) {
            rmj_log(RMJ_LOG_WARN, "rank", "event=left_behind directory=\"%s\"", path);
        }
    }
    if (directory != NULL) {
        closedir(directory);
    }
}

int rmj_work_make(char *path, size_t size)
{
    const char *base = getenv("TMPDIR");
    base = base == NULL || base[0] == '\0' ? "/tmp" : base;
    sweep(base);
    if (snprintf(path, size, "%s/" PREFIX "XXXXXX", base) >= (int)size) {
        errno = ENAMETOOLONG;
        return 0;
    }
    if (mkdtemp(path) == NULL) {
        return 0;
    }
    int fd = open_directory(path); // stays open: the lock is the sign of life
    return fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0;
}
