// Settings that people know from elsewhere and that rmjob refuses on purpose: their refusal says why.
#ifndef RMJ_PROTO_TEXT_REFUSALS_H
#define RMJ_PROTO_TEXT_REFUSALS_H

// The reason for an unknown field of this name, with this scalar value (NULL when it is none); NULL when there is none.
const char *rmj_text_refusal(const char *name, const char *value);

#endif
