// Shared by the files of storage/artifact. model.sig is one JSON object (OpenSSF Model Signing over a DSSE envelope):
//
//   bundle { mediaType, verificationMaterial { publicKey { hint }, tlogEntries [] },
//            dsseEnvelope { payload: base64(statement), payloadType, signatures [ { sig: base64(DER ECDSA), keyid } ] }
//            }
//   statement { _type, subject [ { name, digest { sha256: root } } ], predicateType,
//               predicate { serialization, resources [ { name, algorithm, digest } ] } }
//
// Signed are the bytes "DSSEv1 <type length> <type> <payload length> <payload>".
#ifndef RMJ_STORAGE_ARTIFACT_ARTIFACT_INTERNAL_H
#define RMJ_STORAGE_ARTIFACT_ARTIFACT_INTERNAL_H

#include <openssl/evp.h>

#include "storage/artifact/artifact.h"

#define ARTIFACT_SIGNATURE_NAME "model.sig"
#define ARTIFACT_PATH_SIZE_MAX 512
#define ARTIFACT_FILE_COUNT_MAX 10000
#define ARTIFACT_SIGNATURE_SIZE_MAX (16u << 20)
#define ARTIFACT_PEM_SIZE_MAX (16u << 10)
#define ECDSA_SIGNATURE_SIZE_MAX 80 // DER, P-256

#define BUNDLE_MEDIA_TYPE "application/vnd.dev.sigstore.bundle.v0.3+json"
#define PAYLOAD_TYPE "application/vnd.in-toto+json"
#define STATEMENT_TYPE "https://in-toto.io/Statement/v1"
#define PREDICATE_TYPE "https://model_signing/signature/v1.0"

// Files that the public verifier leaves out of account at the top of a directory, whatever a statement lists.
extern const char *const artifact_ignored_names[];
extern const size_t artifact_ignored_name_count;

struct rmj_signing_key {
    EVP_PKEY *pair;
};

// What is wrong with a path of a listed file, or NULL.
const char *artifact_path_fault(const char *path);
// Order of the public signer: by path components.
int artifact_path_compare(const char *a, const char *b);
// Pre-authentication encoding of a payload.
void artifact_pae(const void *payload, size_t size, struct rmj_buf *out);
// Lower-case hex SHA-256 of the public key as PEM, and that PEM when `pem` is not NULL.
enum rmj_status artifact_key_hint(EVP_PKEY *key, char hint[RMJ_DIGEST_HEX_SIZE], struct rmj_buf *pem,
                                  struct rmj_error *err);
// 1 for an EC key on P-256.
int artifact_key_is_p256(const EVP_PKEY *key);

#endif
