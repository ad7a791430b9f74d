// One epoch across jobs: a base model that was trained on the same pairs before is refused.
#ifndef RMJ_TRAINER_DATA_LINEAGE_H
#define RMJ_TRAINER_DATA_LINEAGE_H

#include "proto/rmjob/v1/report.pb-c.h"
#include "trainer/data/findings.h"

// Reads directory/rmjob.json, when there is one: the JobReport under "report" names the files and pairs the model was
// trained on. Equal ones, or a file that cannot be read as such, become error findings.
void rmj_lineage_check(const char *directory, const Rmjob__V1__DataReport *data, const char *pairs_sum,
                       struct rmj_findings *findings);

#endif
