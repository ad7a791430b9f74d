// Contradictions: the pairs of one prompt are arrows from a rejected to a chosen answer. A pair contradicts others when
// it lies on a circle of arrows: A over B and B over A (the sides are swapped), or A over B, B over C, C over A. A
// ranking has no circle, though most of its answers are chosen in one pair and rejected in another.
#include <stdlib.h>
#include <string.h>

#include "trainer/data/study_internal.h"

// Pairs of one prompt that are looked at, at most; those over it are counted as not compared.
#define PAIRS_OF_PROMPT_MAX ((size_t)1 << 17)

struct arrow {
    uint64_t chosen, rejected; // keys of the answers
    uint32_t index, source;
    uint32_t from, to; // answers by number: chosen, rejected
};

struct group {
    struct arrow *arrows; // [count]
    size_t count, room;
    uint64_t *answers; // [answer_count], ascending
    uint32_t *heads;   // [answer_count + 1]: arrows by `from`
    uint32_t answer_count;
    // Tarjan's algorithm (1972), without recursion.
    uint32_t *number, *low, *part, *stack, *path, *next;
    uint8_t *seen_chosen, *seen_rejected;
    uint64_t key;
};

static int by_key(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static int by_answers(const void *a, const void *b)
{
    const struct arrow *x = a, *y = b;
    if (x->from != y->from) {
        return x->from < y->from ? -1 : 1;
    }
    if (x->to != y->to) {
        return x->to < y->to ? -1 : 1;
    }
    // By source, so that the opposites of a pair stand together by source.
    if (x->source != y->source) {
        return x->source < y->source ? -1 : 1;
    }
    return (x->index > y->index) - (x->index < y->index);
}

static uint32_t answer_number(const struct group *group, uint64_t key)
{
    const uint64_t *at = bsearch(&key, group->answers, group->answer_count, sizeof key, by_key);
    return (uint32_t)(at - group->answers);
}

static void number_answers(struct group *group)
{
    size_t count = 0;
    for (size_t i = 0; i < group->count; i++) {
        group->answers[count++] = group->arrows[i].chosen;
        group->answers[count++] = group->arrows[i].rejected;
    }
    qsort(group->answers, count, sizeof *group->answers, by_key);
    group->answer_count = 0;
    for (size_t i = 0; i < count; i++) {
        if (i == 0 || group->answers[i] != group->answers[i - 1]) {
            group->answers[group->answer_count++] = group->answers[i];
        }
    }
    memset(group->seen_chosen, 0, group->answer_count);
    memset(group->seen_rejected, 0, group->answer_count);
    for (size_t i = 0; i < group->count; i++) {
        struct arrow *arrow = &group->arrows[i];
        arrow->from = answer_number(group, arrow->chosen);
        arrow->to = answer_number(group, arrow->rejected);
        group->seen_chosen[arrow->from] = group->seen_rejected[arrow->to] = 1;
    }
    qsort(group->arrows, group->count, sizeof *group->arrows, by_answers);
    for (size_t i = 0, answer = 0; answer <= group->answer_count; answer++) {
        while (i < group->count && group->arrows[i].from < answer) {
            i++;
        }
        group->heads[answer] = (uint32_t)i;
    }
}

// Takes the strongly connected part that ends at `root` from the stack.
static size_t close_part(struct group *group, uint32_t root, size_t stacked)
{
    uint32_t answer;
    do {
        answer = group->stack[--stacked];
        group->part[answer] = root;
    } while (answer != root);
    return stacked;
}

static void find_parts(struct group *group)
{
    uint32_t numbers = 0;
    size_t stacked = 0;
    memset(group->number, 0, group->answer_count * sizeof *group->number);
    memset(group->part, 0xff, group->answer_count * sizeof *group->part);
    for (uint32_t start = 0; start < group->answer_count; start++) {
        size_t depth = 0;
        if (group->number[start] == 0) {
            group->path[depth++] = start;
        }
        while (depth > 0) {
            uint32_t answer = group->path[depth - 1];
            if (group->number[answer] == 0) {
                group->number[answer] = group->low[answer] = ++numbers;
                group->next[answer] = group->heads[answer];
                group->stack[stacked++] = answer;
            }
            if (group->next[answer] < group->heads[answer + 1]) {
                uint32_t to = group->arrows[group->next[answer]].to;
                if (group->number[to] == 0) {
                    group->path[depth++] = to; // comes back to the same arrow, then to a numbered answer
                    continue;
                }
                if (group->part[to] == UINT32_MAX && group->low[to] < group->low[answer]) {
                    group->low[answer] = group->low[to];
                }
                group->next[answer]++;
                continue;
            }
            if (group->low[answer] == group->number[answer]) {
                stacked = close_part(group, answer, stacked);
            }
            depth--;
        }
    }
}

// First arrow of the answers, by index; NULL for none. *end is behind the last one.
static const struct arrow *arrows_of(const struct group *group, uint32_t from, uint32_t to, const struct arrow **end)
{
    const struct arrow *first = group->arrows + group->heads[from], *last = group->arrows + group->heads[from + 1];
    while (first < last) {
        const struct arrow *middle = first + (last - first) / 2;
        if (middle->to < to) {
            first = middle + 1;
        } else {
            last = middle;
        }
    }
    const struct arrow *stop = group->arrows + group->heads[from + 1];
    for (*end = first; *end < stop && (*end)->to == to; ++*end) {
    }
    return *end > first ? first : NULL;
}

// Another arrow of the circle: one that starts where this one ends.
static const struct arrow *goes_on(const struct group *group, const struct arrow *arrow)
{
    for (uint32_t i = group->heads[arrow->to]; i < group->heads[arrow->to + 1]; i++) {
        if (group->arrows[i].to != arrow->to && group->part[group->arrows[i].to] == group->part[arrow->from]) {
            return &group->arrows[i];
        }
    }
    return arrow;
}

static enum rmj_status add_swapped(struct rmj_study_findings *findings, const struct arrow *arrow,
                                   const struct arrow *opposite, const struct arrow *end, struct rmj_error *err)
{
    uint32_t before = UINT32_MAX;
    int across = 0;
    for (; opposite < end; opposite++) {
        // A source is told once a pair.
        if (opposite->source == arrow->source || opposite->source == before) {
            continue;
        }
        uint64_t words[2] = {arrow->source, opposite->source};
        RMJ_TRY(rmj_sort_add(findings->swapped, words, err));
        before = opposite->source;
        across = 1;
    }
    findings->swapped_across += (uint64_t)across;
    return RMJ_OK;
}

static enum rmj_status count_group(struct group *group, struct rmj_study_findings *findings, struct rmj_error *err)
{
    number_answers(group);
    find_parts(group);
    for (size_t i = 0; i < group->count; i++) {
        const struct arrow *arrow = &group->arrows[i], *end, *other;
        if (arrow->from == arrow->to) {
            continue; // the same answer when folded
        }
        findings->mixed += group->seen_rejected[arrow->from] || group->seen_chosen[arrow->to];
        if (group->part[arrow->from] != group->part[arrow->to]) {
            continue;
        }
        findings->contradictions++;
        findings->contradictions_by_source[arrow->source]++;
        struct rmj_study_example example = {.index = arrow->index};
        other = arrows_of(group, arrow->to, arrow->from, &end);
        if (other != NULL) {
            example.what = 1;
            RMJ_TRY(add_swapped(findings, arrow, other, end, err));
        } else {
            other = goes_on(group, arrow);
        }
        example.other = other->index;
        rmj_study_example_add(&findings->contradiction_examples, &example);
    }
    return RMJ_OK;
}

static void group_deinit(struct group *group)
{
    void *const parts[] = {group->arrows, group->answers,     group->heads,        group->number,
                           group->low,    group->part,        group->stack,        group->path,
                           group->next,   group->seen_chosen, group->seen_rejected};
    for (size_t i = 0; i < RMJ_COUNT(parts); i++) {
        free(parts[i]);
    }
}

static enum rmj_status group_init(struct group *group, size_t room, struct rmj_error *err)
{
    *group = (struct group){.room = room};
    group->arrows = malloc(room * sizeof *group->arrows);
    group->answers = malloc(2 * room * sizeof *group->answers);
    group->heads = malloc((2 * room + 1) * sizeof *group->heads);
    uint32_t **const lists[] = {&group->number, &group->low, &group->part, &group->stack, &group->path, &group->next};
    int whole = group->arrows != NULL && group->answers != NULL && group->heads != NULL;
    for (size_t i = 0; i < RMJ_COUNT(lists); i++) {
        *lists[i] = malloc(2 * room * sizeof **lists[i]);
        whole = whole && *lists[i] != NULL;
    }
    group->seen_chosen = malloc(2 * room);
    group->seen_rejected = malloc(2 * room);
    if (!whole || group->seen_chosen == NULL || group->seen_rejected == NULL) {
        group_deinit(group);
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory to compare the pairs of a prompt");
    }
    return RMJ_OK;
}

// Without a prompt only the opposite of a pair can be told: pairs of the same two answers are a group then.
static uint64_t group_key(const struct rmj_sketch *sketch)
{
    if (sketch->prompt_key != 0) {
        return sketch->prompt_key;
    }
    // Symmetric in the answers.
    return rmj_study_mix(rmj_study_mix(sketch->chosen_key) + rmj_study_mix(sketch->rejected_key));
}

static enum rmj_status feed(void *context, uint32_t index, const struct rmj_study_record *record, struct rmj_error *err)
{
    uint64_t words[4] = {group_key(&record->sketch), (uint64_t)index << 32 | record->source, record->sketch.chosen_key,
                         record->sketch.rejected_key};
    return rmj_sort_add(context, words, err);
}

// Pairs of one prompt come one after the other, in their order.
static enum rmj_status walk_groups(struct rmj_sort *pairs, struct group *group, struct rmj_study_findings *findings,
                                   struct rmj_error *err)
{
    for (;;) {
        const uint64_t *words;
        RMJ_TRY(rmj_sort_next(pairs, &words, err));
        if (group->count > 0 && (words == NULL || words[0] != group->key)) {
            if (group->count > 1) {
                RMJ_TRY(count_group(group, findings, err));
            }
            group->count = 0;
        }
        if (words == NULL) {
            return RMJ_OK;
        }
        group->key = words[0];
        if (group->count == group->room) {
            findings->not_compared++;
            continue;
        }
        group->arrows[group->count++] = (struct arrow){.chosen = words[2],
                                                       .rejected = words[3],
                                                       .index = (uint32_t)(words[1] >> 32),
                                                       .source = (uint32_t)words[1]};
    }
}

enum rmj_status rmj_study_find_contradictions(struct rmj_study *study, struct rmj_study_findings *findings,
                                              struct rmj_error *err)
{
    struct rmj_sort *pairs = NULL;
    struct group group;
    // About a hundred bytes a pair; an eighth of the memory.
    size_t room = study->memory_bytes / 1024;
    RMJ_TRY(group_init(&group, room < PAIRS_OF_PROMPT_MAX ? room : PAIRS_OF_PROMPT_MAX, err));
    enum rmj_status status = RMJ_OK;
    RMJ_GO(rmj_sort_create(&pairs, 4, study->directory, study->memory_bytes / 4, err));
    RMJ_GO(rmj_study_each(study, feed, pairs, err));
    RMJ_GO(walk_groups(pairs, &group, findings, err));
out:
    rmj_sort_destroy(pairs);
    group_deinit(&group);
    return status;
}
