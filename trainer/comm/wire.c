#include "trainer/comm/wire.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>

#include "base/status.h"

void rmj_wire_mac(const struct rmj_wire_key *key, const char *role, const struct rmj_wire_hello *hello,
                  const uint8_t accept_nonce[RMJ_WIRE_NONCE_SIZE], uint8_t mac[RMJ_WIRE_MAC_SIZE])
{
    uint8_t text[8 + sizeof *hello + RMJ_WIRE_NONCE_SIZE] = {0};
    RMJ_ASSERT(strlen(role) < 8 && key->secret_size < 1024);
    memcpy(text, role, strlen(role));
    memcpy(text + 8, hello, sizeof *hello);
    memcpy(text + 8 + sizeof *hello, accept_nonce, RMJ_WIRE_NONCE_SIZE);
    unsigned size = RMJ_WIRE_MAC_SIZE;
    RMJ_ASSERT(HMAC(EVP_sha256(), key->secret, (int)key->secret_size, text, sizeof text, mac, &size) != NULL);
    RMJ_ASSERT(size == RMJ_WIRE_MAC_SIZE);
}
