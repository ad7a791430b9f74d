// A guess of a text's language: by its script, and for scripts of many languages by their most frequent short words.
// Good enough to see that a fifth of a source is German; not a linguist. What is not clear is "other".
#include <pthread.h>
#include <string.h>
#include <utf8proc.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "trainer/data/study_internal.h"

// What is looked at: the start of a text tells.
#define LOOK_BYTES_MAX 4096u
#define STOP_WORDS_MIN 2u
#define STOP_TABLE_SIZE 2048u
// Of 100 words in Latin letters at least so many must be the language's stop words; usual text has 30 to 50.
#define STOP_WORDS_PERCENT_MIN 12u

enum script {
    LATIN,
    CYRILLIC,
    GREEK,
    ARABIC,
    HEBREW,
    DEVANAGARI,
    BENGALI,
    TAMIL,
    TELUGU,
    THAI,
    HAN,
    KANA,
    HANGUL,
    GEORGIAN,
    ARMENIAN,
    SCRIPTS
};

static const struct {
    int32_t first, last;
    enum script script;
} ranges[] = {
    {'A', 'Z', LATIN},        {'a', 'z', LATIN},          {0xc0, 0x24f, LATIN},       {0x370, 0x3ff, GREEK},
    {0x400, 0x52f, CYRILLIC}, {0x531, 0x58f, ARMENIAN},   {0x590, 0x5ff, HEBREW},     {0x600, 0x6ff, ARABIC},
    {0x750, 0x77f, ARABIC},   {0x900, 0x97f, DEVANAGARI}, {0x980, 0x9ff, BENGALI},    {0xb80, 0xbff, TAMIL},
    {0xc00, 0xc7f, TELUGU},   {0xe00, 0xe7f, THAI},       {0x10a0, 0x10ff, GEORGIAN}, {0x1e00, 0x1eff, LATIN},
    {0x1f00, 0x1fff, GREEK},  {0x3040, 0x30ff, KANA},     {0x3400, 0x4dbf, HAN},      {0x4e00, 0x9fff, HAN},
    {0xac00, 0xd7af, HANGUL}, {0xf900, 0xfaff, HAN},      {0x1100, 0x11ff, HANGUL},   {0x20000, 0x3ffff, HAN},
};

// words: the language's own frequent ones, between spaces, folded; NULL: the script alone decides.
static const struct {
    const char *name;
    enum script script;
    const char *words;
} languages[] = {
    [RMJ_LANGUAGE_NONE] = {"none", SCRIPTS, NULL},
    {"English", LATIN,
     " the of and to in is that it for you was with on as are be this have or by not but what from at can your will an "
     "a "
     "i how do my they we he she which there if would their has one all "},
    {"German", LATIN,
     " der die das und ist nicht ein eine zu den von mit sich auf für im dem des auch es ich sie er wir wie als werden "
     "oder aus bei kann einen haben sind wenn über "},
    {"French", LATIN,
     " le la les et est des un une du de que pour dans qui ne pas sur ce au avec il je vous nous plus par son être "
     "sont "
     "comment cette ou mais "},
    {"Spanish", LATIN,
     " el la los las y es de que en un una por con para no se del su al lo como más pero sus este está son qué muy o "
     "hay puede "},
    {"Portuguese", LATIN,
     " o os as e é de que em um uma não para com do da dos das no na se por mais como ao você foi são seu sua ou isso "
     "pode também "},
    {"Italian", LATIN,
     " il lo gli e è di che un una non per con del della dei nel nella si sono come più anche ma questo le la al "
     "alla può "},
    {"Dutch", LATIN,
     " de het een en van is dat niet in te op voor zijn met die aan er om ook maar als bij door naar je ik wat kan "
     "worden deze "},
    {"Swedish", LATIN,
     " och att det är en som på för av med den inte till jag har om ett var kan du men eller ska från vi "},
    {"Norwegian or Danish", LATIN,
     " og at det er en som på for av med den ikke til jeg har om et kan du men eller fra vi skal de "},
    {"Finnish", LATIN, " ja on ei se että hän oli mutta kun niin tai ovat olla voi myös kuin joka mitä tämä ole sen "},
    {"Polish", LATIN, " w i na z do nie się jest to że o jak po co ale tak od za dla przez są czy być może jego oraz "},
    {"Czech or Slovak", LATIN,
     " a v na je se že s do to z o i jako pro by ale si po jsou tak od které nebo být sa není "},
    {"Romanian", LATIN, " și de în la a cu nu că o pe un din este o care mai pentru sunt să se ce sau ca fi despre "},
    {"Hungarian", LATIN, " a az és hogy nem is egy ez van de meg csak azt már ha volt vagy mint lehet el kell ezt "},
    {"Turkish", LATIN,
     " ve bir bu için de da ile çok ne gibi daha olarak olan var değil ama en kadar mi sonra nasıl ya "},
    {"Vietnamese", LATIN, " và là của có không cho được các một trong người với này để những tôi bạn như khi cũng đã "},
    {"Indonesian or Malay", LATIN,
     " yang dan di ini itu dengan untuk tidak dari dalam pada adalah akan saya ke bisa atau anda juga "},
    {"Russian", CYRILLIC, " и в не на я что он с как это по но к из у за то так для от все мы вы или если его бы при "},
    {"Ukrainian", CYRILLIC, " і в не на що я та з як це до але за у від для ви ми або якщо його бути є про які "},
    {"Bulgarian", CYRILLIC, " на и да в се от за не е с са че по което това към или как ще има при съм "},
    {"Serbian or Macedonian", CYRILLIC, " и у је да на се су за од са не што као који или то би на во со "},
    {"Arabic", ARABIC, " في من على أن إلى هذا التي ما لا عن مع هذه كان هو هي الذي أو كل قد ثم بعد "},
    {"Persian", ARABIC, " و در به از که این را با است برای آن یک خود تا می شود بر هم نیز "},
    {"Urdu", ARABIC, " کے میں کی ہے اور سے کا کو اس کہ پر ہیں نے یہ ایک بھی "},
    {"Hindi", DEVANAGARI, " के में है की और से का को पर यह हैं कि एक नहीं भी लिए इस था "},
    {"Marathi", DEVANAGARI, " आणि आहे या ते मध्ये आहेत हे होते का की नाही असे साठी "},
    {"Greek", GREEK, NULL},
    {"Hebrew", HEBREW, NULL},
    {"Bengali", BENGALI, NULL},
    {"Tamil", TAMIL, NULL},
    {"Telugu", TELUGU, NULL},
    {"Thai", THAI, NULL},
    {"Chinese", HAN, NULL},
    {"Japanese", KANA, NULL},
    {"Korean", HANGUL, NULL},
    {"Georgian", GEORGIAN, NULL},
    {"Armenian", ARMENIAN, NULL},
};
enum { LANGUAGES = RMJ_COUNT(languages), OTHER = LANGUAGES };

uint32_t rmj_language_count(void)
{
    return OTHER + 1;
}

int rmj_language_is_known(uint32_t language)
{
    return language != RMJ_LANGUAGE_NONE && language != OTHER;
}

const char *rmj_study_language_name(uint32_t language)
{
    return language < LANGUAGES ? languages[language].name : "other";
}

// The script of most characters of words; SCRIPTS when there is none that we know.
static enum script script_of(const struct rmj_folded *text, uint32_t *letters)
{
    uint32_t counts[SCRIPTS] = {0};
    *letters = 0;
    for (size_t at = 0; at < text->size;) {
        int32_t c;
        utf8proc_ssize_t length =
            utf8proc_iterate((const utf8proc_uint8_t *)text->bytes + at, (utf8proc_ssize_t)(text->size - at), &c);
        at += length > 0 ? (size_t)length : 1;
        if (length <= 0 || (c >= 0x80 && utf8proc_category(c) > UTF8PROC_CATEGORY_LO)) {
            continue;
        }
        for (size_t i = 0; i < RMJ_COUNT(ranges); i++) {
            if (c >= ranges[i].first && c <= ranges[i].last) {
                counts[ranges[i].script]++;
                break;
            }
        }
        *letters += c >= 0x80 || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    }
    // Japanese mixes Chinese characters with its own; Chinese has none of these.
    if (counts[KANA] * 10 > counts[HAN]) {
        counts[KANA] += counts[HAN];
        counts[HAN] = 0;
    }
    enum script best = LATIN;
    for (unsigned script = 0; script < SCRIPTS; script++) {
        best = counts[script] > counts[best] ? (enum script)script : best;
    }
    return counts[best] * 2 > *letters ? best : SCRIPTS;
}

// Every stop word with the languages that have it, in an open-addressing table that is made once.
struct stop_word {
    uint64_t hash, languages;
};
static struct stop_word stop_words[STOP_TABLE_SIZE];
static pthread_once_t stop_words_once = PTHREAD_ONCE_INIT;
_Static_assert(LANGUAGES <= 64, "one bit a language");

static size_t place_of(uint64_t hash)
{
    size_t at = hash % STOP_TABLE_SIZE;
    while (stop_words[at].languages != 0 && stop_words[at].hash != hash) {
        at = (at + 1) % STOP_TABLE_SIZE;
    }
    return at;
}

static uint64_t languages_of_word(const char *word, size_t length)
{
    return stop_words[place_of(XXH3_64bits(word, length))].languages;
}

static void make_stop_words(void)
{
    size_t count = 0;
    for (unsigned i = 0; i < LANGUAGES; i++) {
        const char *word = languages[i].words == NULL ? "" : languages[i].words;
        while (*(word += strspn(word, " ")) != '\0') {
            size_t length = strcspn(word, " ");
            uint64_t hash = XXH3_64bits(word, length);
            struct stop_word *entry = &stop_words[place_of(hash)];
            count += entry->languages == 0;
            RMJ_ASSERT(count < STOP_TABLE_SIZE / 2);
            entry->hash = hash;
            entry->languages |= (uint64_t)1 << i;
            word += length;
        }
    }
}

static uint32_t by_words(const struct rmj_folded *text, enum script script)
{
    uint32_t counts[LANGUAGES] = {0}, words = 0, best = OTHER, most = 0, second = 0;
    size_t at = 0, start, length;
    RMJ_ASSERT(pthread_once(&stop_words_once, make_stop_words) == 0);
    while (rmj_next_word(text, &at, &start, &length)) {
        words++;
        uint64_t having = languages_of_word(text->bytes + start, length);
        for (uint32_t i = 0; having >> i != 0; i++) {
            counts[i] += (having >> i & 1) && languages[i].script == script;
        }
    }
    for (uint32_t i = 0; i < LANGUAGES; i++) {
        if (counts[i] > most) {
            second = most;
            most = counts[i];
            best = i;
        } else if (counts[i] > second) {
            second = counts[i];
        }
    }
    return most >= STOP_WORDS_MIN && most > second && most * 100 >= words * STOP_WORDS_PERCENT_MIN ? best : OTHER;
}

uint32_t rmj_language_of(const struct rmj_folded *whole)
{
    struct rmj_folded text = *whole;
    uint32_t letters;
    // A cut character at the end is no letter.
    text.size = text.size < LOOK_BYTES_MAX ? text.size : LOOK_BYTES_MAX;
    enum script script = script_of(&text, &letters);
    if (letters == 0) {
        return RMJ_LANGUAGE_NONE;
    }
    if (script == SCRIPTS) {
        return OTHER;
    }
    for (uint32_t i = 0; i < LANGUAGES; i++) {
        if (languages[i].script == script && languages[i].words == NULL) {
            return i;
        }
    }
    return by_words(&text, script);
}
