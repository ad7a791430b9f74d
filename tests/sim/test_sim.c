// Months of faults in seconds: the real core in a made-up world, seed by seed.
//
//   test_sim                      1000 seeds (RMJOB_SIM_SEEDS=N for more, RMJOB_SIM_FIRST=S to begin at S)
//   test_sim --seed S             one seed, every event and action printed
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/sim.h"

static uint64_t from_environment(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text && *text ? strtoull(text, NULL, 10) : otherwise;
}

static struct sim sim; // too big for a stack

int main(int argc, char **argv)
{
    int verbose = argc == 3 && strcmp(argv[1], "--seed") == 0;
    uint64_t first = verbose ? strtoull(argv[2], NULL, 10) : from_environment("RMJOB_SIM_FIRST", 1);
    uint64_t count = verbose ? 1 : from_environment("RMJOB_SIM_SEEDS", 1000);
    uint64_t failures = 0, events = 0, generations = 0, processes = 0, ends[16] = {0};
    for (uint64_t seed = first; seed < first + count && failures < 10; seed++) {
        sim_setup(&sim, seed);
        sim.verbose = verbose;
        if (!sim_run(&sim)) {
            printf("seed %" PRIu64 " %s\n  replay: test_sim --seed %" PRIu64 "\n", seed, sim.failure, seed);
            failures++;
        }
        events += sim.events;
        processes += (uint64_t)sim.process_count;
        for (int i = 0; i < sim.job_count; i++) {
            generations += sim.jobs[i].generation;
            ends[sim.jobs[i].durable.state & 15]++;
        }
        sim_deinit(&sim);
    }
    printf("%" PRIu64 " seeds from %" PRIu64 ": %" PRIu64 " events, %" PRIu64 " rank processes, %" PRIu64
           " generations, %" PRIu64 " failures\n",
           count, first, events, processes, generations, failures);
    printf("jobs ended: %" PRIu64 " succeeded, %" PRIu64 " gate, %" PRIu64 " data, %" PRIu64 " infrastructure, %" PRIu64
           " cancelled\n",
           ends[RMJOB__V1__JOB_STATE__SUCCEEDED], ends[RMJOB__V1__JOB_STATE__FAILED_GATE],
           ends[RMJOB__V1__JOB_STATE__FAILED_DATA], ends[RMJOB__V1__JOB_STATE__FAILED_INFRASTRUCTURE],
           ends[RMJOB__V1__JOB_STATE__CANCELLED]);
    return failures ? 1 : 0;
}
