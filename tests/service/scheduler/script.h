// Scenarios as text. One line is one event and what must follow from it:
//
//   "+10 attach A                 = ASSIGN A g1 0/1 TRAIN FRESH 0"
//
// "+10": virtual milliseconds since the line before; what falls due meanwhile belongs to the line. Rank processes are
// called A, B, C, ... in the order of their LAUNCH. After "=": all actions, in order, separated by "; ", without NOTE
// and PERSIST (that PERSIST comes first is checked for every line, and by the simulation). Nothing after "=": no
// action.
//
//   submit min=1 max=2 [every=5] [off] [restarts=3] [deadline=5000] [seconds=30] [job=2] [project=b]
//   prepared [pages=4] [steps=10] | prepare_failed | launched A | launch_failed A
//   exit A code=10 [error=x] | exit A signal=9 | attach A [inc=2] [snap=5:f] [probe=y] [run=1/0]
//   ready A g1 [snap=5:f,4:3] [leaving] [problem=x] [suspect] [bad=m5] | detach A [inc=1] | beat A g1
//   step g1 5 | manifest g1 5 [digest=x] | evaluated g1 | gated [no] | published | publish_failed | fail g1 data
//   cancel | resize min=1 max=3 | limits project=a ranks=4 jobs=1 | tick
//   restart (rmjobd dies; a new core gets the persisted records) | state TRAINING [in the reason ...]
#ifndef RMJ_TESTS_SERVICE_SCHEDULER_SCRIPT_H
#define RMJ_TESTS_SERVICE_SCHEDULER_SCRIPT_H

// Fails the running cmocka test at the first line that does not hold, printing it. slots: of the service.
void script_run(unsigned slots, const char *const *lines);

#endif
