// Layout of the replicated part: blocks, then the runs of the first unit by (first block, last block), of the second,
// ... A unit is a file; when there are too many files, consecutive ones share a unit of one block.
#include "trainer/run/scan.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define BLOCKS_PER_FILE_MAX 48u
#define PAIRS_PER_BLOCK_MIN 8u
#define UNIT_COUNT_MAX 1024u
#define RUN_COUNT_MAX 1176u // every run of 48 blocks
// A margin counts at most this many mean sizes of its step, a direction this many standard deviations.
#define MARGIN_MAX 3.0
#define DIRECTION_MAX 4.0
// Steps are taken together until there are so many pairs, enough for a direction.
#define WINDOW_PAIRS 64u
// Squares of the rest under this are too few pairs for a direction.
#define DIRECTION_SQUARE_MIN 8.0
// Where the mixture is tightest: some forty pairs with a clear direction.
#define MIXTURE 256.0
#define ALARM_BITS 20  // false alarms of a job: 2^-20
#define SUSPECT_BITS 7 // of a job that has failed anyway: under 1 %
#define LN_2 0.69314718055994530942
// It must also matter: of the weighted margins at least 60 % go against the rest, 40 % with it.
#define DISAGREEMENT_MIN 0.2
// A direction clear enough to speak of when a finding is told.
#define DIRECTION_CLEAR 2.0
// Of two parts of the set that disagree, the smaller is named; when they are about equal, the later.
#define EQUAL_PARTS 1.25
#define NEARLY_NONE 0.1

struct block {
    double sum, square, size; // of a window's margins: sum, of squares, of absolute values
};
struct run {
    double sum, size;     // of margins times direction, and of their absolute values
    double spread;        // variance of the sum when the signs of the run's margins are chance
    double spread_others; // when those of the others are
};

struct rmj_scan {
    struct rmj_scan_place *places; // [pair_count]
    uint64_t *step_firsts;         // [step_count + 1]
    uint32_t *window_firsts;       // [step_count] first step of the window that a step is in
    uint32_t *block_of;            // [pair_count]
    uint32_t *unit_firsts;         // [unit_count + 1] blocks
    uint64_t pair_count;
    uint32_t step_count, file_count, unit_count, block_count, run_count;
};

static uint32_t unit_of(const struct rmj_scan *scan, uint32_t file)
{
    return scan->file_count <= UNIT_COUNT_MAX ? file : (uint32_t)((uint64_t)file * UNIT_COUNT_MAX / scan->file_count);
}

// Blocks of a unit with so many pairs when at most `limit` are wanted.
static uint32_t blocks_of(const struct rmj_scan *scan, uint64_t pairs, uint32_t limit)
{
    uint64_t count = pairs / PAIRS_PER_BLOCK_MIN;
    limit = scan->file_count > UNIT_COUNT_MAX ? 1 : limit;
    return count < 1 ? 1 : count > limit ? limit : (uint32_t)count;
}

// As many blocks a unit as the bound on runs leaves.
static void cut_units(struct rmj_scan *scan, const uint64_t *unit_pairs)
{
    for (uint32_t limit = BLOCKS_PER_FILE_MAX; limit > 0; limit--) {
        scan->run_count = scan->block_count = 0;
        for (uint32_t unit = 0; unit < scan->unit_count; unit++) {
            uint32_t count = blocks_of(scan, unit_pairs[unit], limit);
            scan->unit_firsts[unit] = scan->block_count;
            scan->block_count += count;
            scan->run_count += count * (count + 1) / 2;
        }
        scan->unit_firsts[scan->unit_count] = scan->block_count;
        if (scan->run_count <= RUN_COUNT_MAX) {
            return;
        }
    }
}

static void place_pairs(struct rmj_scan *scan, uint64_t *unit_pairs, uint64_t *unit_rows)
{
    for (uint64_t i = 0; i < scan->pair_count; i++) {
        uint32_t unit = unit_of(scan, scan->places[i].file);
        unit_pairs[unit]++;
        unit_rows[unit] = scan->places[i].row > unit_rows[unit] ? scan->places[i].row : unit_rows[unit];
    }
    cut_units(scan, unit_pairs);
    for (uint64_t i = 0; i < scan->pair_count; i++) {
        uint32_t unit = unit_of(scan, scan->places[i].file);
        uint64_t count = scan->unit_firsts[unit + 1] - scan->unit_firsts[unit];
        scan->block_of[i] = scan->unit_firsts[unit] + (uint32_t)((scan->places[i].row - 1) * count / unit_rows[unit]);
    }
}

static void cut_windows(struct rmj_scan *scan)
{
    uint32_t first = 1;
    for (uint32_t step = 1; step <= scan->step_count; step++) {
        if (scan->step_firsts[step - 1] - scan->step_firsts[first - 1] >= WINDOW_PAIRS) {
            first = step;
        }
        scan->window_firsts[step - 1] = first;
    }
}

enum rmj_status rmj_scan_create(struct rmj_scan **out, const struct rmj_scan_options *options, struct rmj_error *err)
{
    RMJ_ASSERT(options->pair_count > 0 && options->file_count > 0 && options->step_count > 0);
    struct rmj_scan *scan = calloc(1, sizeof *scan);
    uint32_t units = options->file_count < UNIT_COUNT_MAX ? options->file_count : UNIT_COUNT_MAX;
    uint64_t *unit_pairs = calloc(units, sizeof *unit_pairs), *unit_rows = calloc(units, sizeof *unit_rows);
    enum rmj_status status = RMJ_OK;
    if (scan != NULL) {
        scan->places = malloc(options->pair_count * sizeof *scan->places);
        scan->block_of = malloc(options->pair_count * sizeof *scan->block_of);
        scan->step_firsts = malloc((options->step_count + 1u) * sizeof *scan->step_firsts);
        scan->window_firsts = malloc(options->step_count * sizeof *scan->window_firsts);
        scan->unit_firsts = malloc((units + 1u) * sizeof *scan->unit_firsts);
    }
    if (scan == NULL || unit_pairs == NULL || unit_rows == NULL || scan->places == NULL || scan->block_of == NULL ||
        scan->step_firsts == NULL || scan->window_firsts == NULL || scan->unit_firsts == NULL) {
        status = rmj_fail(err, RMJ_NO_MEMORY, "no memory for the places of %llu pairs",
                          (unsigned long long)options->pair_count);
        goto out;
    }
    memcpy(scan->places, options->places, options->pair_count * sizeof *scan->places);
    memcpy(scan->step_firsts, options->step_firsts, (options->step_count + 1u) * sizeof *scan->step_firsts);
    scan->pair_count = options->pair_count;
    scan->step_count = options->step_count;
    scan->file_count = options->file_count;
    scan->unit_count = units;
    place_pairs(scan, unit_pairs, unit_rows);
    cut_windows(scan);
    *out = scan;
    scan = NULL;
out:
    rmj_scan_destroy(scan);
    free(unit_pairs);
    free(unit_rows);
    return status;
}

void rmj_scan_destroy(struct rmj_scan *scan)
{
    if (scan != NULL) {
        free(scan->places);
        free(scan->step_firsts);
        free(scan->window_firsts);
        free(scan->block_of);
        free(scan->unit_firsts);
        free(scan);
    }
}

size_t rmj_scan_state_bytes(const struct rmj_scan *scan)
{
    return scan->block_count * sizeof(struct block) + scan->run_count * sizeof(struct run);
}

static double clamp(double value, double bound)
{
    return value > bound ? bound : value < -bound ? -bound : value;
}

// Mean size of a step's margins; 0 when one of them is not known.
static double scale_of(const float *margins, uint64_t count)
{
    double size = 0;
    for (uint64_t i = 0; i < count; i++) {
        size += fabs((double)margins[i]);
    }
    return isfinite(size) ? size / (double)count : 0;
}

static double direction_of(double sum, double square)
{
    return square < DIRECTION_SQUARE_MIN ? 0 : clamp(sum / sqrt(square), DIRECTION_MAX);
}

static int ends_window(const struct rmj_scan *scan, uint32_t step)
{
    return step == scan->step_count || scan->window_firsts[step] == step + 1;
}

static void take_margins(const struct rmj_scan *scan, struct block *blocks, uint32_t step, const float *margins)
{
    uint64_t first = scan->step_firsts[step - 1], end = scan->step_firsts[step];
    double scale = scale_of(margins + first, end - first);
    if (scan->window_firsts[step - 1] == step) {
        memset(blocks, 0, scan->block_count * sizeof *blocks);
    }
    for (uint64_t i = first; scale > 0 && i < end; i++) {
        struct block *block = &blocks[scan->block_of[i]];
        double margin = clamp((double)margins[i] / scale, MARGIN_MAX);
        block->sum += margin;
        block->square += margin * margin;
        block->size += fabs(margin);
    }
}

// How far beyond its bound a run's sum has fallen, as a ratio of squares; 0 when it has not, or when it is too little
// to matter. The bound's chance is 2^-bits. Logarithms as whole powers of two: rounded up, and the same everywhere.
static double alarm_of(const struct run *run, int bits)
{
    int exponent;
    double spread = run->spread > run->spread_others ? run->spread : run->spread_others;
    (void)frexp(1 + spread / MIXTURE, &exponent);
    double bound = (spread + MIXTURE) * LN_2 * (2 * bits + exponent);
    int disagrees = run->sum < 0 && -run->sum >= DISAGREEMENT_MIN * run->size && run->sum * run->sum >= bound;
    return disagrees ? run->sum * run->sum / bound : 0;
}

// All runs from one first block on.
struct sweep {
    const struct block *blocks;
    struct block total;
    struct run *runs; // of (first, first), (first, first + 1), ...
    uint32_t first, end;
    int bits;
};

static double sweep_runs(const struct sweep *sweep, uint32_t *worst)
{
    struct block inside = {0};
    double most = 0;
    for (uint32_t last = sweep->first; last < sweep->end; last++) {
        struct run *run = &sweep->runs[last - sweep->first];
        inside.sum += sweep->blocks[last].sum;
        inside.square += sweep->blocks[last].square;
        inside.size += sweep->blocks[last].size;
        double direction = direction_of(sweep->total.sum - inside.sum, sweep->total.square - inside.square);
        if (direction != 0) {
            run->sum += direction * inside.sum;
            run->spread += direction * direction * inside.square;
            run->spread_others += inside.sum * inside.sum;
            run->size += fabs(direction) * inside.size;
        }
        double alarm = alarm_of(run, sweep->bits);
        if (alarm > most) {
            most = alarm;
            *worst = last - sweep->first;
        }
    }
    return most;
}

static int bits_of(uint32_t count)
{
    int bits = 0;
    while (bits < 32 && ((uint64_t)1 << bits) < count) {
        bits++;
    }
    return bits;
}

int64_t rmj_scan_step(struct rmj_scan *scan, void *state, uint32_t step, const float *margins)
{
    RMJ_ASSERT(step >= 1 && step <= scan->step_count);
    struct block *blocks = state;
    take_margins(scan, blocks, step, margins);
    if (!ends_window(scan, step)) {
        return -1;
    }
    struct sweep sweep = {.blocks = blocks,
                          .runs = (struct run *)(void *)(blocks + scan->block_count),
                          .bits = ALARM_BITS + bits_of(scan->run_count)};
    for (uint32_t i = 0; i < scan->block_count; i++) {
        sweep.total.sum += blocks[i].sum;
        sweep.total.square += blocks[i].square;
    }
    struct run *runs = sweep.runs;
    int64_t found = -1;
    double most = 0;
    for (uint32_t unit = 0; unit < scan->unit_count; unit++) {
        sweep.end = scan->unit_firsts[unit + 1];
        for (sweep.first = scan->unit_firsts[unit]; sweep.first < sweep.end; sweep.first++) {
            uint32_t worst = 0;
            double alarm = sweep_runs(&sweep, &worst);
            if (alarm > most) {
                most = alarm;
                found = sweep.runs - runs + worst;
            }
            sweep.runs += sweep.end - sweep.first;
        }
    }
    return found;
}

int64_t rmj_scan_suspect(const struct rmj_scan *scan, const void *state)
{
    const struct block *blocks = state;
    const struct run *runs = (const struct run *)(const void *)(blocks + scan->block_count);
    int64_t found = -1;
    double most = 0;
    for (uint32_t i = 0; i < scan->run_count; i++) {
        double alarm = alarm_of(&runs[i], SUSPECT_BITS + bits_of(scan->run_count));
        if (alarm > most) {
            most = alarm;
            found = i;
        }
    }
    return found;
}

// --- what is told of a run ---

struct known {
    struct rmj_scan_place place;
    double scaled;   // margin over its step's mean size, clamped
    double weighted; // that times the direction of the others
    double margin;   // as it is, in that direction
    int known, inside, clear;
};

// The consumed pairs in training order, and an index of them by place.
struct telling {
    const struct rmj_scan *scan;
    const float *margins;
    struct known *pairs;
    struct known **sorted;
    size_t count;
    uint32_t step;
};

static int by_place(const void *a, const void *b)
{
    const struct known *x = *(struct known *const *)a, *y = *(struct known *const *)b;
    if (x->place.file != y->place.file) {
        return x->place.file < y->place.file ? -1 : 1;
    }
    return (x->place.row > y->place.row) - (x->place.row < y->place.row);
}

static void weigh_pairs(struct telling *telling, uint64_t first, uint64_t end, double direction)
{
    for (uint64_t i = first; i < end; i++) {
        struct known *pair = &telling->pairs[i];
        pair->clear = pair->known && fabs(direction) >= DIRECTION_CLEAR;
        pair->weighted = direction * pair->scaled;
        pair->margin = pair->clear ? (direction < 0 ? -1 : 1) * (double)telling->margins[i] : 0;
    }
}

// Weights of all pairs by the direction of those outside, window by window.
static void weigh(struct telling *telling)
{
    const struct rmj_scan *scan = telling->scan;
    struct block rest = {0};
    for (uint32_t step = 1; step <= telling->step; step++) {
        for (uint64_t i = scan->step_firsts[step - 1]; i < scan->step_firsts[step]; i++) {
            const struct known *pair = &telling->pairs[i];
            rest.sum += pair->inside ? 0 : pair->scaled;
            rest.square += pair->inside ? 0 : pair->scaled * pair->scaled;
        }
        if (step == telling->step || ends_window(scan, step)) {
            weigh_pairs(telling, scan->step_firsts[scan->window_firsts[step - 1] - 1], scan->step_firsts[step],
                        direction_of(rest.sum, rest.square));
            rest = (struct block){0};
        }
    }
}

static void scale_pairs(struct telling *telling)
{
    for (uint32_t step = 1; step <= telling->step; step++) {
        uint64_t first = telling->scan->step_firsts[step - 1], end = telling->scan->step_firsts[step];
        double scale = scale_of(telling->margins + first, end - first);
        for (uint64_t i = first; scale > 0 && i < end; i++) {
            telling->pairs[i].known = 1;
            telling->pairs[i].scaled = clamp((double)telling->margins[i] / scale, MARGIN_MAX);
        }
    }
}

// Of the consumed rows in order, those [*first, *end) of one unit that weigh most against the rest (Kadane).
static void worst_rows(const struct telling *telling, size_t *first, size_t *end)
{
    double best = 0, sum = 0;
    size_t start = 0;
    for (size_t i = 0; i < telling->count; i++) {
        if (i > 0 && unit_of(telling->scan, telling->sorted[i]->place.file) !=
                         unit_of(telling->scan, telling->sorted[i - 1]->place.file)) {
            sum = 0;
            start = i;
        }
        sum -= telling->sorted[i]->weighted;
        if (sum <= 0) {
            sum = 0;
            start = i + 1;
        } else if (sum > best) {
            best = sum;
            *first = start;
            *end = i + 1;
        }
    }
}

// When nearly all other rows stand on one side and are the fewer, it is they that are to be named. 1 when so.
static int name_the_fewer(const struct telling *telling, size_t *first, size_t *end)
{
    double inside = (double)(*end - *first), before = (double)*first, after = (double)(telling->count - *end);
    if (after > 0 && after <= EQUAL_PARTS * inside && before <= NEARLY_NONE * after) {
        *first = *end;
        *end = telling->count;
        return 1;
    }
    if (before > 0 && EQUAL_PARTS * before < inside && after <= NEARLY_NONE * before) {
        *end = *first;
        *first = 0;
        return 1;
    }
    return 0;
}

static void mark(struct telling *telling, size_t first, size_t end)
{
    for (size_t i = 0; i < telling->count; i++) {
        telling->sorted[i]->inside = i >= first && i < end;
    }
}

static void run_blocks(const struct rmj_scan *scan, uint32_t run, uint32_t *unit, uint32_t *first, uint32_t *last)
{
    uint32_t at = 0;
    for (*unit = 0; *unit < scan->unit_count; (*unit)++) {
        uint32_t end = scan->unit_firsts[*unit + 1];
        for (*first = scan->unit_firsts[*unit]; *first < end; (*first)++) {
            if (run - at < end - *first) {
                *last = *first + run - at;
                return;
            }
            at += end - *first;
        }
    }
    RMJ_ASSERT(0);
}

static void sum_up(const struct telling *telling, size_t first, size_t end, struct rmj_scan_finding *finding)
{
    *finding = (struct rmj_scan_finding){.first = telling->sorted[first]->place,
                                         .last = telling->sorted[end - 1]->place,
                                         .share = (double)(end - first) / (double)telling->count};
    for (size_t i = 0; i < telling->count; i++) {
        const struct known *pair = telling->sorted[i];
        finding->pairs += (uint64_t)(pair->inside && pair->clear);
        finding->other_pairs += (uint64_t)(!pair->inside && pair->clear);
        finding->margin += pair->inside ? pair->margin : 0;
        finding->other_margin += pair->inside ? 0 : pair->margin;
    }
    finding->margin /= finding->pairs > 0 ? (double)finding->pairs : 1;
    finding->other_margin /= finding->other_pairs > 0 ? (double)finding->other_pairs : 1;
}

enum rmj_status rmj_scan_pinpoint(const struct rmj_scan *scan, uint32_t run, uint32_t step, const float *margins,
                                  struct rmj_scan_finding *finding, struct rmj_error *err)
{
    RMJ_ASSERT(run < scan->run_count && step >= 1 && step <= scan->step_count);
    size_t count = scan->step_firsts[step];
    struct telling telling = {.scan = scan, .margins = margins, .count = count, .step = step};
    telling.pairs = calloc(count, sizeof *telling.pairs);
    telling.sorted = malloc(count * sizeof *telling.sorted);
    enum rmj_status status = RMJ_OK;
    uint32_t unit, first_block, last_block;
    size_t first = count, end = 0;
    if (telling.pairs == NULL || telling.sorted == NULL) {
        status = rmj_fail(err, RMJ_NO_MEMORY, "no memory to look at %zu pairs", count);
        goto out;
    }
    run_blocks(scan, run, &unit, &first_block, &last_block);
    for (size_t i = 0; i < count; i++) {
        telling.pairs[i].place = scan->places[i];
        telling.pairs[i].inside = scan->block_of[i] >= first_block && scan->block_of[i] <= last_block;
        telling.sorted[i] = &telling.pairs[i];
    }
    qsort(telling.sorted, count, sizeof *telling.sorted, by_place);
    for (size_t i = 0; i < count; i++) {
        first = telling.sorted[i]->inside && i < first ? i : first;
        end = telling.sorted[i]->inside ? i + 1 : end;
    }
    scale_pairs(&telling);
    weigh(&telling);
    worst_rows(&telling, &first, &end);
    if (name_the_fewer(&telling, &first, &end)) {
        mark(&telling, first, end);
        weigh(&telling);
        worst_rows(&telling, &first, &end);
    }
    mark(&telling, first, end);
    weigh(&telling);
    sum_up(&telling, first, end, finding);
out:
    free(telling.pairs);
    free(telling.sorted);
    return status;
}
