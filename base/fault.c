#include "base/fault.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/status.h"

#define FAULT_COUNT_MAX 8

enum action { ACTION_KILL, ACTION_KILL_GROUP, ACTION_STALL, ACTION_ERROR };

struct fault {
    char name[40];
    long at;
    int onwards;
    enum action action;
    long stall_ms;
    atomic_long hits;
};

// Written once by read_faults, then only `hits` moves.
static struct fault faults[FAULT_COUNT_MAX];
static size_t fault_count;
static const char *once_file;
static pthread_once_t faults_once = PTHREAD_ONCE_INIT;

static void parse_fault(const char *text, size_t length)
{
    char copy[96];
    if (length >= sizeof copy || fault_count == FAULT_COUNT_MAX) {
        return;
    }
    memcpy(copy, text, length);
    copy[length] = '\0';
    char *at = strchr(copy, '@');
    char *equals = at == NULL ? NULL : strchr(at, '=');
    struct fault *fault = &faults[fault_count];
    if (equals == NULL || (size_t)(at - copy) >= sizeof fault->name) {
        rmj_log(RMJ_LOG_WARN, "fault", "event=ignored setting=\"%s\"", copy);
        return;
    }
    *at = *equals = '\0';
    memcpy(fault->name, copy, strlen(copy) + 1);
    fault->at = strtol(at + 1, NULL, 10);
    fault->onwards = strchr(at + 1, '+') != NULL;
    const char *action = equals + 1;
    fault->action = strcmp(action, "kill") == 0         ? ACTION_KILL
                    : strcmp(action, "kill-group") == 0 ? ACTION_KILL_GROUP
                    : strncmp(action, "stall:", 6) == 0 ? ACTION_STALL
                                                        : ACTION_ERROR;
    fault->stall_ms = fault->action == ACTION_STALL ? strtol(action + 6, NULL, 10) : 0;
    fault_count++;
}

static void read_faults(void)
{
    const char *text = getenv("RMJOB_FAULT");
    once_file = getenv("RMJOB_FAULT_ONCE");
    while (text != NULL && *text != '\0') {
        size_t length = strcspn(text, ",");
        parse_fault(text, length);
        text += length + (text[length] == ',');
    }
}

static int fire(const struct fault *fault)
{
    if (once_file != NULL) {
        int fd = open(once_file, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
        if (fd < 0) {
            return 0;
        }
        close(fd);
    }
    rmj_log(RMJ_LOG_WARN, "fault", "event=fired point=%s", fault->name);
    switch (fault->action) {
    case ACTION_KILL:
        kill(getpid(), SIGKILL);
        break;
    case ACTION_KILL_GROUP:
        kill(0, SIGKILL);
        break;
    case ACTION_STALL:
        rmj_clock_sleep_ms(fault->stall_ms);
        return 0;
    case ACTION_ERROR:
        break;
    }
    return 1;
}

int rmj_fault_point(const char *name)
{
    pthread_once(&faults_once, read_faults);
    for (size_t i = 0; i < fault_count; i++) {
        if (strcmp(faults[i].name, name) == 0) {
            long hit = atomic_fetch_add(&faults[i].hits, 1) + 1;
            if (hit == faults[i].at || (faults[i].onwards && hit > faults[i].at)) {
                return fire(&faults[i]);
            }
        }
    }
    return 0;
}
