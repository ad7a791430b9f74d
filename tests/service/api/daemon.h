// An rmjobd of a test's own, over its real socket, with a shell script in the place of rmjob-rank. What goes wrong
// fails the test that calls.
#ifndef RMJ_TESTS_SERVICE_API_DAEMON_H
#define RMJ_TESTS_SERVICE_API_DAEMON_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/status.h"
#include "proto/rmjob/v1/jobs.pb-c.h"
#include "proto/rmjob/v1/ranks.pb-c.h"
#include "proto/rpc/client.h"
#include "service/jobs/db.h"

#define DAEMON_PATIENCE_MS 30000
#define DAEMON_CALL_MS 20000

extern char daemon_directory[64], daemon_state[80], daemon_bin[80], daemon_address[112], daemon_token_file[96];
extern pid_t daemon_pid;                     // 0: none runs
extern struct rmj_rpc_client *daemon_client; // a person's

// Of cmocka: a new directory; what was started is ended and the directory removed.
int daemon_set_up(void **unused);
int daemon_tear_down(void **unused);
// Starts $RMJOBD with a fault plan and more arguments, NULL for none; 0 when it ended before it was ready. complaint:
// what it said on standard error then.
int daemon_start(const char *fault, const char *const *more, char *complaint, size_t complaint_size);
void daemon_stop(int signal);
// Whatever was started for the jobs of this state directory.
void daemon_end_launches(void);

Rmjob__V1__JobSpec *daemon_spec(const char *base_model);
enum rmj_status daemon_call(const char *method, const ProtobufCMessage *request,
                            const ProtobufCMessageDescriptor *descriptor, void *reply, struct rmj_error *err);
enum rmj_status daemon_submit(const char *request_id, const char *base_model, char job[RMJ_ID_SIZE], int *existing,
                              struct rmj_error *err);
size_t daemon_job_count(void);
Rmjob__V1__JobState daemon_state_of(char *job);
// The events of a job from the first one on.
struct rmj_rpc_stream *daemon_watch(char *job);

// The prepare task: the token that it was given, its process, once there is one.
void daemon_token_of(const char *job, char token[RMJ_DB_TOKEN_SIZE]);
pid_t daemon_prepare_pid(void);
void daemon_await_another_prepare(pid_t former);
// Calls in its name; says Prepared, with a plan or a finding.
void daemon_say(char *job, const char *method, const ProtobufCMessage *request);
void daemon_say_prepared(char *job, Rmjob__V1__Finding *finding);

#endif
