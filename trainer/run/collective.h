// Counts a collective for the heartbeats: called before each one.
#ifndef RMJ_TRAINER_RUN_COLLECTIVE_H
#define RMJ_TRAINER_RUN_COLLECTIVE_H

struct rmj_trainer;
void rmj_collective_note(struct rmj_trainer *trainer);

#endif
