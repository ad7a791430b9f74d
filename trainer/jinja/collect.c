// Mappings, hashing, and reading values in order.
#include <string.h>

#include "trainer/jinja/unicode.h"
#include "trainer/jinja/value.h"

// A mapping gets an index once it has more entries than this.
#define INDEX_ABOVE 8
#define HASH_PRIME 0x9E3779B97F4A7C15ULL

static uint64_t mix(uint64_t hash)
{
    hash ^= hash >> 32;
    hash *= HASH_PRIME;
    return hash ^ (hash >> 29);
}

static uint64_t hash_bytes(const char *bytes, size_t size)
{
    uint64_t hash = HASH_PRIME ^ size;
    for (size_t i = 0; i < size; i++) {
        hash = (hash ^ (unsigned char)bytes[i]) * 0x100000001B3ULL;
    }
    return mix(hash);
}

uint64_t jinja_hash(struct jinja_state *state, struct jinja_value value)
{
    uint64_t hash = value.kind;
    double real;
    switch (value.kind) {
    case JINJA_BOOL:
    case JINJA_INT:
        return mix((uint64_t)jinja_integer_of(value));
    case JINJA_FLOAT:
        if (value.real >= -9.2e18 && value.real <= 9.2e18 && (double)(int64_t)value.real == value.real) {
            return mix((uint64_t)(int64_t)value.real); // 1.0 and 1 are one key
        }
        real = value.real;
        memcpy(&hash, &real, sizeof(hash));
        return mix(hash);
    case JINJA_STRING:
        return hash_bytes(value.string->bytes, value.string->size);
    case JINJA_TUPLE:
        jinja_enter(state);
        for (size_t i = 0; i < value.list->count; i++) {
            hash = mix(hash ^ jinja_hash(state, value.list->items[i]));
        }
        jinja_exit(state);
        return hash;
    case JINJA_LIST:
    case JINJA_DICT:
    case JINJA_VIEW:
        jinja_fail(state, "unhashable type: '%s'", jinja_kind_name(value.kind));
    default:
        return mix(hash);
    }
}

struct jinja_value jinja_dict_new(struct jinja_state *state)
{
    return (struct jinja_value){.kind = JINJA_DICT, .dict = JINJA_NEW(state, struct jinja_dict)};
}

static int same_key(struct jinja_state *state, struct jinja_value a, struct jinja_value b)
{
    if (a.kind == JINJA_STRING && b.kind == JINJA_STRING) {
        return a.string->size == b.string->size && memcmp(a.string->bytes, b.string->bytes, a.string->size) == 0;
    }
    return jinja_equal(state, a, b);
}

// Position of the key, or count.
static size_t find(struct jinja_state *state, const struct jinja_dict *dict, struct jinja_value key)
{
    if (!dict->slots) {
        for (size_t i = 0; i < dict->count; i++) {
            if (same_key(state, dict->keys[i], key)) {
                return i;
            }
        }
        return dict->count;
    }
    uint64_t hash = jinja_hash(state, key);
    for (size_t probe = 0;; probe++) {
        jinja_charge(state, 0);
        uint32_t slot = dict->slots[(hash + probe) & (dict->slot_count - 1)];
        if (!slot) {
            return dict->count;
        }
        if (same_key(state, dict->keys[slot - 1], key)) {
            return slot - 1;
        }
    }
}

static void place(struct jinja_state *state, struct jinja_dict *dict, size_t position)
{
    uint64_t hash = jinja_hash(state, dict->keys[position]);
    size_t probe = 0;
    while (dict->slots[(hash + probe) & (dict->slot_count - 1)]) {
        probe++;
    }
    dict->slots[(hash + probe) & (dict->slot_count - 1)] = (uint32_t)position + 1;
}

void jinja_dict_set(struct jinja_state *state, struct jinja_dict *dict, struct jinja_value key,
                    struct jinja_value value)
{
    if (key.kind != JINJA_STRING) {
        (void)jinja_hash(state, key);
    }
    size_t position = find(state, dict, key);
    if (position < dict->count) {
        dict->values[position] = value;
        return;
    }
    if (dict->count >= UINT32_MAX / 4) {
        jinja_fail(state, "a mapping has too many entries");
    }
    dict->keys = jinja_grow(state, dict->keys, &dict->capacity, dict->count + 1, sizeof(*dict->keys));
    dict->values = jinja_grow(state, dict->values, &dict->value_capacity, dict->count + 1, sizeof(*dict->values));
    dict->keys[dict->count] = key;
    dict->values[dict->count] = value;
    dict->count++;
    if (dict->count > INDEX_ABOVE && dict->count * 2 > dict->slot_count) {
        dict->slot_count = dict->slot_count ? dict->slot_count * 2 : 32;
        dict->slots = jinja_take(state, dict->slot_count * sizeof(*dict->slots));
        for (size_t i = 0; i < dict->count; i++) {
            place(state, dict, i);
        }
    } else if (dict->slots) {
        place(state, dict, dict->count - 1);
    }
}

int jinja_dict_get(struct jinja_state *state, const struct jinja_dict *dict, struct jinja_value key,
                   struct jinja_value *value)
{
    if (key.kind != JINJA_STRING) {
        (void)jinja_hash(state, key);
    }
    size_t position = find(state, dict, key);
    if (position == dict->count) {
        return 0;
    }
    *value = dict->values[position];
    return 1;
}

int jinja_dict_get_text(struct jinja_state *state, const struct jinja_dict *dict, const struct jinja_string *key,
                        struct jinja_value *value)
{
    return jinja_dict_get(state, dict, (struct jinja_value){.kind = JINJA_STRING, .string = key}, value);
}

void jinja_dict_merge(struct jinja_state *state, struct jinja_dict *into, const struct jinja_dict *from)
{
    for (size_t i = 0; i < from->count; i++) {
        jinja_dict_set(state, into, from->keys[i], from->values[i]);
    }
}

int jinja_is_iterable(struct jinja_value value)
{
    switch (value.kind) {
    case JINJA_UNDEFINED:
    case JINJA_STRING:
    case JINJA_LIST:
    case JINJA_TUPLE:
    case JINJA_DICT:
    case JINJA_RANGE:
    case JINJA_VIEW:
    case JINJA_GENERATOR:
    case JINJA_LOOP:
        return 1;
    default:
        return 0;
    }
}

struct jinja_iterator jinja_iterate(struct jinja_state *state, struct jinja_value source)
{
    if (!jinja_is_iterable(source)) {
        jinja_fail(state, "'%s' object is not iterable", jinja_kind_name(source.kind));
    }
    if (source.kind == JINJA_LOOP) {
        jinja_fail(state, "the loop variable cannot be iterated");
    }
    if (source.kind == JINJA_GENERATOR && source.generator->compute) {
        void (*compute)(struct jinja_state *, struct jinja_generator *) = source.generator->compute;
        source.generator->compute = NULL;
        compute(state, source.generator);
    }
    return (struct jinja_iterator){.source = source};
}

static int next_of_list(struct jinja_iterator *iterator, const struct jinja_list *list, size_t *position,
                        struct jinja_value *item)
{
    (void)iterator;
    if (*position >= list->count) {
        return 0;
    }
    *item = list->items[(*position)++];
    return 1;
}

static int next_of_text(struct jinja_state *state, struct jinja_iterator *iterator, struct jinja_value *item)
{
    const struct jinja_string *string = iterator->source.string;
    if (iterator->position >= string->size) {
        return 0;
    }
    const char *at = string->bytes + iterator->position;
    size_t size = rmj_utf8_size((unsigned char)*at);
    *item = jinja_text_borrow(state, at, size);
    iterator->position += size;
    return 1;
}

static int next_of_view(struct jinja_state *state, struct jinja_iterator *iterator, const struct jinja_dict *dict,
                        enum jinja_view_kind kind, struct jinja_value *item)
{
    if (iterator->position >= dict->count) {
        return 0;
    }
    size_t i = iterator->position++;
    *item = kind == JINJA_VIEW_KEYS     ? dict->keys[i]
            : kind == JINJA_VIEW_VALUES ? dict->values[i]
                                        : jinja_pair(state, dict->keys[i], dict->values[i]);
    return 1;
}

int jinja_next(struct jinja_state *state, struct jinja_iterator *iterator, struct jinja_value *item)
{
    jinja_charge(state, 0);
    struct jinja_value source = iterator->source;
    switch (source.kind) {
    case JINJA_LIST:
    case JINJA_TUPLE:
        return next_of_list(iterator, source.list, &iterator->position, item);
    case JINJA_GENERATOR:
        return next_of_list(iterator, &source.generator->items, &source.generator->position, item);
    case JINJA_DICT:
        return next_of_view(state, iterator, source.dict, JINJA_VIEW_KEYS, item);
    case JINJA_VIEW:
        return next_of_view(state, iterator, source.view->dict, source.view->kind, item);
    case JINJA_STRING:
        return next_of_text(state, iterator, item);
    case JINJA_RANGE:
        if (iterator->position >= source.range->count) {
            return 0;
        }
        *item = jinja_int(source.range->start + (int64_t)iterator->position++ * source.range->step);
        return 1;
    default:
        return 0;
    }
}

struct jinja_value jinja_list_of(struct jinja_state *state, struct jinja_value source)
{
    struct jinja_value list = jinja_list_new(state), item;
    struct jinja_iterator iterator = jinja_iterate(state, source);
    while (jinja_next(state, &iterator, &item)) {
        jinja_list_append(state, list.list, item);
    }
    return list;
}

int jinja_length(struct jinja_state *state, struct jinja_value value, int64_t *length)
{
    (void)state;
    switch (value.kind) {
    case JINJA_UNDEFINED:
        *length = 0;
        return 1;
    case JINJA_STRING:
        *length = (int64_t)value.string->length;
        return 1;
    case JINJA_LIST:
    case JINJA_TUPLE:
        *length = (int64_t)value.list->count;
        return 1;
    case JINJA_DICT:
        *length = (int64_t)value.dict->count;
        return 1;
    case JINJA_RANGE:
        *length = (int64_t)value.range->count;
        return 1;
    case JINJA_VIEW:
        *length = (int64_t)value.view->dict->count;
        return 1;
    default:
        return 0;
    }
}
