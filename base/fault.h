// Named points where a test makes this process fail. Inert unless RMJOB_FAULT is set in its environment:
//
//   RMJOB_FAULT=backward@3=kill                kill -9 of this process at the third time
//   RMJOB_FAULT=upload@2=kill-group            kill -9 of this process and its supervisor (its process group)
//   RMJOB_FAULT=vote@1=stall:5000              sleep 5,000 ms there
//   RMJOB_FAULT=store.put@4=error              rmj_fault_point returns 1: the caller fails as if its I/O had
//   several, comma-separated; name@n+ means from the n-th time on; RMJOB_FAULT_ONCE=FILE makes them fire only while
//   FILE does not exist yet, and creates it (so a restarted process does not fail again).
//
// Points are listed in tests/fault/README.md.
#ifndef RMJ_BASE_FAULT_H
#define RMJ_BASE_FAULT_H

#ifdef __cplusplus
extern "C" {
#endif

// 0 normally; 1 when the caller must fail. Threads: any.
int rmj_fault_point(const char *name);

#ifdef __cplusplus
}
#endif
#endif
