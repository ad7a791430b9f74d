#include "trainer/data/show.h"

#include <ctype.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/data/contract.h"
#include "trainer/data/examples.h"
#include "trainer/data/inputs.h"
#include "trainer/data/packer.h"
#include "trainer/data/rendering.h"
#include "trainer/data/sources.h"

#define RANGES_MAX 256u
#define LINE_WIDTH 100u

struct range {
    char *file; // NULL: the first training file
    uint64_t first, last;
    size_t source; // index of its file
};

struct showing {
    const struct rmj_data_show_options *options;
    FILE *out;
    json_t *pairs; // for the JSON form
    struct rmj_model_config config;
    struct rmj_rendering rendering;
    struct rmj_contract_options contract;
    struct rmj_sources sources;
    struct rmj_pool *pool;
    struct range ranges[RANGES_MAX];
    size_t range_count;
    int32_t anchor; // a token of plain text; what follows it keeps its leading space
    size_t anchor_size;
    // The range that is being shown.
    const struct range *range;
    uint64_t rows_seen;
    struct rmj_error unusable; // the first
};

static int parse_range(const char *word, size_t size, struct range *range)
{
    const char *colon = memrchr(word, ':', size);
    const char *at = colon == NULL ? word : colon + 1, *end = word + size;
    char *after;
    if (at == end || !isdigit((unsigned char)*at)) {
        return 0;
    }
    *range = (struct range){.first = strtoull(at, &after, 10)};
    range->last = range->first;
    if (after < end && *after == '-' && isdigit((unsigned char)after[1])) {
        range->last = strtoull(after + 1, &after, 10);
    }
    if (after != end || range->first == 0 || range->last < range->first ||
        range->last - range->first >= RMJ_SHOW_ROWS_MAX || colon == word) {
        return 0;
    }
    range->file = colon == NULL ? NULL : strndup(word, (size_t)(colon - word));
    return 1;
}

static enum rmj_status parse_rows(struct showing *showing, struct rmj_error *err)
{
    static const char separators[] = ", \t\n";
    const char *text = showing->options->rows == NULL ? "" : showing->options->rows;
    for (const char *at = text + strspn(text, separators); *at != '\0'; at += strspn(at, separators)) {
        size_t size = strcspn(at, separators);
        if (showing->range_count == RANGES_MAX) {
            return rmj_fail(err, RMJ_INVALID, "more than %u rows or ranges of rows", RANGES_MAX);
        }
        if (!parse_range(at, size, &showing->ranges[showing->range_count])) {
            return rmj_fail(err, RMJ_INVALID,
                            "'%.*s' names no row: write 17, 3-5 or file.jsonl:17, rows from 1 and at most %u of them",
                            (int)(size > 200 ? 200 : size), at, RMJ_SHOW_ROWS_MAX);
        }
        showing->range_count++;
        at += size;
    }
    return showing->range_count > 0 ? RMJ_OK
                                    : rmj_fail(err, RMJ_INVALID, "no rows named: write 17, 3-5 or file.jsonl:17");
}

static enum rmj_status add_sources(struct rmj_sources *sources, Rmjob__V1__DataSource *const *list, size_t count,
                                   const char *field, struct rmj_error *err)
{
    for (size_t i = 0; i < count; i++) {
        RMJ_TRY(rmj_sources_add_source(sources, list[i], field, err));
    }
    return RMJ_OK;
}

static int is_file(const char *name, const char *wanted)
{
    size_t size = strlen(name), length = strlen(wanted);
    return strcmp(name, wanted) == 0 ||
           (size > length && name[size - length - 1] == '/' && strcmp(name + size - length, wanted) == 0);
}

static enum rmj_status find_files(struct showing *showing, struct rmj_error *err)
{
    const Rmjob__V1__DataSpec *data = showing->options->spec->data;
    struct rmj_sources *sources = &showing->sources;
    if (data == NULL || data->n_train == 0) {
        return rmj_fail(err, RMJ_INVALID, "data.train names no file");
    }
    RMJ_TRY(add_sources(sources, data->train, data->n_train, "data.train", err));
    RMJ_TRY(add_sources(sources, data->heldout, data->n_heldout, "data.heldout", err));
    for (size_t i = 0; i < showing->range_count; i++) {
        struct range *range = &showing->ranges[i];
        while (range->file != NULL && range->source < sources->count &&
               !is_file(sources->files[range->source].name, range->file)) {
            range->source++;
        }
        if (range->source == sources->count) {
            return rmj_fail(err, RMJ_INVALID, "%s is no file of data.train or data.heldout; the first is %s",
                            range->file, sources->files[0].name);
        }
    }
    return RMJ_OK;
}

// What a token adds to a text. Alone, a decoder would take the space at its beginning away.
static char *token_text(const struct showing *showing, int32_t id)
{
    const struct rmj_tokenizer *tokenizer = showing->rendering.tokenizer;
    int32_t ids[2] = {showing->anchor, id};
    if (showing->anchor < 0) {
        return rmj_tokenizer_decode(tokenizer, &id, 1);
    }
    char *text = rmj_tokenizer_decode(tokenizer, ids, 2);
    RMJ_ASSERT(text != NULL);
    size_t size = strlen(text), cut = size < showing->anchor_size ? size : showing->anchor_size;
    memmove(text, text + cut, size - cut + 1);
    return text;
}

static int is_special(const struct showing *showing, int32_t id)
{
    const struct rmj_renderer *renderer = &showing->rendering.renderer;
    return id >= 0 && id < (int32_t)renderer->vocabulary_size && renderer->special[id];
}

// Tokens [first, end) of a side.
struct stretch {
    const int32_t *ids;
    size_t first, end;
    int scored; // the last one is the scored position
};

// ---------------------------------------------------------------- as JSON

static json_t *json_stretch(const struct showing *showing, const struct stretch *stretch)
{
    json_t *tokens = json_array();
    for (size_t i = stretch->first; i < stretch->end; i++) {
        int32_t id = stretch->ids[i];
        char *text = token_text(showing, id);
        json_t *token = json_pack("{s:i,s:s}", "id", id, "text", text == NULL ? "" : text);
        free(text);
        if (token == NULL) { // bytes of a character that is not whole
            token = json_pack("{s:i}", "id", id);
        }
        if (is_special(showing, id)) {
            json_object_set_new(token, "special", json_true());
        }
        if (stretch->scored && i + 1 == stretch->end) {
            json_object_set_new(token, "scored", json_true());
        }
        json_array_append_new(tokens, token);
    }
    return tokens;
}

// ---------------------------------------------------------------- for people

static const char *paint(const struct showing *showing, const char *code)
{
    return showing->options->colour ? code : "";
}

// The text of a token with what cannot be seen made visible. Returns the columns it takes, about.
static size_t visible(const char *text, struct rmj_buf *out)
{
    size_t columns = 0;
    for (const char *c = text; *c != '\0'; c++) {
        unsigned char byte = (unsigned char)*c;
        columns += (byte & 0xc0) != 0x80;
        if (byte == ' ') {
            rmj_buf_puts(out, "·");
        } else if (byte == '\n') {
            rmj_buf_puts(out, "⏎");
        } else if (byte == '\t') {
            rmj_buf_puts(out, "→");
        } else if (byte < 0x20 || byte == 0x7f) {
            rmj_buf_printf(out, "\\x%02x", byte);
            columns += 3;
        } else {
            rmj_buf_putc(out, *c);
        }
    }
    return columns;
}

static void print_tokens(const struct showing *showing, const struct stretch *stretch)
{
    FILE *out = showing->out;
    struct rmj_buf shown;
    size_t column = 0;
    rmj_buf_init(&shown, 1 << 20);
    for (size_t i = stretch->first; i < stretch->end; i++) {
        int32_t id = stretch->ids[i];
        int special = is_special(showing, id), scored = stretch->scored && i + 1 == stretch->end;
        char *text = token_text(showing, id);
        RMJ_ASSERT(text != NULL);
        rmj_buf_clear(&shown);
        size_t columns = visible(text, &shown) + 1 + (special ? 2 : 0);
        int breaks = strchr(text, '\n') != NULL;
        free(text);
        if (column > 0 && column + columns > LINE_WIDTH) {
            fputc('\n', out);
            column = 0;
        }
        fputs(column == 0 ? "  " : showing->options->colour ? "" : "|", out);
        // Two shades in turn, so that every token is a box.
        fputs(paint(showing, scored    ? "\x1b[1;30;42m"
                             : special ? "\x1b[1;37;45m"
                             : i % 2   ? "\x1b[30;47m"
                                       : "\x1b[97;100m"),
              out);
        fprintf(out, "%s%s%s", special ? "«" : "", rmj_buf_text(&shown), special ? "»" : "");
        fputs(paint(showing, "\x1b[0m"), out);
        column += columns;
        if (scored) {
            fprintf(out, "%s <- scored%s", paint(showing, "\x1b[32m"), paint(showing, "\x1b[0m"));
        }
        if (breaks) {
            fputc('\n', out);
            column = 0;
        }
    }
    fputs(column > 0 ? "\n" : "", out);
    rmj_buf_deinit(&shown);
}

static void print_stretch(const struct showing *showing, const char *name, const char *colour,
                          const struct stretch *stretch, const char *note)
{
    size_t count = stretch->end - stretch->first;
    fprintf(showing->out, "%s%s%s: %zu token%s%s\n", paint(showing, colour), name, paint(showing, "\x1b[0m"), count,
            count == 1 ? "" : "s", note);
    print_tokens(showing, stretch);
}

// ---------------------------------------------------------------- one pair

// A side without the tokens that truncation takes out, which come after the BOS.
static int32_t *cut_side(const struct rmj_tokens *side, size_t marks, size_t cut, size_t *count)
{
    int32_t *ids = malloc((side->count + 1) * sizeof *ids);
    RMJ_ASSERT(ids != NULL);
    memcpy(ids, side->ids, marks * sizeof *ids);
    memcpy(ids + marks, side->ids + marks + cut, (side->count - marks - cut) * sizeof *ids);
    *count = side->count - cut;
    return ids;
}

struct pair {
    const char *file, *fate; // fate: why it is not trained on, or how it was changed; "" for neither
    struct stretch prefix, chosen, rejected;
    size_t cut;
};

static void show_json(struct showing *showing, const struct rmj_example *example, const struct pair *pair)
{
    json_t *line =
        json_pack("{s:s,s:I,s:I,s:I,s:b,s:s,s:I,s:o,s:o,s:o}", "file", pair->file, "row", (json_int_t)example->row,
                  "rejected_answer", (json_int_t)example->rejected_index + 1, "rejected_answers",
                  (json_int_t)example->rejected_count, "held_out",
                  strcmp(showing->sources.files[showing->range->source].field, "data.heldout") == 0, "note", pair->fate,
                  "prompt_tokens_cut", (json_int_t)pair->cut, "prefix", json_stretch(showing, &pair->prefix), "chosen",
                  json_stretch(showing, &pair->chosen), "rejected", json_stretch(showing, &pair->rejected));
    RMJ_ASSERT(line != NULL);
    if (example->has_margin) {
        json_object_set_new(line, "margin", json_real((double)example->margin));
    }
    json_array_append_new(showing->pairs, line);
}

static void show_text(struct showing *showing, const struct rmj_example *example, const struct pair *pair)
{
    FILE *out = showing->out;
    char note[80];
    fprintf(out, "%s%s:%llu%s", paint(showing, "\x1b[1m"), pair->file, (unsigned long long)example->row,
            paint(showing, "\x1b[0m"));
    if (example->rejected_count > 1) {
        fprintf(out, ", rejected answer %u of %u", example->rejected_index + 1, example->rejected_count);
    }
    if (example->has_margin) {
        fprintf(out, ", margin %g", (double)example->margin);
    }
    if (example->special_count > 0) {
        fprintf(out, ", %u special tokens inside the row's own text", example->special_count);
    }
    fprintf(out, "%s%s%s%s\n", pair->fate[0] != '\0' ? "\n" : "", paint(showing, "\x1b[33m"), pair->fate,
            paint(showing, "\x1b[0m"));
    if (pair->cut > 0) {
        fprintf(out, "%zu tokens of the prompt are cut\n", pair->cut);
    }
    print_stretch(showing, "shared prefix", "\x1b[1;34m", &pair->prefix, ", computed once");
    snprintf(note, sizeof note, ", %zu with the prefix", pair->chosen.end);
    print_stretch(showing, "chosen", "\x1b[1;32m", &pair->chosen, note);
    snprintf(note, sizeof note, ", %zu with the prefix", pair->rejected.end);
    print_stretch(showing, "rejected", "\x1b[1;31m", &pair->rejected, note);
    fputc('\n', out);
}

static enum rmj_status show_pair(void *context, const struct rmj_example *example, struct rmj_error *err)
{
    struct showing *showing = context;
    const char *file = showing->sources.files[showing->range->source].name;
    (void)err;
    showing->rows_seen = example->row;
    if (example->status != RMJ_OK) {
        if (showing->unusable.status == RMJ_OK) {
            showing->unusable = example->err;
        }
        return RMJ_OK;
    }
    struct pair pair = {.file = file, .fate = ""};
    size_t chosen_count, rejected_count, marks = rmj_contract_begins_with_bos(&showing->contract, example);
    if (!rmj_contract_fit(&showing->contract, example, &pair.cut)) {
        pair.fate = "over data.max_length: not trained on";
    } else if (pair.cut > 0) {
        pair.fate = "over data.max_length: the prompt is cut";
    }
    int32_t *chosen = cut_side(&example->chosen, marks, pair.cut, &chosen_count);
    int32_t *rejected = cut_side(&example->rejected, marks, pair.cut, &rejected_count);
    size_t prefix = rmj_pack_common_prefix(chosen, chosen_count, rejected, rejected_count);
    if (chosen_count == rejected_count && memcmp(chosen, rejected, chosen_count * sizeof *chosen) == 0) {
        pair.fate = "chosen and rejected are the same: not trained on";
    }
    pair.prefix = (struct stretch){chosen, 0, prefix, 0};
    pair.chosen = (struct stretch){chosen, prefix, chosen_count, 1};
    pair.rejected = (struct stretch){rejected, prefix, rejected_count, 1};
    (showing->options->json ? show_json : show_text)(showing, example, &pair);
    free(chosen);
    free(rejected);
    return RMJ_OK;
}

static enum rmj_status show_range(struct showing *showing, struct rmj_error *err)
{
    const struct range *range = showing->range;
    RMJ_TRY(rmj_sources_fetch(&showing->sources, range->source, err));
    const struct rmj_source_file *file = &showing->sources.files[range->source];
    struct rmj_examples_options options = {
        .path = file->path,
        .name = file->name,
        .format = file->format,
        .renderer = &showing->rendering.renderer,
        .pool = showing->pool,
        .skip_rows = range->first - 1,
        .row_limit = range->last,
    };
    showing->rows_seen = 0;
    RMJ_TRY(rmj_examples_read(&options, show_pair, showing, NULL, err));
    return showing->rows_seen == range->last
               ? RMJ_OK
               : rmj_fail(err, RMJ_INVALID, "%s has no row %llu", file->name,
                          (unsigned long long)(showing->rows_seen > 0 ? showing->rows_seen + 1 : range->first));
}

static enum rmj_status open(struct showing *showing, struct rmj_error *err)
{
    const Rmjob__V1__JobSpec *spec = showing->options->spec;
    const Rmjob__V1__DataSpec *data = spec->data;
    const char *field = "base_model";
    if (spec->base_model == NULL || spec->base_model[0] == '\0') {
        return rmj_fail(err, RMJ_INVALID, "base_model is missing: name a Hugging Face directory");
    }
    RMJ_TRY(rmj_model_config_read(&showing->config, spec->base_model, err));
    if (rmj_rendering_open(&showing->rendering, spec, &showing->config, &field, err) != RMJ_OK) {
        return rmj_context(err, "%s", field);
    }
    uint32_t positions = showing->config.position_count_max;
    uint32_t length = data != NULL && data->has_max_length ? data->max_length : RMJ_MAX_LENGTH_DEFAULT;
    showing->contract = (struct rmj_contract_options){
        .max_length = length < positions ? length : positions,
        .over_length = data != NULL && data->has_over_length ? (int)data->over_length : 0,
        .bos = showing->rendering.renderer.bos,
    };
    showing->anchor = rmj_tokenizer_token_id(showing->rendering.tokenizer, "a");
    if (showing->anchor >= 0) {
        char *text = rmj_tokenizer_decode(showing->rendering.tokenizer, &showing->anchor, 1);
        showing->anchor_size = text == NULL ? 0 : strlen(text);
        free(text);
    }
    return rmj_pool_create(&showing->pool, 1, NULL, err);
}

static void introduce(const struct showing *showing, const char *pad)
{
    const struct rmj_renderer *renderer = &showing->rendering.renderer;
    if (!showing->options->json) {
        fprintf(showing->out, "template  %s", rmj_template_origin_text(renderer->template_origin));
        fprintf(showing->out, renderer->date[0] != '\0' ? ", which says %s\n" : "%s\n", renderer->date);
        fprintf(showing->out, "pad       %s\n\n", pad);
    }
}

static void conclude(const struct showing *showing, const char *pad)
{
    const struct rmj_renderer *renderer = &showing->rendering.renderer;
    if (showing->options->json) {
        json_t *all = json_pack("{s:s,s:s,s:s,s:O}", "template", rmj_template_origin_text(renderer->template_origin),
                                "date", renderer->date, "pad", pad, "pairs", showing->pairs);
        json_dumpf(all, showing->out, JSON_COMPACT);
        fputc('\n', showing->out);
        json_decref(all);
    }
}

enum rmj_status rmj_data_show(const struct rmj_data_show_options *options, FILE *out, struct rmj_error *err)
{
    struct showing *showing = calloc(1, sizeof *showing);
    RMJ_ASSERT(showing != NULL);
    enum rmj_status status = RMJ_OK;
    struct rmj_buf pad;
    rmj_buf_init(&pad, 4096);
    showing->options = options;
    showing->out = out;
    showing->pairs = json_array();
    RMJ_GO(parse_rows(showing, err));
    RMJ_GO(find_files(showing, err));
    RMJ_GO(open(showing, err));
    rmj_renderer_describe_pad(&showing->rendering.renderer, &pad);
    introduce(showing, rmj_buf_text(&pad));
    for (size_t i = 0; i < showing->range_count; i++) {
        showing->range = &showing->ranges[i];
        RMJ_GO(show_range(showing, err));
    }
    conclude(showing, rmj_buf_text(&pad));
    if (showing->unusable.status != RMJ_OK) {
        status = showing->unusable.status;
        if (err != NULL) {
            *err = showing->unusable;
        }
    }
out:
    for (size_t i = 0; i < showing->range_count; i++) {
        free(showing->ranges[i].file);
    }
    rmj_sources_deinit(&showing->sources);
    rmj_rendering_close(&showing->rendering);
    rmj_pool_destroy(showing->pool);
    json_decref(showing->pairs);
    rmj_buf_deinit(&pad);
    free(showing);
    return status;
}
