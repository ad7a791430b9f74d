#include "trainer/jinja/sequence.h"

#include <string.h>

#include "trainer/jinja/render.h"
#include "trainer/jinja/unicode.h"

// "a.0.b": parts that are all digits are positions.
static struct jinja_value part_of(struct jinja_state *state, const char *bytes, size_t size)
{
    int64_t index = 0;
    int is_index = size > 0 && size < 18;
    for (size_t i = 0; i < size && is_index; i++) {
        is_index = bytes[i] >= '0' && bytes[i] <= '9';
        index = index * 10 + (bytes[i] - '0');
    }
    return is_index ? jinja_int(index) : jinja_text_borrow(state, bytes, size);
}

struct jinja_path jinja_path_of(struct jinja_state *state, struct jinja_value attribute)
{
    struct jinja_path path = {0};
    size_t capacity = 0;
    if (attribute.kind == JINJA_NONE || attribute.kind == JINJA_MISSING) {
        return path;
    }
    if (attribute.kind != JINJA_STRING) {
        path.parts = jinja_grow(state, NULL, &capacity, 1, sizeof(*path.parts));
        path.parts[path.count++] = attribute;
        return path;
    }
    const char *at = attribute.string->bytes, *end = at + attribute.string->size;
    for (;;) {
        const char *dot = memchr(at, '.', (size_t)(end - at));
        const char *stop = dot ? dot : end;
        path.parts = jinja_grow(state, path.parts, &capacity, path.count + 1, sizeof(*path.parts));
        path.parts[path.count++] = part_of(state, at, (size_t)(stop - at));
        if (!dot) {
            return path;
        }
        at = dot + 1;
    }
}

struct jinja_value jinja_path_get(struct jinja_state *state, const struct jinja_path *path, struct jinja_value item,
                                  const struct jinja_value *otherwise)
{
    for (size_t i = 0; i < path->count; i++) {
        item = jinja_item(state, item, path->parts[i]);
        if (item.kind == JINJA_UNDEFINED && otherwise) {
            item = *otherwise;
        }
    }
    return item;
}

struct jinja_paths jinja_paths_of(struct jinja_state *state, struct jinja_value attribute, int may_be_many,
                                  int is_sensitive)
{
    struct jinja_paths paths = {.is_sensitive = is_sensitive};
    size_t capacity = 0;
    if (attribute.kind != JINJA_STRING || !may_be_many) {
        paths.items = jinja_grow(state, NULL, &capacity, 1, sizeof(*paths.items));
        paths.items[paths.count++] = jinja_path_of(state, attribute);
        return paths;
    }
    const char *at = attribute.string->bytes, *end = at + attribute.string->size;
    for (;;) {
        const char *comma = memchr(at, ',', (size_t)(end - at));
        const char *stop = comma ? comma : end;
        paths.items = jinja_grow(state, paths.items, &capacity, paths.count + 1, sizeof(*paths.items));
        struct jinja_value name = jinja_text_borrow(state, at, (size_t)(stop - at));
        paths.items[paths.count++] = jinja_path_of(state, name);
        if (!comma) {
            return paths;
        }
        at = comma + 1;
    }
}

struct jinja_value jinja_paths_key(struct jinja_state *state, const struct jinja_paths *paths, struct jinja_value item,
                                   int is_list_key)
{
    struct jinja_value keys = is_list_key ? jinja_list_new(state) : jinja_none(), key = item;
    for (size_t i = 0; i < paths->count; i++) {
        key = jinja_path_get(state, &paths->items[i], item, paths->otherwise);
        if (key.kind == JINJA_STRING && !paths->is_sensitive) {
            key = jinja_change_case(state, key.string, JINJA_LOWER);
        }
        if (is_list_key) {
            jinja_list_append(state, keys.list, key);
        }
    }
    return is_list_key ? keys : key;
}

static int goes_before(struct jinja_state *state, struct jinja_value a, struct jinja_value b, int is_descending)
{
    struct jinja_value x = a.list->items[0], y = b.list->items[0];
    int order = jinja_compare(state, is_descending ? y : x, is_descending ? x : y, "<");
    return order < 0;
}

// Merges [0, middle) and [middle, count) by way of `spare`.
static void merge(struct jinja_state *state, struct jinja_value *pairs, struct jinja_value *spare, size_t middle,
                  size_t count, int is_descending)
{
    size_t left = 0, right = middle;
    for (size_t i = 0; i < count; i++) {
        int take_right =
            left == middle || (right < count && goes_before(state, pairs[right], pairs[left], is_descending));
        spare[i] = take_right ? pairs[right++] : pairs[left++];
    }
    memcpy(pairs, spare, count * sizeof(*pairs));
}

void jinja_sort(struct jinja_state *state, struct jinja_value *pairs, size_t count, int is_descending)
{
    struct jinja_value *spare = jinja_take(state, (count + 1) * sizeof(*spare));
    for (size_t width = 1; width < count; width *= 2) {
        for (size_t from = 0; from + width < count; from += 2 * width) {
            size_t rest = count - from;
            merge(state, pairs + from, spare, width, rest < 2 * width ? rest : 2 * width, is_descending);
        }
    }
}

struct jinja_value jinja_join(struct jinja_state *state, const struct jinja_string *separator,
                              const struct jinja_list *texts)
{
    struct jinja_writer writer = {.state = state};
    for (size_t i = 0; i < texts->count; i++) {
        if (i > 0) {
            jinja_put(&writer, separator->bytes, separator->size);
        }
        jinja_put(&writer, texts->items[i].string->bytes, texts->items[i].string->size);
    }
    return jinja_written(&writer);
}

struct jinja_value jinja_generator_of(struct jinja_state *state, struct jinja_list *items)
{
    struct jinja_generator *generator = JINJA_NEW(state, struct jinja_generator);
    generator->items = *items;
    return (struct jinja_value){.kind = JINJA_GENERATOR, .generator = generator};
}

struct jinja_value jinja_generator_later(struct jinja_state *state, const struct jinja_call *call,
                                         void (*compute)(struct jinja_state *, struct jinja_generator *))
{
    struct jinja_generator *generator = JINJA_NEW(state, struct jinja_generator);
    generator->call = JINJA_NEW(state, struct jinja_call);
    *generator->call = *call;
    generator->compute = compute;
    return (struct jinja_value){.kind = JINJA_GENERATOR, .generator = generator};
}
