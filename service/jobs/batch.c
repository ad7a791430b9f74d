// Putting writes together. Nothing here touches the disk.
#include <stdlib.h>
#include <string.h>

#include "service/jobs/db_internal.h"

void *db_pack(const ProtobufCMessage *message, size_t *size)
{
    *size = protobuf_c_message_get_packed_size(message);
    void *bytes = malloc(*size + 1);
    RMJ_ASSERT(bytes != NULL);
    protobuf_c_message_pack(message, bytes);
    return bytes;
}

struct rmj_batch *rmj_batch_create(void)
{
    struct rmj_batch *batch = calloc(1, sizeof *batch);
    RMJ_ASSERT(batch != NULL);
    return batch;
}

void rmj_batch_clear(struct rmj_batch *batch)
{
    for (size_t i = 0; i < batch->count; i++) {
        for (size_t v = 0; v < batch->items[i].value_count; v++) {
            free(batch->items[i].values[v].bytes);
        }
        free(batch->items[i].values);
    }
    batch->count = 0;
}

void rmj_batch_destroy(struct rmj_batch *batch)
{
    if (batch != NULL) {
        rmj_batch_clear(batch);
        free(batch->items);
        free(batch);
    }
}

size_t rmj_batch_count(const struct rmj_batch *batch)
{
    return batch->count;
}

static struct value integer(int64_t number)
{
    return (struct value){.kind = VALUE_INT, .integer = number};
}

static struct value real(double number)
{
    return (struct value){.kind = VALUE_REAL, .real = number};
}

static struct value text(const char *words)
{
    if (words == NULL) {
        return (struct value){.kind = VALUE_NULL};
    }
    struct value value = {.kind = VALUE_TEXT, .bytes = strdup(words), .size = strlen(words)};
    RMJ_ASSERT(value.bytes != NULL);
    return value;
}

static struct value blob(const ProtobufCMessage *message)
{
    if (message == NULL) {
        return (struct value){.kind = VALUE_NULL};
    }
    struct value value = {.kind = VALUE_BLOB};
    value.bytes = db_pack(message, &value.size);
    return value;
}

static void add(struct rmj_batch *batch, enum write_statement statement, const struct value *values, size_t count)
{
    RMJ_ASSERT(batch->count < RMJ_DB_BATCH_MAX && count <= WRITE_VALUES_MAX);
    if (batch->count == batch->capacity) {
        batch->capacity = batch->capacity == 0 ? 16 : batch->capacity * 2;
        batch->items = realloc(batch->items, batch->capacity * sizeof *batch->items);
        RMJ_ASSERT(batch->items != NULL);
    }
    struct write *write = &batch->items[batch->count++];
    *write = (struct write){.statement = statement, .value_count = count, .values = malloc(count * sizeof *values)};
    RMJ_ASSERT(write->values != NULL);
    memcpy(write->values, values, count * sizeof *values);
}

#define ADD(batch, statement, ...)                                                                                     \
    do {                                                                                                               \
        const struct value values_[] = {__VA_ARGS__};                                                                  \
        add((batch), (statement), values_, RMJ_COUNT(values_));                                                        \
    } while (0)

static struct value plain(const void *bytes, size_t size)
{
    struct value value = {.kind = VALUE_BLOB, .bytes = malloc(size), .size = size};
    RMJ_ASSERT(value.bytes != NULL);
    memcpy(value.bytes, bytes, size);
    return value;
}

// The columns that are searched or shown, then the record whole.
#define RECORD_VALUES(r)                                                                                               \
    text((r)->id), text((r)->project), integer((r)->state), text((r)->reason), integer((r)->submitted_ms),             \
        real((r)->rank_seconds), integer((r)->restarts_charged), plain((r), sizeof *(r))

void rmj_batch_new_job(struct rmj_batch *batch, const struct rmj_new_job *job)
{
    const struct rmj_job_record *record = job->record;
    ADD(batch, W_NEW_JOB, RECORD_VALUES(record), text(job->spec_digest), text(job->rank_token),
        text(job->checkpoint_store), text(job->publish_store), blob(&job->spec->base),
        blob(job->pinned == NULL ? NULL : &job->pinned->base));
    if (job->request_id != NULL) {
        ADD(batch, W_NEW_REQUEST, text(job->request_id), text(record->id));
    }
}

void rmj_batch_record(struct rmj_batch *batch, const struct rmj_job_record *record, int64_t finished_ms)
{
    ADD(batch, W_RECORD, RECORD_VALUES(record), integer(finished_ms));
}

void rmj_batch_part(struct rmj_batch *batch, const char *job, enum rmj_job_part part, const ProtobufCMessage *message)
{
    RMJ_ASSERT(message->descriptor == rmj_job_part_descriptors[part]);
    ADD(batch, (enum write_statement)(W_PART + part), text(job), blob(message));
}

void rmj_batch_published(struct rmj_batch *batch, const char *job, const char *name, uint32_t version)
{
    ADD(batch, W_PUBLISHED, text(job), text(name), integer(version));
}

void rmj_batch_cleaned(struct rmj_batch *batch, const char *job)
{
    ADD(batch, W_CLEANED, text(job));
}

void rmj_batch_event(struct rmj_batch *batch, const char *job, const Rmjob__V1__Event *event)
{
    RMJ_ASSERT(event->has_sequence && event->has_kind);
    ADD(batch, W_EVENT, text(job), integer((int64_t)event->sequence), integer(event->kind), blob(&event->base));
    if (event->kind == RMJOB__V1__EVENT_KIND__STEP || event->kind == RMJOB__V1__EVENT_KIND__EVAL) {
        ADD(batch, W_TRIM_EVENTS, text(job), integer(event->kind), integer(RMJ_DB_PROGRESS_EVENTS_MAX));
    }
}

void db_step_facts(const Rmjob__V1__StepRequest *step, Rmjob__V1__StepRequest *facts)
{
    *facts = *step;
    facts->job = NULL;
    facts->has_generation = facts->has_seconds = facts->has_stall_seconds = facts->has_second_pass = 0;
}

void rmj_batch_step(struct rmj_batch *batch, const char *job, const Rmjob__V1__StepRequest *step)
{
    Rmjob__V1__StepRequest facts;
    db_step_facts(step, &facts);
    ADD(batch, W_STEP, text(job), integer(step->step), blob(&facts.base));
}

void rmj_batch_launch(struct rmj_batch *batch, const struct rmj_launch_row *row)
{
    ADD(batch, W_LAUNCH, text(row->launch), text(row->job), integer(row->pid), integer((int64_t)row->start_time),
        integer(row->is_task));
}

void rmj_batch_launch_gone(struct rmj_batch *batch, const char *launch)
{
    ADD(batch, W_LAUNCH_GONE, text(launch));
}

void rmj_batch_policy(struct rmj_batch *batch, const Rmjob__V1__Policy *policy)
{
    ADD(batch, W_POLICY, text(policy->project), blob(&policy->base));
}

void rmj_batch_version(struct rmj_batch *batch, const Rmjob__V1__ModelVersion *version)
{
    ADD(batch, W_VERSION, text(version->name), integer(version->version), text(version->job), blob(&version->base));
}

void rmj_batch_alias(struct rmj_batch *batch, const Rmjob__V1__Alias *alias)
{
    ADD(batch, W_ALIAS, text(alias->name), text(alias->alias), integer(alias->version), blob(&alias->base));
}
