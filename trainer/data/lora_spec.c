#include "trainer/data/lora_spec.h"

enum rmj_status rmj_lora_of_spec(struct rmj_lora *lora, const Rmjob__V1__JobSpec *spec,
                                 const struct rmj_model_config *config, struct rmj_error *err)
{
    const Rmjob__V1__LoraSpec *given = spec->train != NULL ? spec->train->lora : NULL;
    *lora = (struct rmj_lora){0};
    if (given == NULL) {
        return RMJ_OK;
    }
    return rmj_lora_init(lora, config, given->has_rank ? given->rank : RMJ_LORA_RANK_DEFAULT,
                         given->has_alpha ? given->alpha : RMJ_LORA_ALPHA_DEFAULT,
                         (const char *const *)given->target_modules, given->n_target_modules, err);
}

int rmj_publishes_adapter(const Rmjob__V1__JobSpec *spec)
{
    return spec->train != NULL && spec->train->lora != NULL && spec->publish != NULL && spec->publish->has_form &&
           spec->publish->form == RMJOB__V1__PUBLISH_FORM__adapter;
}

enum rmj_status rmj_lora_check(struct rmj_lora *lora, const Rmjob__V1__JobSpec *spec,
                               const struct rmj_model_config *config, const struct rmj_renderer *renderer,
                               struct rmj_findings *findings, struct rmj_error *err)
{
    struct rmj_error own = {0};
    if (rmj_lora_of_spec(lora, spec, config, &own) != RMJ_OK) {
        *lora = (struct rmj_lora){0};
        enum rmj_status status = rmj_findings_take(findings, "train.lora", RMJ_EXIT_SPEC, &own);
        if (status != RMJ_OK && err != NULL) {
            *err = own;
        }
        return status;
    }
    // An adapter goes onto the base model as it is, so it cannot bring a row of the embedding.
    if (rmj_publishes_adapter(spec) && renderer->vocabulary_grows) {
        rmj_findings_error(findings, "publish.form", RMJ_EXIT_SPEC,
                           "the base model has no pad token and no spare row of its embedding for one, and an adapter "
                           "cannot add one: publish merged, or give the base model a pad token that ends no sequence");
    }
    return RMJ_OK;
}
