#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "service/scheduler/state.h"

void rmj_actions_clear(struct rmj_actions *actions)
{
    actions->count = 0;
}

void rmj_actions_deinit(struct rmj_actions *actions)
{
    free(actions->items);
    memset(actions, 0, sizeof *actions);
}

static struct rmj_action *append(struct rmj_actions *actions, enum rmj_action_kind kind, const char *job)
{
    if (actions->count == actions->capacity) {
        actions->capacity = actions->capacity ? 2 * actions->capacity : 16;
        actions->items = realloc(actions->items, actions->capacity * sizeof *actions->items);
        RMJ_ASSERT(actions->items);
    }
    struct rmj_action *action = &actions->items[actions->count++];
    memset(action, 0, sizeof *action);
    action->kind = kind;
    snprintf(action->job, sizeof action->job, "%s", job);
    return action;
}

void rmj_flush(struct rmj_scheduler *scheduler, struct rmj_job *job)
{
    if (job->dirty) {
        job->dirty = 0;
        job->persisted_ms = scheduler->now_ms;
        append(scheduler->actions, RMJ_ACTION_PERSIST, job->record.id);
    }
}

struct rmj_action *rmj_act(struct rmj_scheduler *scheduler, struct rmj_job *job, enum rmj_action_kind kind)
{
    rmj_flush(scheduler, job);
    return append(scheduler->actions, kind, job->record.id);
}

void rmj_act_note(struct rmj_scheduler *scheduler, struct rmj_job *job, const char *format, ...)
{
    struct rmj_action *action = rmj_act(scheduler, job, RMJ_ACTION_NOTE);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(action->reason, sizeof action->reason, format, arguments);
    va_end(arguments);
}

void rmj_act_refuse(struct rmj_scheduler *scheduler, const char *job, const char *rank_uid, const char *format, ...)
{
    struct rmj_action *action = append(scheduler->actions, RMJ_ACTION_REFUSE, job);
    snprintf(action->rank_uid, sizeof action->rank_uid, "%s", rank_uid);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(action->reason, sizeof action->reason, format, arguments);
    va_end(arguments);
}
