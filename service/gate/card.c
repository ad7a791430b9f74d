// The artifact's README.md and rmjob.json.
#include <stdio.h>
#include <string.h>

#include "base/version.h"
#include "proto/text/text_format.h"
#include "service/gate/gate_internal.h"

static void print_categories(const Rmjob__V1__JobReport *report, struct rmj_buf *out)
{
    rmj_buf_puts(out, "| check | value | needs | |\n|---|---|---|---|\n");
    for (size_t i = 0; report->verdict != NULL && i < report->verdict->n_checks; i++) {
        const Rmjob__V1__GateCheck *check = report->verdict->checks[i];
        rmj_buf_printf(out, "| %s | %.4f | %.4f | %s |\n", check->name, check->value, check->needs,
                       check->passed ? "pass" : "fail");
    }
}

void rmj_model_card(const Rmjob__V1__JobReport *report, const char *name, uint32_t version, struct rmj_buf *out)
{
    rmj_buf_puts(
        out,
        "---\nlibrary_name: transformers\npipeline_tag: text-classification\ntags:\n- reward-model\n- rmjob\n---\n\n");
    rmj_buf_printf(out, "# %s, version %u\n\n", name, version);
    int margins = report->plan != NULL && report->plan->use_margin;
    rmj_buf_printf(
        out,
        "A reward model: one raw score for a conversation, higher is better. Trained with the Bradley-Terry loss%s on "
        "preference pairs, for exactly one epoch. Scores are not normalised; only differences between answers to "
        "one prompt mean something.\n\n",
        margins ? ", less each pair's own margin," : "");
    rmj_buf_puts(out, "```python\nfrom transformers import AutoModelForSequenceClassification, AutoTokenizer\n"
                      "tokenizer = AutoTokenizer.from_pretrained(path)\n"
                      "model = AutoModelForSequenceClassification.from_pretrained(path)\n"
                      "ids = tokenizer.apply_chat_template([{\"role\": \"user\", \"content\": \"...\"}, "
                      "{\"role\": \"assistant\", \"content\": \"...\"}], return_tensors=\"pt\", return_dict=True)\n"
                      "score = model(**ids).logits[0, 0].item()\n```\n\n## Gate\n\n");
    print_categories(report, out);
    if (report->plan != NULL) {
        rmj_buf_printf(out, "\n## Training\n\n%llu pairs, %u optimizer steps, %llu parameters.",
                       (unsigned long long)report->plan->pairs, report->plan->steps,
                       (unsigned long long)report->plan->parameters);
        rmj_buf_puts(out, " Lineage, data digests and the whole report are in `rmjob.json`; "
                          "`rmjob-pairs.bin` knows the pairs the model and its ancestors have seen, so that none is "
                          "trained on twice.\n");
    }
    const Rmjob__V1__ScoreDistribution *d = report->evaluation == NULL ? NULL : report->evaluation->distribution;
    if (d != NULL && d->has_std) {
        rmj_buf_printf(out, "\nScores over the held-out set: mean %.4f, standard deviation %.4f (metadata only).\n",
                       d->mean, d->std);
    }
}

void rmj_lineage_json(const Rmjob__V1__JobReport *report, const char *name, uint32_t version, struct rmj_buf *out)
{
    rmj_buf_printf(out, "{\"format\":\"rmjob/v1\",\"rmjob_version\":\"%s\",\"name\":\"%s\",\"version\":%u,\"report\":",
                   RMJ_VERSION, name, version);
    rmj_json_print(&report->base, 0, out);
    rmj_buf_puts(out, "}\n");
}
