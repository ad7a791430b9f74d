// Gated linear units: out = activation(gate) * up, eight elements at a time.
#include "kernels/cpu/context.h"
#include "kernels/cpu/vector.h"

// Of GELU's tanh form: 2 sqrt(2 / pi) and 0.044715. The 2 is there because (1 + tanh z) / 2 = sigmoid(2 z), which loses
// nothing where tanh comes close to -1.
#define GELU_LINEAR 0x1.988454p+0f
#define GELU_CUBIC 0x1.6e4e26p-5f
// Beyond, the sigmoid is 1 above and under 1e-37 below; the cubic must not overflow.
#define GELU_EDGE 10.0f

struct glu_work {
    float *out, *dgate, *dup;
    const float *gate, *up, *dout;
    size_t count;
};

struct activated {
    __m256 value, slope; // activation(gate) and its derivative
};
typedef struct activated (*activate_fn)(__m256 gate);

static inline __m256 sigmoid(__m256 x)
{
    __m256 one = _mm256_set1_ps(1);
    return _mm256_div_ps(one, _mm256_add_ps(one, rmj_vector_exp(_mm256_sub_ps(_mm256_setzero_ps(), x))));
}

// d silu(g) = s (1 + g (1 - s)), s = sigmoid(g).
static inline struct activated silu(__m256 g)
{
    __m256 one = _mm256_set1_ps(1), s = sigmoid(g);
    return (struct activated){.value = _mm256_mul_ps(g, s),
                              .slope = _mm256_mul_ps(s, _mm256_fmadd_ps(g, _mm256_sub_ps(one, s), one))};
}

// gelu(g) = g s, s = sigmoid(w), w = a (g + b g^3); d gelu(g) = s (1 + g (1 - s) w'), w' = a (1 + 3 b g^2). Operands of
// min and max stand so that a NaN gets through.
static inline struct activated gelu_tanh(__m256 g)
{
    __m256 one = _mm256_set1_ps(1), a = _mm256_set1_ps(GELU_LINEAR), b = _mm256_set1_ps(GELU_CUBIC);
    __m256 floored = _mm256_max_ps(_mm256_set1_ps(-GELU_EDGE), g);
    __m256 x = _mm256_min_ps(_mm256_set1_ps(GELU_EDGE), floored);
    __m256 cubic = _mm256_mul_ps(b, _mm256_mul_ps(x, x));
    __m256 s = sigmoid(_mm256_mul_ps(a, _mm256_fmadd_ps(cubic, x, x)));
    __m256 inner = _mm256_mul_ps(a, _mm256_fmadd_ps(cubic, _mm256_set1_ps(3), one));
    __m256 slope = _mm256_fmadd_ps(_mm256_mul_ps(x, _mm256_sub_ps(one, s)), inner, one);
    return (struct activated){.value = _mm256_mul_ps(floored, s), .slope = _mm256_mul_ps(s, slope)};
}

// Inlined with a known `activate`, so that each activation has its own loop.
static inline __attribute__((always_inline)) void forward_elements(const struct glu_work *w, size_t index,
                                                                   activate_fn activate)
{
    size_t end = rmj_cpu_cut_end(index, RMJ_CPU_ELEMENTS, w->count);
    for (size_t i = index * RMJ_CPU_ELEMENTS; i < end; i += 8) {
        __m256i mask = rmj_vector_mask(end - i < 8 ? end - i : 8);
        struct activated gate = activate(_mm256_maskload_ps(w->gate + i, mask));
        _mm256_maskstore_ps(w->out + i, mask, _mm256_mul_ps(gate.value, _mm256_maskload_ps(w->up + i, mask)));
    }
}

static inline __attribute__((always_inline)) void backward_elements(const struct glu_work *w, size_t index,
                                                                    activate_fn activate)
{
    size_t end = rmj_cpu_cut_end(index, RMJ_CPU_ELEMENTS, w->count);
    for (size_t i = index * RMJ_CPU_ELEMENTS; i < end; i += 8) {
        __m256i mask = rmj_vector_mask(end - i < 8 ? end - i : 8);
        struct activated gate = activate(_mm256_maskload_ps(w->gate + i, mask));
        __m256 u = _mm256_maskload_ps(w->up + i, mask), d = _mm256_maskload_ps(w->dout + i, mask);
        if (w->out != NULL) {
            _mm256_maskstore_ps(w->out + i, mask, _mm256_mul_ps(gate.value, u));
        }
        _mm256_maskstore_ps(w->dgate + i, mask, _mm256_mul_ps(_mm256_mul_ps(d, u), gate.slope));
        _mm256_maskstore_ps(w->dup + i, mask, _mm256_mul_ps(d, gate.value));
    }
}

static void silu_forward_cut(void *context, size_t index, size_t thread)
{
    (void)thread;
    forward_elements(context, index, silu);
}

static void gelu_tanh_forward_cut(void *context, size_t index, size_t thread)
{
    (void)thread;
    forward_elements(context, index, gelu_tanh);
}

static void silu_backward_cut(void *context, size_t index, size_t thread)
{
    (void)thread;
    backward_elements(context, index, silu);
}

static void gelu_tanh_backward_cut(void *context, size_t index, size_t thread)
{
    (void)thread;
    backward_elements(context, index, gelu_tanh);
}

static const struct {
    void (*forward)(void *context, size_t index, size_t thread);
    void (*backward)(void *context, size_t index, size_t thread);
} cuts[] = {
    [RMJ_SILU] = {silu_forward_cut, silu_backward_cut},
    [RMJ_GELU_TANH] = {gelu_tanh_forward_cut, gelu_tanh_backward_cut},
};

void rmj_cpu_glu_forward(void *context, enum rmj_activation activation, float *out, const float *gate, const float *up,
                         size_t count)
{
    struct rmj_cpu *cpu = context;
    struct glu_work w = {.out = out, .gate = gate, .up = up, .count = count};
    rmj_pool_run(cpu->pool, rmj_cpu_cuts(count, RMJ_CPU_ELEMENTS), cuts[activation].forward, &w);
}

void rmj_cpu_glu_backward(void *context, enum rmj_activation activation, float *dgate, float *dup, float *out,
                          const float *dout, const float *gate, const float *up, size_t count)
{
    struct rmj_cpu *cpu = context;
    struct glu_work w = {.out = out, .dgate = dgate, .dup = dup, .dout = dout, .gate = gate, .up = up, .count = count};
    rmj_pool_run(cpu->pool, rmj_cpu_cuts(count, RMJ_CPU_ELEMENTS), cuts[activation].backward, &w);
}
