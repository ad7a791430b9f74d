// A coordinator with the simplest policy there is, over a real gRPC server, so that real rmjob-rank processes can be
// killed without rmjobd: start a generation when `wanted` ranks are ready, end it when one is lost, resume at the
// newest step that is whole in memories or in a manifest.
#ifndef RMJ_TESTS_TRAINER_RUN_FAKE_COORDINATOR_H
#define RMJ_TESTS_TRAINER_RUN_FAKE_COORDINATOR_H

#include <stdint.h>

#include "proto/rmjob/v1/ranks.pb-c.h"

struct fake;

struct fake_options {
    const char *address; // "unix:..." to listen on
    const Rmjob__V1__JobSpec *spec;
    const char *checkpoint_store, *publish_store, *job_uid, *plan;
    uint32_t page_count;
    uint32_t checkpoint_every;
    uint32_t wanted;
};
struct fake *fake_start(const struct fake_options *options);
void fake_stop(struct fake *fake);
// Ends the running generation at a step when the number changes.
void fake_set_wanted(struct fake *fake, uint32_t wanted);

struct fake_view {
    uint32_t generation, step, attached;
    uint32_t steps_reported; // with replays
    uint32_t memory_resumes, manifest_resumes;
    int evaluated, failed;
    char reason[512];
    char consumed_sum[65], chain[65];
    uint64_t pairs;
    char artifact[65], rows[65];
    char manifest[65]; // newest
    uint32_t manifest_step;
    uint64_t owned_bytes_max; // largest seen in heartbeats of the running generation
    int bad_manifests;
    int leavers;
};
void fake_view(struct fake *fake, struct fake_view *view);
// Restart of the service: every stream breaks, nothing is forgotten.
void fake_restart(struct fake *fake);

#endif
