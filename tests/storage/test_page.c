// Encoded pages: exact round trips, the layout, and a decoder that takes no lie.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "storage/checkpoint/checkpoint.h"
#include "storage/checkpoint/page_format.h"

#define MUTATION_COUNT 20000
#define SEED 7

static void fill_normal(float *values, size_t count, uint64_t seed)
{
    struct rmj_rng rng;
    rmj_rng_init(&rng, seed, 0);
    for (size_t i = 0; i < count; i++) {
        values[i] = (float)(0.02 * rmj_rng_normal(&rng));
    }
}

static struct rmj_buf encode(const struct rmj_page_section *sections, size_t count)
{
    struct rmj_buf out;
    rmj_buf_init(&out, 64u << 20);
    struct rmj_error err = {0};
    if (rmj_page_encode(sections, count, 1, &out, &err) != RMJ_OK) {
        fail_msg("%s", err.message);
    }
    return out;
}

static void assert_round_trip(const struct rmj_page_section *sections, size_t count)
{
    struct rmj_digest digest;
    rmj_page_digest(sections, count, &digest);
    struct rmj_buf encoded = encode(sections, count);
    size_t raw_size = 0;
    for (size_t i = 0; i < count; i++) {
        raw_size += sections[i].size;
    }
    assert_true(encoded.size <= page_encoded_size_max(raw_size));
    // Exactly the bytes and no more: a byte too far is seen by the address sanitizer.
    uint8_t *exact = malloc(encoded.size);
    memcpy(exact, encoded.bytes, encoded.size);
    uint8_t *raw = malloc(raw_size);
    struct rmj_error err = {0};
    if (rmj_page_decode(exact, encoded.size, raw, raw_size, &digest, &err) != RMJ_OK) {
        fail_msg("%s", err.message);
    }
    size_t at = 0;
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(sections[i].size == 0 ? 0 : memcmp(raw + at, sections[i].bytes, sections[i].size), 0);
        at += sections[i].size;
    }
    free(raw);
    free(exact);
    rmj_buf_deinit(&encoded);
}

static void pages_of_every_size_come_back_bit_for_bit(void **state)
{
    (void)state;
    const size_t counts[] = {0, 1, 2, 3, 65535, 65536, 65537, 131072, 200001};
    float *values = malloc(200001 * sizeof *values);
    fill_normal(values, 200001, SEED);
    for (size_t i = 0; i < RMJ_COUNT(counts); i++) {
        struct rmj_page_section one = {values, counts[i] * sizeof *values, 1};
        assert_round_trip(&one, 1);
        struct rmj_page_section bytes = {values, counts[i] * 3 + 1, 0};
        assert_round_trip(&bytes, counts[i] * 3 + 1 <= 200001 * sizeof *values);
        struct rmj_page_section four[] = {one, {values, 5, 0}, {values, 0, 1}, {values, 4096, 1}};
        assert_round_trip(four, 4);
    }
    assert_round_trip(NULL, 0);
    free(values);
}

static void odd_floats_come_back_bit_for_bit(void **state)
{
    (void)state;
    float values[] = {0.0f, -0.0f, INFINITY, -INFINITY, NAN, FLT_MIN, -FLT_MIN, FLT_TRUE_MIN, FLT_MAX, -1.0f, 1.0f};
    uint32_t signalling = 0xffa00001;
    memcpy(&values[10], &signalling, sizeof signalling);
    struct rmj_page_section section = {values, sizeof values, 1};
    assert_round_trip(&section, 1);
}

static void exponents_compress_and_zeros_vanish(void **state)
{
    (void)state;
    size_t count = 1u << 20;
    float *values = calloc(count, sizeof *values);
    struct rmj_page_section section = {values, count * sizeof *values, 1};
    struct rmj_buf zeros = encode(&section, 1);
    assert_true(zeros.size < section.size / 100);
    fill_normal(values, count, SEED);
    struct rmj_buf normal = encode(&section, 1);
    // Measured 1.187 on this distribution (reference/fault-tolerance.md); bytes as they lie give 1.08.
    assert_true((double)section.size / (double)normal.size > 1.15);
    rmj_buf_deinit(&zeros);
    rmj_buf_deinit(&normal);
    free(values);
}

static void the_same_page_is_encoded_in_the_same_bytes(void **state)
{
    (void)state;
    float values[3000];
    fill_normal(values, 3000, SEED);
    struct rmj_page_section section = {values, sizeof values, 1};
    struct rmj_buf a = encode(&section, 1);
    struct rmj_buf b = encode(&section, 1);
    assert_int_equal(a.size, b.size);
    assert_memory_equal(a.bytes, b.bytes, a.size);
    rmj_buf_deinit(&a);
    rmj_buf_deinit(&b);
}

struct sample {
    float values[9000];
    struct rmj_page_section sections[2];
    struct rmj_digest digest;
    struct rmj_buf encoded;
    uint8_t *raw;
    size_t raw_size;
};

static void make_sample(struct sample *sample)
{
    fill_normal(sample->values, 9000, SEED);
    memset(sample->values + 6000, 0, 3000 * sizeof(float));
    sample->sections[0] = (struct rmj_page_section){sample->values, sizeof sample->values, 1};
    sample->sections[1] = (struct rmj_page_section){"metadata of the page", 20, 0};
    rmj_page_digest(sample->sections, 2, &sample->digest);
    sample->encoded = encode(sample->sections, 2);
    sample->raw_size = sizeof sample->values + 20;
    sample->raw = malloc(sample->raw_size);
}

static void free_sample(struct sample *sample)
{
    rmj_buf_deinit(&sample->encoded);
    free(sample->raw);
}

static void every_truncation_is_corrupt(void **state)
{
    (void)state;
    struct sample sample;
    make_sample(&sample);
    for (size_t size = 0; size < sample.encoded.size; size += size < 600 ? 1 : 97) {
        uint8_t *cut = malloc(size + 1);
        memcpy(cut, sample.encoded.bytes, size);
        assert_int_equal(rmj_page_decode(cut, size, sample.raw, sample.raw_size, &sample.digest, NULL), RMJ_CORRUPT);
        free(cut);
    }
    free_sample(&sample);
}

static void another_page_is_corrupt(void **state)
{
    (void)state;
    struct sample sample;
    make_sample(&sample);
    struct rmj_digest other = sample.digest;
    other.bytes[31] ^= 1;
    struct rmj_error err = {0};
    assert_int_equal(
        rmj_page_decode(sample.encoded.bytes, sample.encoded.size, sample.raw, sample.raw_size, &other, &err),
        RMJ_CORRUPT);
    assert_non_null(strstr(err.message, "decodes to other bytes"));
    assert_int_equal(rmj_page_decode(sample.encoded.bytes, sample.encoded.size, sample.raw, sample.raw_size - 4,
                                     &sample.digest, &err),
                     RMJ_CORRUPT);
    assert_non_null(strstr(err.message, "raw bytes"));
    free_sample(&sample);
}

// A liar that fixes the header's checksum after changing the tables gets further, and still nowhere.
static void reseal(uint8_t *bytes, size_t size)
{
    struct page_header header;
    memcpy(&header, bytes, sizeof header);
    if (header.header_size < sizeof header || header.header_size > size) {
        return;
    }
    header.checksum = page_header_checksum(&header, bytes + sizeof header, header.header_size - sizeof header);
    memcpy(bytes, &header, sizeof header);
}

static void mutate(struct rmj_rng *rng, uint8_t *bytes, size_t *size, size_t header_size)
{
    size_t count = 1 + rmj_rng_below(rng, 4);
    for (size_t i = 0; i < count; i++) {
        size_t bound = rmj_rng_below(rng, 3) > 0 && header_size < *size ? header_size : *size;
        size_t at = rmj_rng_below(rng, bound);
        switch (rmj_rng_below(rng, 4)) {
        case 0:
            bytes[at] ^= (uint8_t)(1u << rmj_rng_below(rng, 8));
            break;
        case 1:
            bytes[at] = (uint8_t)rmj_rng_next(rng);
            break;
        case 2:
            memset(bytes + at, rmj_rng_below(rng, 2) ? 0xff : 0, *size - at < 8 ? *size - at : 8);
            break;
        default:
            *size = rmj_rng_below(rng, 20) == 0 ? at + 1 : *size;
            break;
        }
    }
}

static void no_mutation_is_decoded_or_read_past(void **state)
{
    (void)state;
    struct sample sample;
    make_sample(&sample);
    struct rmj_rng rng;
    rmj_rng_init(&rng, SEED, 0);
    print_message("seed %d\n", SEED);
    struct page_header header;
    memcpy(&header, sample.encoded.bytes, sizeof header);
    for (size_t i = 0; i < MUTATION_COUNT; i++) {
        size_t size = sample.encoded.size;
        uint8_t *bytes = malloc(size);
        memcpy(bytes, sample.encoded.bytes, size);
        mutate(&rng, bytes, &size, header.header_size);
        bytes = realloc(bytes, size);
        if (i % 2 == 0 && size >= sizeof header) {
            reseal(bytes, size);
        }
        int same = size == sample.encoded.size && memcmp(bytes, sample.encoded.bytes, size) == 0;
        enum rmj_status got = rmj_page_decode(bytes, size, sample.raw, sample.raw_size, &sample.digest, NULL);
        assert_int_equal(got, same ? RMJ_OK : RMJ_CORRUPT);
        free(bytes);
    }
    free_sample(&sample);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages_of_every_size_come_back_bit_for_bit),
        cmocka_unit_test(odd_floats_come_back_bit_for_bit),
        cmocka_unit_test(exponents_compress_and_zeros_vanish),
        cmocka_unit_test(the_same_page_is_encoded_in_the_same_bytes),
        cmocka_unit_test(every_truncation_is_corrupt),
        cmocka_unit_test(another_page_is_corrupt),
        cmocka_unit_test(no_mutation_is_decoded_or_read_past),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
