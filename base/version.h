// The version of rmjob and of the protocol between its parts.
#ifndef RMJ_BASE_VERSION_H
#define RMJ_BASE_VERSION_H

#define RMJ_VERSION "0.1.0"
// Bumped when a message changes so that an older side would misread it.
#define RMJ_PROTOCOL 1

#endif
