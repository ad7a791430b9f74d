// What the scheduler does, scenario by scenario. script.h explains the lines.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "tests/service/scheduler/script.h"

#define TWO_RANKS_TRAIN                                                                                                \
    "+0  submit min=1 max=2          = PREPARE", "+5  prepared                    = LAUNCH A; LAUNCH B",               \
        "+5  launched A", "+0  launched B", "+20 attach A",                                                            \
        "+1  attach B                    = ASSIGN A g1 0/2 TRAIN FRESH 0; ASSIGN B g1 1/2 TRAIN FRESH 0"

struct scenario {
    const char *promise;
    unsigned slots;
    const char *lines[40];
};

static const struct scenario scenarios[] = {
    {"a job goes from submit to published",
     4,
     {TWO_RANKS_TRAIN, "+0 state TRAINING generation 1: 2 of 2 ranks", "+100 step g1 9", "+100 step g1 10",
      "+0 state EVALUATING all 10 steps are done", "+500 evaluated g1 = LEAVE A 0; LEAVE B 0; GATE",
      "+5 gated = PUBLISH", "+5 exit A code=0", "+5 published", "+0 state SUCCEEDED", "+5 exit B code=0 = FINISHED",
      NULL}},
    {"a gate that says no publishes nothing",
     4,
     {TWO_RANKS_TRAIN, "+9 step g1 10", "+9 evaluated g1 = LEAVE A 0; LEAVE B 0; GATE", "+5 gated no",
      "+0 state FAILED_GATE", "+5 published", "+0 state FAILED_GATE", NULL}},
    {"fewer ranks than wanted start after the wait for more",
     4,
     {"+0 submit min=1 max=3 = PREPARE", "+5 prepared = LAUNCH A; LAUNCH B; LAUNCH C", "+1 launched A", "+1 attach A",
      "+999 tick", "+1 tick = ASSIGN A g1 0/1 TRAIN FRESH 0", NULL}},
    {"never fewer than min_ranks",
     4,
     {"+0 submit min=2 max=3 = PREPARE", "+5 prepared = LAUNCH A; LAUNCH B; LAUNCH C", "+1 launched A", "+1 attach A",
      "+60000 tick", NULL}},
    {"a killed process: the survivor goes on at once, from its memory when that is whole; the new one joins at a step",
     4,
     {TWO_RANKS_TRAIN, "+100 step g1 1", "+1 detach B = END A g1 ABORT", "+1 exit B signal=9 = LAUNCH C",
      "+1 ready A g1 snap=1:f = ASSIGN A g2 0/1 TRAIN MEMORY 1", "+5 launched C", "+50 attach C = END A g2 AT_STEP",
      "+100 step g2 2", "+1 ready A g2 snap=2:f = ASSIGN A g3 0/2 TRAIN MEMORY 2; ASSIGN C g3 1/2 TRAIN MEMORY 2",
      NULL}},
    {"a killed child: its supervisor brings the pages back, which is worth a short wait",
     4,
     {TWO_RANKS_TRAIN, "+100 step g1 3", "+1 detach B = END A g1 ABORT", "+1 ready A g1 snap=3:3",
      "+40 attach B inc=2 snap=3:c = ASSIGN A g2 0/2 TRAIN MEMORY 3; ASSIGN B g2 1/2 TRAIN MEMORY 3", NULL}},
    {"a child that does not come back in time is not waited for",
     4,
     {TWO_RANKS_TRAIN, "+90 manifest g1 2", "+100 step g1 3", "+1 detach B = END A g1 ABORT", "+1 ready A g1 snap=3:3",
      "+298 tick", "+1 tick = ASSIGN A g2 0/1 TRAIN MANIFEST 2", "+100 attach B inc=2 snap=3:c = END A g2 AT_STEP",
      NULL}},
    {"a manifest that does not verify falls back to the one before, then to the base model, and is not charged",
     4,
     {"+0 submit max=1 restarts=0 = PREPARE", "+5 prepared = LAUNCH A", "+1 launched A",
      "+5 attach A = ASSIGN A g1 0/1 TRAIN FRESH 0", "+9 manifest g1 2", "+9 manifest g1 4", "+9 step g1 5",
      "+9 exit A signal=9 = LAUNCH B", "+0 state LAUNCHING every rank was lost", "+9 launched B",
      "+9 attach B = ASSIGN B g2 0/1 TRAIN MANIFEST 4",
      "+9 ready B g2 bad=m4 problem=digest = ASSIGN B g3 0/1 TRAIN MANIFEST 2",
      "+9 ready B g3 bad=m2 problem=digest = ASSIGN B g4 0/1 TRAIN FRESH 0", NULL}},
    {"two manifests of one step with different content stop the job",
     4,
     {TWO_RANKS_TRAIN, "+9 manifest g1 2", "+9 manifest g1 2", "+9 manifest g1 2 digest=other = LEAVE A 10; LEAVE B 10",
      "+0 state FAILED_INTERNAL determinism violation", NULL}},
    {"shrinking ends at a step and the highest ranks leave",
     4,
     {TWO_RANKS_TRAIN, "+9 resize max=1 = END A g1 AT_STEP; END B g1 AT_STEP", "+99 step g1 1",
      "+1 ready B g1 snap=1:c", "+1 ready A g1 snap=1:3 = LEAVE B 10; ASSIGN A g2 0/1 TRAIN FRESH 0",
      "+9 exit B code=10", NULL}},
    {"growing launches first and ends at a step once the new ones are there",
     4,
     {"+0 submit max=1 = PREPARE", "+5 prepared = LAUNCH A", "+1 launched A",
      "+5 attach A = ASSIGN A g1 0/1 TRAIN FRESH 0", "+9 resize max=2 = LAUNCH B", "+9 launched B",
      "+50 attach B = END A g1 AT_STEP", "+9 step g1 1",
      "+1 ready A g1 snap=1:f = ASSIGN A g2 0/2 TRAIN MEMORY 1; ASSIGN B g2 1/2 TRAIN MEMORY 1", NULL}},
    {"a resize before the launch counts at the launch",
     4,
     {"+0 submit max=1 = PREPARE", "+1 resize max=3", "+5 prepared = LAUNCH A; LAUNCH B; LAUNCH C", NULL}},
    {"another device class is refused and named",
     4,
     {"+0 submit max=2 restarts=0 = PREPARE", "+5 prepared = LAUNCH A; LAUNCH B", "+1 launched A", "+1 launched B",
      "+1 attach A probe=avx512", "+1 attach B probe=avx2 = REFUSE B; LEAVE A 10; KILL B", NULL}},
    {"a preempted rank is never charged",
     4,
     {"+0 submit max=1 restarts=0 = PREPARE", "+5 prepared = LAUNCH A", "+1 launched A",
      "+5 attach A = ASSIGN A g1 0/1 TRAIN FRESH 0", "+5 ready A g1 leaving = LEAVE A 10", "+5 detach A",
      "+5 exit A code=10 = LAUNCH B", "+5 launched B", "+5 attach B = ASSIGN B g2 0/1 TRAIN FRESH 0",
      "+5 exit B code=10", "+250 tick = LAUNCH C", "+0 state LAUNCHING", NULL}},
    {"dying at once every time ends in a reason, with growing pauses between",
     4,
     {"+0 submit max=1 restarts=2 = PREPARE", "+5 prepared = LAUNCH A", "+1 launched A", "+1 exit A code=1 = LAUNCH B",
      "+1 launched B", "+1 exit B code=1", "+249 tick", "+1 tick = LAUNCH C", "+1 launched C",
      "+1 exit C code=1 = FINISHED", "+0 state FAILED_INFRASTRUCTURE stopped after 3 restarts without a new step",
      NULL}},
    {"a rank killed again and again that moves on between is not charged",
     4,
     {"+0 submit max=1 restarts=0 every=1 = PREPARE", "+5 prepared = LAUNCH A", "+1 launched A",
      "+5 attach A = ASSIGN A g1 0/1 TRAIN FRESH 0", "+9 manifest g1 1", "+9 exit A signal=9 = LAUNCH B",
      "+1 launched B", "+5 attach B = ASSIGN B g2 0/1 TRAIN MANIFEST 1", "+9 manifest g2 2",
      "+9 exit B signal=9 = LAUNCH C", "+1 launched C", "+5 attach C = ASSIGN C g3 0/1 TRAIN MANIFEST 2", NULL}},
    {"a silent rank is killed, the other goes on",
     4,
     {TWO_RANKS_TRAIN, "+4000 beat A g1", "+999 tick", "+1 tick = END A g1 ABORT; KILL B",
      "+9 ready A g1 = ASSIGN A g2 0/1 TRAIN FRESH 0", NULL}},
    {"a survivor that does not leave its generation is killed",
     4,
     {TWO_RANKS_TRAIN, "+9 step g1 1", "+1 exit B signal=9 = END A g1 ABORT; LAUNCH C", "+1500 tick = KILL A", NULL}},
    {"a rank lost while evaluating: the next generation evaluates",
     4,
     {TWO_RANKS_TRAIN, "+9 step g1 10", "+9 manifest g1 10", "+1 exit B signal=9 = END A g1 ABORT; LAUNCH C",
      "+1 ready A g1 snap=10:3 = ASSIGN A g2 0/1 EVALUATE MANIFEST 10", "+9 launched C", "+9 attach C",
      "+9 evaluated g2 = LEAVE A 0; LEAVE C 0; GATE", NULL}},
    {"stale words do nothing",
     4,
     {TWO_RANKS_TRAIN, "+1 detach B inc=0", "+1 ready A g0 snap=0:f", "+1 evaluated g0", "+1 step g2 5", "+1 step g0 5",
      "+1 fail g0 data", "+1 exit Z signal=9", "+1 attach A inc=0 = REFUSE A", "+1 published", "+1 gated",
      "+1 prepared", "+1 launched A", "+1 launch_failed A", "+0 state TRAINING", NULL}},
    {"a rank that finds bad data stops the job",
     4,
     {TWO_RANKS_TRAIN, "+9 fail g1 data = LEAVE A 10; LEAVE B 10", "+0 state FAILED_DATA row 7 is bad",
      "+9 exit A code=10", "+9 exit B code=10 = FINISHED", NULL}},
    {"cancel tells attached ranks to leave, kills the others, and those that stay on",
     4,
     {"+0 submit max=2 = PREPARE", "+5 prepared = LAUNCH A; LAUNCH B", "+1 launched A", "+1 attach A",
      "+1 cancel = LEAVE A 10; KILL B", "+1 exit B signal=9", "+0 state CANCELLED", "+1500 tick = KILL A",
      "+1 exit A signal=9 = FINISHED", NULL}},
    {"too late to cancel once it is being published",
     4,
     {TWO_RANKS_TRAIN, "+9 step g1 10", "+9 evaluated g1 = LEAVE A 0; LEAVE B 0; GATE", "+5 gated = PUBLISH",
      "+1 cancel", "+1 published", "+0 state SUCCEEDED", NULL}},
    {"the deadline and the rank-hours end a job",
     4,
     {"+0 submit max=1 deadline=5000 = PREPARE", "+5 prepared = LAUNCH A", "+1 launched A",
      "+5 attach A = ASSIGN A g1 0/1 TRAIN FRESH 0", "+4000 beat A g1", "+1000 tick = LEAVE A 10",
      "+0 state FAILED_INFRASTRUCTURE budget.deadline", NULL}},
    {"rank-hours count every process",
     4,
     {"+0 submit min=2 max=2 seconds=6 = PREPARE", "+5 prepared = LAUNCH A; LAUNCH B", "+1 launched A", "+0 launched B",
      "+2990 attach A", "+20 tick = LEAVE A 10; KILL B", "+0 state FAILED_INFRASTRUCTURE budget.rank_hours", NULL}},
    {"oldest first; a big job is not starved by small ones",
     3,
     {"+0 submit min=2 max=2 = PREPARE", "+1 submit job=2 min=2 max=2 = PREPARE", "+1 submit job=3 max=1 = PREPARE",
      "+1 prepared = LAUNCH A; LAUNCH B", "+1 prepared job=2", "+1 prepared job=3", "+1 launched A",
      "+1 cancel = KILL A; KILL B", "+1 exit A signal=9 = LAUNCH C; LAUNCH D",
      "+1 exit B signal=9 = FINISHED; LAUNCH E", NULL}},
    {"a project at its limit holds back only itself",
     4,
     {"+0 limits project=a jobs=1", "+0 submit max=1 = PREPARE", "+1 submit job=2 max=1 = PREPARE",
      "+1 submit job=3 max=1 project=b = PREPARE", "+1 prepared = LAUNCH A", "+1 prepared job=2",
      "+1 prepared job=3 = LAUNCH B", "+1 limits project=a jobs=2", "+0 tick = LAUNCH C", NULL}},
    {"more min_ranks than slots is said at once",
     4,
     {"+0 submit min=5 max=6 = PREPARE", "+5 prepared = FINISHED",
      "+0 state FAILED_INFRASTRUCTURE elastic.min_ranks is 5", NULL}},
    {"rmjobd restarts: ranks that still run the generation come back and it goes on",
     4,
     {TWO_RANKS_TRAIN, "+9 step g1 1", "+0 restart", "+9 attach A run=1/0", "+9 attach B run=1/1", "+9 step g1 2",
      "+0 state TRAINING", "+9 step g1 10", "+9 evaluated g1 = LEAVE A 0; LEAVE B 0; GATE",
      "+0 restart = KILL A; KILL B; GATE", NULL}},
    {"rmjobd restarts and a rank died meanwhile: the rest waits, then goes on without it",
     4,
     {TWO_RANKS_TRAIN, "+9 manifest g1 4", "+0 restart", "+9 attach A snap=5:3", "+1990 tick",
      "+1 tick = KILL B; ASSIGN A g2 0/1 TRAIN MANIFEST 4", "+1 exit B signal=9 = LAUNCH C", NULL}},
    {"rmjobd restarts and a rank has left its generation: it is over for all",
     4,
     {TWO_RANKS_TRAIN, "+9 step g1 1", "+0 restart", "+9 attach A run=1/0", "+9 attach B snap=1:c = END A g1 ABORT",
      "+9 ready A g1 snap=1:3 = ASSIGN A g2 0/2 TRAIN MEMORY 1; ASSIGN B g2 1/2 TRAIN MEMORY 1", NULL}},
    {"ranks that cannot reach each other do not try for ever",
     4,
     {"+0 submit min=2 max=2 restarts=1 = PREPARE", "+5 prepared = LAUNCH A; LAUNCH B", "+1 launched A",
      "+1 launched B", "+1 attach A", "+1 attach B = ASSIGN A g1 0/2 TRAIN FRESH 0; ASSIGN B g1 1/2 TRAIN FRESH 0",
      "+9 ready A g1 suspect problem=unreachable = END B g1 ABORT",
      "+9 ready B g1 = ASSIGN A g2 0/2 TRAIN FRESH 0; ASSIGN B g2 1/2 TRAIN FRESH 0",
      "+9 ready A g2 suspect problem=unreachable = END B g2 ABORT", "+9 ready B g2",
      "+250 tick = LEAVE A 10; LEAVE B 10", "+0 state FAILED_INFRASTRUCTURE stopped after 2 restarts", NULL}},
};

static void run_scenario(void **state)
{
    const struct scenario *scenario = *state;
    script_run(scenario->slots, scenario->lines);
}

int main(void)
{
    struct CMUnitTest tests[sizeof scenarios / sizeof *scenarios];
    for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++) {
        tests[i] = (struct CMUnitTest){
            .name = scenarios[i].promise, .test_func = run_scenario, .initial_state = (void *)(uintptr_t)&scenarios[i]};
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
