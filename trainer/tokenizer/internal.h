// The parts of a loaded tokenizer and how they call each other. Only trainer/tokenizer includes this.
//
//   encode.c   text -> added tokens cut out (added.c) -> normalize.c -> pretokenize.c -> words -> bpe.c -> ids
//   load.c     tokenizer.json -> vocab.c, added.c, normalize.c, pretokenize.c, decode.c; special.c for bos, eos, pad
#ifndef RMJ_TRAINER_TOKENIZER_INTERNAL_H
#define RMJ_TRAINER_TOKENIZER_INTERNAL_H

#define PCRE2_CODE_UNIT_WIDTH 8
#include <jansson.h>
#include <pcre2.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"
#include "base/utf8.h"
#include "trainer/tokenizer/tokenizer.h"

// Bounds of everything read from outside.
#define RMJ_TOKENIZER_FILE_SIZE_MAX ((size_t)256 << 20)
#define RMJ_TOKENIZER_TEXT_SIZE_MAX ((size_t)64 << 20)    // of one text
#define RMJ_TOKENIZER_WORK_SIZE_MAX ((size_t)512 << 20)   // of a text after normalization, or of decoded text
#define RMJ_TOKENIZER_TOKEN_COUNT_MAX ((uint32_t)1 << 22) // ids are below this
#define RMJ_TOKENIZER_TOKEN_SIZE_MAX ((size_t)1 << 16)
#define RMJ_TOKENIZER_MERGE_COUNT_MAX ((size_t)1 << 23)
#define RMJ_TOKENIZER_STEP_COUNT_MAX 16 // normalizers, pre-tokenizers or decoders in one chain
#define RMJ_TOKENIZER_MARK_COUNT_MAX 32 // ids on one side of a text
#define RMJ_TOKENIZER_REGEX_MATCH_MAX 50000000u
#define RMJ_TOKENIZER_JIT_STACK_MAX ((size_t)64 << 20)
#define RMJ_TOKENIZER_SCRATCH_KEPT_MAX 64

#define RMJ_TOKENIZER_NO_MERGE UINT32_MAX

struct rmj_span {
    const char *text;
    size_t size;
};

// Open-addressing map from a text to an id; the texts live elsewhere, indexed by id.
struct rmj_text_map {
    int32_t *slots; // -1 is empty
    uint32_t mask;
    const struct rmj_span *texts;
};

struct rmj_merge {
    uint64_t pair; // left id << 32 | right id, UINT64_MAX is empty
    uint32_t rank;
    int32_t id;
};

// An edge of the tree of a Unigram vocabulary's tokens, byte by byte from the root 0.
struct rmj_edge {
    uint64_t key;   // node << 8 | byte
    uint32_t child; // 0 is an empty slot
    int32_t id;     // of the token that ends at the child, -1 when none does
};

struct rmj_unigram {
    double *scores; // by id
    double unknown_score;
    struct rmj_edge *edges; // open-addressing map; NULL when the model is no Unigram
    uint64_t edge_mask;
};

// Immutable after open.
struct rmj_vocab {
    struct rmj_span *texts; // by id; text NULL where the id is no token of the model
    struct rmj_span *bytes; // by id, ByteLevel only: the text with the byte alphabet undone
    char *text_block;       // owns what texts and bytes point to
    uint32_t id_end;        // of texts and bytes
    uint32_t count;
    struct rmj_text_map map;
    struct rmj_text_map byte_map;
    struct rmj_merge *merges;
    uint64_t merge_mask;
    int32_t *rune_pages[0x110000 / 256]; // id of a one-character token, or NULL page
    int32_t byte_level_ids[256];         // id of the character that stands for a byte in the byte alphabet
    int32_t byte_fallback_ids[256];      // id of <0x00> ... <0xFF>
    uint64_t *joins; // open-addressing set of character pairs that stand next to each other inside some token
    uint64_t join_mask;
    uint64_t part_joins[65536 / 64]; // by two bytes that meet: whether a part of a character joins there in some token
    int32_t unk_id; // -1: a BPE lets characters without a token vanish, as in the public implementation
    bool byte_level;
    bool byte_fallback;
    bool fuse_unk;
    bool ignore_merges;
    bool vanishes; // some character may become no id at all, so that its neighbours meet
    bool can_cut;  // no merge starts at unk or a byte_fallback token: text may be cut where characters never join
    struct rmj_unigram unigram;
};

struct rmj_regex {
    pcre2_code *code;
    char *literal; // a plain string instead of a pattern
    size_t literal_size;
};

enum rmj_normalizer_kind {
    RMJ_NORMALIZE_UNICODE,
    RMJ_NORMALIZE_LOWERCASE,
    RMJ_NORMALIZE_STRIP,
    RMJ_NORMALIZE_PREPEND,
    RMJ_NORMALIZE_REPLACE,
    RMJ_NORMALIZE_STRIP_ACCENTS,
    RMJ_NORMALIZE_NMT,
    RMJ_NORMALIZE_PRECOMPILED,
};

struct rmj_charsmap {
    uint8_t *bytes;
    size_t unit_count;
    struct rmj_span texts; // inside bytes
};

struct rmj_normalizer {
    enum rmj_normalizer_kind kind;
    int unicode_options; // utf8proc
    bool strip_left;
    bool strip_right;
    struct rmj_regex pattern;
    char *content;
    size_t content_size;
    struct rmj_charsmap charsmap;
};

enum rmj_split_behavior {
    RMJ_SPLIT_ISOLATED,
    RMJ_SPLIT_REMOVED,
    RMJ_SPLIT_CONTIGUOUS,
    RMJ_SPLIT_MERGED_WITH_PREVIOUS,
    RMJ_SPLIT_MERGED_WITH_NEXT,
};

enum rmj_prepend { RMJ_PREPEND_NEVER, RMJ_PREPEND_FIRST, RMJ_PREPEND_ALWAYS };

// One pre-tokenizer: replace spaces, put something in front, split. ByteLevel and Metaspace are settings of it.
struct rmj_pretokenizer {
    enum rmj_prepend prepend;
    bool replace_spaces; // by `replacement`
    char *replacement;   // what is put in front, and what stands for a space
    size_t replacement_size;
    bool split;
    struct rmj_regex pattern;
    bool invert;
    enum rmj_split_behavior behavior;
};

enum rmj_decoder_kind {
    RMJ_DECODE_BYTE_LEVEL,
    RMJ_DECODE_BYTE_FALLBACK,
    RMJ_DECODE_FUSE,
    RMJ_DECODE_REPLACE,
    RMJ_DECODE_STRIP,
    RMJ_DECODE_METASPACE,
};

struct rmj_decoder {
    enum rmj_decoder_kind kind;
    struct rmj_regex pattern;
    char *content;
    size_t content_size;
    size_t strip_start;
    size_t strip_stop;
    bool drop_first; // Metaspace: marks of the first token vanish
};

struct rmj_trie_node {
    uint32_t child;
    uint32_t sibling;
    int32_t id; // -1: no token ends here
    uint8_t byte;
};

// Nodes[0] is the root. Built once, walked from every position whose byte can start a token.
struct rmj_trie {
    struct rmj_trie_node *nodes;
    uint32_t count;
    uint32_t capacity;
    uint32_t roots[256]; // the root's child of a byte, 0 when none
};

struct rmj_added_token {
    struct rmj_span content;
    struct rmj_span decoded; // what the public decoder shows: the content, normalized where the token is
    int32_t id;
    bool single_word;
    bool lstrip;
    bool rstrip;
    bool normalized;
    bool special;
};

struct rmj_added {
    struct rmj_added_token *tokens;
    size_t count;
    int32_t *by_id; // index into tokens or -1, id_end entries
    uint32_t id_end;
    struct rmj_trie plain;      // matched in the text as given
    struct rmj_trie normalized; // matched after normalization
};

#define RMJ_WORD_CACHE_COUNT 16384u // a power of two
#define RMJ_WORD_CACHE_TEXT_MAX 30u
#define RMJ_WORD_CACHE_ID_MAX 8u

struct rmj_cached_word {
    uint8_t size; // 0 is empty
    uint8_t count;
    char text[RMJ_WORD_CACHE_TEXT_MAX];
    int32_t ids[RMJ_WORD_CACHE_ID_MAX];
};

// Symbols of one long word: a linked list and the merge that each could take with its right neighbour.
struct rmj_symbol {
    int32_t id; // -1: merged into its left neighbour
    uint32_t previous;
    uint32_t next;
    uint32_t rank; // of the pair (this, next), RMJ_TOKENIZER_NO_MERGE when it is none
    int32_t merged_id;
};

// The best way to cut a word's first bytes under Unigram.
struct rmj_path {
    double score;
    uint32_t start; // of the last token of it
    int32_t id;
    uint32_t next; // end of the token that starts here, on the best way of the whole word
};

struct rmj_word_scratch {
    int32_t *ids;
    size_t id_count;
    size_t id_capacity;
    struct rmj_symbol *symbols;
    size_t symbol_capacity;
    uint64_t *heap; // rank << 32 | symbol index
    size_t heap_count;
    size_t heap_capacity;
    struct rmj_path *path;
    size_t path_capacity;
    struct rmj_buf characters; // Unigram under ByteLevel
    struct rmj_cached_word *cache;
};

// What one encode call works in. Owned by one thread while out of the tokenizer's pool.
struct rmj_tokenizer_scratch {
    struct rmj_tokenizer_scratch *next;
    struct rmj_word_scratch word;
    struct rmj_buf normalized[2];
    struct rmj_buf stages[RMJ_TOKENIZER_STEP_COUNT_MAX];
    pcre2_match_data *match;
    pcre2_match_context *match_context;
    pcre2_jit_stack *jit_stack;
};

struct rmj_mark_list {
    int32_t ids[RMJ_TOKENIZER_MARK_COUNT_MAX];
    size_t count;
};

struct rmj_tokenizer {
    // Immutable after open.
    struct rmj_vocab vocab;
    struct rmj_added added;
    struct rmj_normalizer normalizers[RMJ_TOKENIZER_STEP_COUNT_MAX];
    size_t normalizer_count;
    struct rmj_pretokenizer pretokenizers[RMJ_TOKENIZER_STEP_COUNT_MAX];
    size_t pretokenizer_count;
    struct rmj_decoder decoders[RMJ_TOKENIZER_STEP_COUNT_MAX];
    size_t decoder_count;
    struct rmj_mark_list before; // of the post-processor
    struct rmj_mark_list after;
    int32_t bos_id;
    int32_t eos_id;
    int32_t pad_id;
    char *chat_template;
    struct rmj_regex word_character;
    // Locked by `lock`.
    pthread_mutex_t lock;
    struct rmj_tokenizer_scratch *idle;
    size_t idle_count;
};

// text.c: characters
uint32_t rmj_rune_next(const char *text, size_t size, size_t *offset); // valid UTF-8 only
bool rmj_rune_is_space(uint32_t rune);                                 // White_Space
size_t rmj_space_prefix(const char *text, size_t size);                // bytes of white space at the start
size_t rmj_space_suffix(const char *text, size_t size);                // bytes of white space at the end
uint32_t rmj_byte_rune(uint8_t byte);                                  // the byte alphabet of GPT-2
int rmj_rune_byte(uint32_t rune);                                      // -1 when it is not of the alphabet

// unicode.c: characters younger than a library's tables
void rmj_unicode_younger(const char *category, struct rmj_buf *out); // appends their ranges for a pattern's [ ]
void rmj_unicode_later_punctuation(struct rmj_buf *out);             // the same of what Punctuation does not take
bool rmj_unicode_is_opaque(uint32_t rune);                           // normalization leaves it alone
uint32_t rmj_unicode_younger_lower(uint32_t rune);                   // itself when it is none of them
bool rmj_unicode_is_mark(uint32_t rune);                             // to StripAccents
uint32_t rmj_unicode_as_cluster(uint32_t rune); // one that utf8proc treats the same in grapheme clusters

// json.c: reading with messages
RMJ_MUST_USE enum rmj_status rmj_json_text(const json_t *object, const char *where, const char *key,
                                           struct rmj_span *text, struct rmj_error *err);
RMJ_MUST_USE enum rmj_status rmj_json_bool(const json_t *object, const char *where, const char *key, bool fallback,
                                           bool *value, struct rmj_error *err);
RMJ_MUST_USE enum rmj_status rmj_json_count(const json_t *object, const char *where, const char *key, uint64_t max,
                                            uint64_t *value, struct rmj_error *err);
char *rmj_span_copy(struct rmj_span span);
// Calls `each` for every part of a chain: nothing for null, one for a part, its members (under `list_key`) for a
// Sequence, nested ones flattened. `where` is "normalizer", "pre_tokenizer", "decoder" or "post_processor".
typedef enum rmj_status (*rmj_part_fn)(struct rmj_tokenizer *tokenizer, const json_t *part, const char *type,
                                       struct rmj_error *err);
RMJ_MUST_USE enum rmj_status rmj_json_chain(struct rmj_tokenizer *tokenizer, const json_t *value, const char *where,
                                            const char *list_key, rmj_part_fn each, struct rmj_error *err);
// A JSON object; `path` is for messages, `flags` are jansson's.
RMJ_MUST_USE enum rmj_status rmj_tokenizer_json_parse(struct rmj_span bytes, size_t flags, const char *path,
                                                      json_t **document, struct rmj_error *err);
// A JSON file of at most RMJ_TOKENIZER_FILE_SIZE_MAX bytes; RMJ_NOT_FOUND when absent. `flags`: jansson's.
RMJ_MUST_USE enum rmj_status rmj_json_load(const char *path, size_t flags, json_t **document, struct rmj_error *err);

// regex.c
RMJ_MUST_USE enum rmj_status rmj_regex_compile(struct rmj_regex *regex, const char *pattern, size_t size,
                                               const char *where, struct rmj_error *err);
// {"String": ...} or {"Regex": ...}
RMJ_MUST_USE enum rmj_status rmj_regex_read(struct rmj_regex *regex, const json_t *object, const char *where,
                                            struct rmj_error *err);
void rmj_regex_deinit(struct rmj_regex *regex);
// Where a walk over the matches of a text stands. Starts as {.last_end = SIZE_MAX}.
struct rmj_regex_walk {
    size_t from;
    size_t last_end; // of the match before
};
// The next match in valid UTF-8: 1, 0 when there is none, -1 with `err` set when it gave up. No match is empty right
// behind another one.
int rmj_regex_next(const struct rmj_regex *regex, struct rmj_tokenizer_scratch *scratch, struct rmj_span text,
                   struct rmj_regex_walk *walk, size_t *start, size_t *end, struct rmj_error *err);
// The first match at or after `from`.
int rmj_regex_find(const struct rmj_regex *regex, struct rmj_tokenizer_scratch *scratch, struct rmj_span text,
                   size_t from, size_t *start, size_t *end, struct rmj_error *err);

// vocab.c
RMJ_MUST_USE enum rmj_status rmj_vocab_load(struct rmj_tokenizer *tokenizer, const json_t *model,
                                            struct rmj_error *err);
void rmj_vocab_deinit(struct rmj_vocab *vocab);
RMJ_MUST_USE enum rmj_status rmj_text_map_init(struct rmj_text_map *map, const struct rmj_span *texts, uint32_t count,
                                               struct rmj_error *err);
void rmj_text_map_put(struct rmj_text_map *map, int32_t id); // in place of an earlier id of the same text
int32_t rmj_text_map_find(const struct rmj_text_map *map, const char *text, size_t size);
int32_t rmj_vocab_rune_id(const struct rmj_vocab *vocab, uint32_t rune);
const struct rmj_merge *rmj_vocab_merge(const struct rmj_vocab *vocab, int32_t left, int32_t right);
// merges.c
RMJ_MUST_USE enum rmj_status rmj_merges_load(struct rmj_vocab *vocab, const json_t *merges, struct rmj_error *err);
// joins.c
RMJ_MUST_USE enum rmj_status rmj_joins_build(struct rmj_vocab *vocab, struct rmj_error *err);
bool rmj_joins_has(const struct rmj_vocab *vocab, uint32_t left, uint32_t right);
// Of a byte-level vocabulary: whether a token may reach across `at`, with a character of left_size bytes before it and
// one of right_size from it on.
bool rmj_joins_has_bytes(const struct rmj_vocab *vocab, const char *at, size_t left_size, size_t right_size);

// added.c
RMJ_MUST_USE enum rmj_status rmj_added_load(struct rmj_tokenizer *tokenizer, const json_t *list, struct rmj_error *err);
void rmj_added_deinit(struct rmj_added *added);
// The next token of `trie` at or after `from`: its id and bounds (white space taken with it included), or -1. `resume`
// is where to look on; `covered` is the end of what earlier tokens took.
struct rmj_added_match {
    int32_t id;
    size_t start;
    size_t end;
    size_t resume;
};
RMJ_MUST_USE enum rmj_status rmj_added_find(const struct rmj_tokenizer *tokenizer, const struct rmj_trie *trie,
                                            struct rmj_tokenizer_scratch *scratch, struct rmj_span text, size_t from,
                                            size_t covered, struct rmj_added_match *match, struct rmj_error *err);
const struct rmj_added_token *rmj_added_by_id(const struct rmj_added *added, int32_t id);
int32_t rmj_added_by_content(const struct rmj_added *added, const char *content, size_t size);

// normalize.c
RMJ_MUST_USE enum rmj_status rmj_normalizer_add(struct rmj_tokenizer *tokenizer, const json_t *part, const char *type,
                                                struct rmj_error *err);
// `*at_start` is cleared when the result no longer begins where `text` does. The result lives in scratch or is `text`.
RMJ_MUST_USE enum rmj_status rmj_normalize(const struct rmj_tokenizer *tokenizer, struct rmj_tokenizer_scratch *scratch,
                                           struct rmj_span text, struct rmj_span *result, bool *at_start,
                                           struct rmj_error *err);
// Appends `text` to `out` with every match of `pattern` replaced.
RMJ_MUST_USE enum rmj_status rmj_replace(const struct rmj_regex *pattern, struct rmj_span content,
                                         struct rmj_tokenizer_scratch *scratch, struct rmj_span text,
                                         struct rmj_buf *out, struct rmj_error *err);

// precompiled.c
RMJ_MUST_USE enum rmj_status rmj_charsmap_read(struct rmj_charsmap *map, const json_t *part, struct rmj_error *err);
void rmj_charsmap_apply(const struct rmj_charsmap *map, struct rmj_span text, struct rmj_buf *out);

// pretokenize.c
RMJ_MUST_USE enum rmj_status rmj_pretokenizer_add(struct rmj_tokenizer *tokenizer, const json_t *part, const char *type,
                                                  struct rmj_error *err);
// Splits into words and encodes each. `at_start`: the text begins at the beginning of what the caller gave.
RMJ_MUST_USE enum rmj_status rmj_pretokenize(const struct rmj_tokenizer *tokenizer,
                                             struct rmj_tokenizer_scratch *scratch, size_t stage, struct rmj_span text,
                                             bool at_start, struct rmj_tokens *tokens, struct rmj_error *err);

// bpe.c: any model's words, and the merging of a BPE
RMJ_MUST_USE enum rmj_status rmj_word_encode(const struct rmj_vocab *vocab, struct rmj_word_scratch *scratch,
                                             struct rmj_span word, struct rmj_tokens *tokens, struct rmj_error *err);
void rmj_word_scratch_deinit(struct rmj_word_scratch *scratch);
// Room for `count` elements; false when there is none.
bool rmj_reserve(void **array, size_t *capacity, size_t count, size_t element_size);

// unigram.c
RMJ_MUST_USE enum rmj_status rmj_unigram_load(struct rmj_vocab *vocab, const json_t *model, struct rmj_error *err);
// Leaves the word's ids in scratch.
RMJ_MUST_USE enum rmj_status rmj_unigram_word(const struct rmj_vocab *vocab, struct rmj_word_scratch *scratch,
                                              struct rmj_span word, struct rmj_error *err);

// encode.c
RMJ_MUST_USE enum rmj_status rmj_tokens_append(struct rmj_tokens *tokens, const int32_t *ids, size_t count,
                                               struct rmj_error *err);
struct rmj_tokenizer_scratch *rmj_scratch_create(void);
void rmj_scratch_destroy(struct rmj_tokenizer_scratch *scratch);
struct rmj_tokenizer_scratch *rmj_scratch_take(const struct rmj_tokenizer *tokenizer);
void rmj_scratch_put(const struct rmj_tokenizer *tokenizer, struct rmj_tokenizer_scratch *scratch);

// decode.c
RMJ_MUST_USE enum rmj_status rmj_decoder_add(struct rmj_tokenizer *tokenizer, const json_t *part, const char *type,
                                             struct rmj_error *err);

// marks.c; after the tokens are known
RMJ_MUST_USE enum rmj_status rmj_processor_add(struct rmj_tokenizer *tokenizer, const json_t *part, const char *type,
                                               struct rmj_error *err);

// load.c; a tokenizer from the bytes of a tokenizer.json, without files beside it
RMJ_MUST_USE enum rmj_status rmj_tokenizer_open_bytes(struct rmj_tokenizer **tokenizer, struct rmj_span bytes,
                                                      struct rmj_error *err);

// special.c
RMJ_MUST_USE enum rmj_status rmj_special_load(struct rmj_tokenizer *tokenizer, const char *directory,
                                              struct rmj_error *err);

#endif
