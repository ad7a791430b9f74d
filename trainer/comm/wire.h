// What goes over a connection between two ranks before and in front of the data. Little-endian, fixed layout.
//
//   connector                                   acceptor
//   hello {magic, generation, from, to, nonce}  ->
//                                               <-  challenge {nonce, HMAC("accept", ...)}
//   proof {HMAC("connect", ...)}                ->
//                                               <-  welcome {magic}
//
// The HMAC-SHA256 is keyed by the generation's secret and covers role, generation, both ranks and both nonces, so that
// nothing seen on one connection opens another. Then, for ever: collective header, data, collective header, ...
#ifndef RMJ_TRAINER_COMM_WIRE_H
#define RMJ_TRAINER_COMM_WIRE_H

#include <stddef.h>
#include <stdint.h>

#define RMJ_WIRE_MAGIC 0x31434a52u // "RJC1"
#define RMJ_WIRE_NONCE_SIZE 32
#define RMJ_WIRE_MAC_SIZE 32

struct rmj_wire_hello {
    uint32_t magic;
    uint32_t generation;
    uint32_t from;
    uint32_t to;
    uint8_t nonce[RMJ_WIRE_NONCE_SIZE];
};
struct rmj_wire_challenge {
    uint8_t nonce[RMJ_WIRE_NONCE_SIZE];
    uint8_t mac[RMJ_WIRE_MAC_SIZE];
};
struct rmj_wire_proof {
    uint8_t mac[RMJ_WIRE_MAC_SIZE];
};
struct rmj_wire_welcome {
    uint32_t magic;
};
// Both sides must be in the same collective: kind and number are checked before any data is taken.
struct rmj_wire_collective {
    uint32_t magic;
    uint32_t kind;
    uint64_t sequence;
};
_Static_assert(sizeof(struct rmj_wire_hello) == 48, "wire layout");
_Static_assert(sizeof(struct rmj_wire_challenge) == 64, "wire layout");
_Static_assert(sizeof(struct rmj_wire_proof) == 32, "wire layout");
_Static_assert(sizeof(struct rmj_wire_collective) == 16, "wire layout");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the wire is little-endian");

// Keyed by what both sides of a generation know.
struct rmj_wire_key {
    const void *secret;
    size_t secret_size;
};
// role: "accept" or "connect".
void rmj_wire_mac(const struct rmj_wire_key *key, const char *role, const struct rmj_wire_hello *hello,
                  const uint8_t accept_nonce[RMJ_WIRE_NONCE_SIZE], uint8_t mac[RMJ_WIRE_MAC_SIZE]);

#endif
