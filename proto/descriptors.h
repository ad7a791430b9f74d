// The descriptor set of everything the server speaks, with comments, embedded in the program at build time.
#ifndef RMJ_PROTO_DESCRIPTORS_H
#define RMJ_PROTO_DESCRIPTORS_H

#include <stddef.h>

// A serialized google.protobuf.FileDescriptorSet; parse it as rmjob.view.FileSet (proto/descriptor_view.proto).
extern const unsigned char rmj_descriptors[];
extern const size_t rmj_descriptors_size;

#endif
