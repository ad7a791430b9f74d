// The backend's life: check of the CPU, scratch, table.
#include "kernels/cpu/cpu.h"

#include <stdlib.h>

#include "kernels/cpu/context.h"

enum rmj_status rmj_cpu_check(struct rmj_error *err)
{
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) {
        return rmj_fail(err, RMJ_DEVICE, "this CPU lacks %s; rmjob's cpu backend needs AVX2 and FMA (x86-64-v3)",
                        __builtin_cpu_supports("avx2") ? "FMA" : "AVX2");
    }
    // One instruction set for all: the bits of a product depend on it, and float32 gains nothing from AVX-512.
    // Refused by oneDNN once it has begun to compute; then the cap was set by an earlier call here.
    (void)dnnl_set_max_cpu_isa(dnnl_cpu_isa_avx2);
    if (dnnl_get_effective_cpu_isa() != dnnl_cpu_isa_avx2) {
        return rmj_fail(err, RMJ_DEVICE,
                        "oneDNN would not be held to AVX2 (it uses instruction set %#x); unset ONEDNN_MAX_CPU_ISA",
                        (unsigned)dnnl_get_effective_cpu_isa());
    }
    return RMJ_OK;
}

void rmj_cpu_thread_start(void)
{
    rmj_cpu_one_thread();
}

// Enough for any split of T x width elements into rows of at most width: the last cut may be a short one.
static size_t partial_count(const struct rmj_ops_limits *l)
{
    return rmj_cpu_cuts((size_t)l->row_count * l->width, RMJ_CPU_ROWS) + l->width;
}

static size_t tile_size(const struct rmj_ops_limits *l)
{
    return (size_t)RMJ_CPU_QUERY_ROWS * l->row_count * sizeof(float);
}

size_t rmj_cpu_ops_memory(const struct rmj_ops_limits *l, size_t thread_count)
{
    size_t size = rmj_arena_need(partial_count(l) * sizeof(float)) + thread_count * 2 * rmj_arena_need(tile_size(l));
    size += 2 * rmj_arena_need(thread_count * sizeof(float *));
    size += rmj_arena_need(l->vocabulary_size * sizeof(uint32_t));
    size += rmj_arena_need(l->row_count * sizeof(uint32_t)) + rmj_arena_need((l->row_count + 1) * sizeof(uint32_t));
    return size;
}

static void destroy(void *context)
{
    struct rmj_cpu *cpu = context;
    if (cpu != NULL) {
        rmj_arena_destroy(&cpu->arena);
        free(cpu);
    }
}

static void fill_scratch(struct rmj_cpu *cpu)
{
    const struct rmj_ops_limits *l = &cpu->limits;
    size_t thread_count = rmj_pool_thread_count(cpu->pool);
    struct rmj_arena *arena = &cpu->arena;
    cpu->partial_count = partial_count(l);
    cpu->partials = rmj_arena_take(arena, cpu->partial_count * sizeof(float));
    cpu->scores = rmj_arena_take(arena, thread_count * sizeof(float *));
    cpu->score_grads = rmj_arena_take(arena, thread_count * sizeof(float *));
    for (size_t i = 0; i < thread_count; i++) {
        cpu->scores[i] = rmj_arena_take(arena, tile_size(l));
        cpu->score_grads[i] = rmj_arena_take(arena, tile_size(l));
    }
    cpu->first_use = rmj_arena_take(arena, l->vocabulary_size * sizeof(uint32_t));
    cpu->order = rmj_arena_take(arena, l->row_count * sizeof(uint32_t));
    cpu->starts = rmj_arena_take(arena, (l->row_count + 1) * sizeof(uint32_t));
}

enum rmj_status rmj_cpu_ops_create(struct rmj_ops *ops, const struct rmj_ops_limits *limits, struct rmj_pool *pool,
                                   struct rmj_error *err)
{
    RMJ_TRY(rmj_cpu_check(err));
    struct rmj_cpu *cpu = calloc(1, sizeof *cpu);
    if (cpu == NULL) {
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory for the cpu backend");
    }
    cpu->pool = pool;
    cpu->limits = *limits;
    size_t size = rmj_cpu_ops_memory(limits, rmj_pool_thread_count(pool));
    enum rmj_status status = rmj_arena_create(&cpu->arena, "kernels", size, err);
    if (status != RMJ_OK) {
        free(cpu);
        return status;
    }
    fill_scratch(cpu);
    *ops = (struct rmj_ops){
        .context = cpu,
        .destroy = destroy,
        .matmul = rmj_cpu_matmul,
        .column_sum = rmj_cpu_column_sum,
        .add_bias = rmj_cpu_add_bias,
        .add = rmj_cpu_add,
        .scale = rmj_cpu_scale,
        .rmsnorm_forward = rmj_cpu_rmsnorm_forward,
        .rmsnorm_backward = rmj_cpu_rmsnorm_backward,
        .rmsnorm_again = rmj_cpu_rmsnorm_again,
        .rotary_tables = rmj_cpu_rotary_tables,
        .rotary = rmj_cpu_rotary,
        .attention_forward = rmj_cpu_attention_forward,
        .attention_backward = rmj_cpu_attention_backward,
        .glu_forward = rmj_cpu_glu_forward,
        .glu_backward = rmj_cpu_glu_backward,
        .gather = rmj_cpu_gather,
        .scatter = rmj_cpu_scatter,
        .head_forward = rmj_cpu_head_forward,
        .head_backward = rmj_cpu_head_backward,
    };
    return RMJ_OK;
}
