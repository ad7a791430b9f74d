// Parts of the study: the guess of a language, boilerplate among the references, the sorter.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "trainer/data/study.h"
#include "trainer/data/study_sort.h"

static const char *language_of(const char *text)
{
    struct rmj_sketch sketch;
    rmj_sketch_make(
        &sketch, &(struct rmj_sketch_texts){.prompt = "", .chosen = text, .chosen_size = strlen(text), .rejected = ""});
    return rmj_study_language_name(sketch.language);
}

static void languages_are_told_apart_and_what_is_unclear_is_other(void **state)
{
    (void)state;
    const char *const texts[][2] = {
        {"English", "I think that you should ask your doctor about it, and not wait for the weekend."},
        {"German", "Ich würde vorschlagen, dass wir uns die Sache noch einmal ansehen, denn es ist nicht einfach."},
        {"French", "Je pense que nous devons attendre la réponse avant de prendre une décision dans cette affaire."},
        {"Spanish", "Creo que es mejor esperar la respuesta antes de tomar una decisión en este asunto."},
        {"Portuguese", "Acho que é melhor esperar pela resposta antes de tomar uma decisão, mas não sei se você quer."},
        {"Italian", "Penso che sia meglio aspettare la risposta prima di prendere una decisione, ma non so se è così."},
        {"Dutch", "Ik denk dat het beter is om op het antwoord te wachten voor we een beslissing nemen."},
        {"Swedish", "Jag tror att det är bättre att vänta på svaret innan vi fattar ett beslut om det här."},
        {"Polish",
         "Myślę, że lepiej jest poczekać na odpowiedź, zanim podejmiemy decyzję w tej sprawie, ale nie wiem."},
        {"Turkish", "Bence bu konuda bir karar vermeden önce cevap için beklemek daha iyi olur, ama sen ne dersin?"},
        {"Vietnamese", "Tôi nghĩ rằng bạn nên chờ câu trả lời trước khi quyết định, và không có gì phải lo cho bạn."},
        {"Indonesian or Malay",
         "Saya pikir lebih baik menunggu jawaban itu dari mereka dan tidak mengambil keputusan."},
        {"Russian", "Я думаю, что лучше подождать ответа и не принимать решения, если вы не уверены."},
        {"Ukrainian", "Я думаю, що краще почекати на відповідь і не приймати рішення, якщо ви не впевнені."},
        {"Arabic", "أعتقد أن من الأفضل أن ننتظر الرد في هذا الأمر قبل أن نتخذ القرار"},
        {"Persian", "فکر می کنم که بهتر است برای این کار از او کمک بگیریم و منتظر پاسخ باشیم"},
        {"Hindi", "मुझे लगता है कि इस मामले में जवाब का इंतजार करना बेहतर है और यह ठीक है"},
        {"Chinese", "我认为最好先等待答复,然后再做决定。"},
        {"Japanese", "決定する前に返事を待つほうがいいと思います。"},
        {"Korean", "결정하기 전에 답변을 기다리는 것이 좋다고 생각합니다."},
        {"Greek", "Νομίζω ότι είναι καλύτερα να περιμένουμε την απάντηση."},
        {"Thai", "ฉันคิดว่าควรรอคำตอบก่อนตัดสินใจ"},
        {"Hebrew", "אני חושב שעדיף לחכות לתשובה לפני שמחליטים"},
        {"other", "lorem ipsum dolor sit amet consectetur adipiscing elit"},
        {"other", "qwfp zxcv arst neio"},
        {"other", "Name a fruit"},
        {"none", ""},
        {"none", "12 + 30 = 42 🎉🎉"},
    };
    for (size_t i = 0; i < RMJ_COUNT(texts); i++) {
        if (strcmp(language_of(texts[i][1]), texts[i][0]) != 0) {
            fail_msg("%s for %s: %s", language_of(texts[i][1]), texts[i][0], texts[i][1]);
        }
    }
}

static const char passage[] =
    "Describe in a few plain sentences how the tides come about, why there are two of them a day, and what the sun has "
    "to do with it all in spring";

static void boilerplate_of_many_references_is_no_contamination(void **state)
{
    (void)state;
    struct rmj_study *study;
    struct rmj_error err = {0};
    char prompt[512], id[16];
    assert_int_equal(rmj_study_create(&study, &(struct rmj_study_options){0}, &err), RMJ_OK);
    struct rmj_sketch sketch;
    struct rmj_sketch_texts texts = {
        .prompt = prompt, .chosen = "c", .rejected = "r", .chosen_size = 1, .rejected_size = 1, .study = study};
    for (int i = 0; i < 40; i++) {
        // Rows 0 to 19 are one prompt, which is one prompt however often it stands there.
        snprintf(prompt, sizeof prompt, "%s number %d", passage, i < 20 ? 0 : i);
        snprintf(id, sizeof id, "%d", i);
        texts.prompt_size = strlen(prompt);
        assert_int_equal(rmj_study_add_reference(study, "heldout", id, &texts, &err), RMJ_OK);
        if (i == 20 + 8) {
            snprintf(prompt, sizeof prompt, "%s and more", passage);
            texts.prompt_size = strlen(prompt);
            rmj_sketch_make(&sketch, &texts);
            assert_true(sketch.overlaps[RMJ_REFERENCE_HELDOUT].grams > 10);
        }
    }
    snprintf(prompt, sizeof prompt, "%s and more", passage);
    texts.prompt_size = strlen(prompt);
    rmj_sketch_make(&sketch, &texts);
    assert_int_equal(sketch.overlaps[RMJ_REFERENCE_HELDOUT].reference, 0);
    snprintf(prompt, sizeof prompt, "%s number %d", passage, 33);
    texts.prompt_size = strlen(prompt);
    rmj_sketch_make(&sketch, &texts);
    assert_int_equal(sketch.overlaps[RMJ_REFERENCE_HELDOUT].equal, 1);
    assert_int_equal(sketch.overlaps[RMJ_REFERENCE_HELDOUT].reference, 34);
    rmj_study_destroy(study);
}

static void the_sorter_sorts_what_does_not_fit(void **state)
{
    (void)state;
    for (size_t words = 1; words <= RMJ_SORT_WORDS_MAX; words++) {
        struct rmj_sort *sort;
        struct rmj_error err = {0};
        struct rmj_rng rng;
        assert_int_equal(rmj_sort_create(&sort, words, NULL, 1, &err), RMJ_OK);
        for (uint32_t count = 0; count < 40000; count = count * 9 + 1) {
            uint64_t sum = 0, sorted_sum = 0, before[RMJ_SORT_WORDS_MAX] = {0};
            rmj_rng_init(&rng, count, words);
            rmj_sort_clear(sort);
            for (uint32_t i = 0; i < count; i++) {
                uint64_t record[RMJ_SORT_WORDS_MAX];
                for (size_t k = 0; k < words; k++) {
                    record[k] = rmj_rng_below(&rng, k == 0 ? 100 : UINT64_MAX);
                    sum += record[k] * (k + 1);
                }
                assert_int_equal(rmj_sort_add(sort, record, &err), RMJ_OK);
            }
            uint32_t seen = 0;
            const uint64_t *record;
            for (;; seen++) {
                assert_int_equal(rmj_sort_next(sort, &record, &err), RMJ_OK);
                if (record == NULL) {
                    break;
                }
                size_t k = 0;
                while (k + 1 < words && record[k] == before[k]) {
                    k++;
                }
                assert_true(record[k] >= before[k]);
                for (k = 0; k < words; k++) {
                    before[k] = record[k];
                    sorted_sum += record[k] * (k + 1);
                }
            }
            assert_int_equal(seen, count);
            assert_true(sum == sorted_sum);
            assert_int_equal(rmj_sort_next(sort, &record, &err), RMJ_OK);
            assert_null(record);
        }
        rmj_sort_destroy(sort);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(languages_are_told_apart_and_what_is_unclear_is_other),
        cmocka_unit_test(boilerplate_of_many_references_is_no_contamination),
        cmocka_unit_test(the_sorter_sorts_what_does_not_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
