/* Part of kernels.c: the optimizers' pass over the flat vector. */

/* Words in a slot text, folded at compile time; at most MBP_SLOTS_MAX. */
#define WORDS(text) (!*(text) ? 0 : !__builtin_strchr(text, ' ') ? 1 : !__builtin_strchr(__builtin_strchr(text, ' ') + 1, ' ') ? 2 : 3)

/* The loop of each row; decay enters where the row says. */
typedef void (*update_loop)(int64_t n, T *p, const T *g, T *const slots[MBP_SLOTS_MAX], const double constants[MBP_CONSTANTS_MAX], T decay);

#define IN_GRADIENT(step) step(p[i], g[i] + decay * p[i], s, c)
#define DECOUPLED(step) step(p[i] - decay * p[i], g[i], s, c)
#define OPTIMIZER(name, slot_names, text, powers, decay_enters, prepare, step)                                                             \
    static void loop_##name(int64_t n, T *p, const T *g, T *const slots[MBP_SLOTS_MAX], const double constants[MBP_CONSTANTS_MAX],         \
                            T decay) {                                                                                                     \
        T *s0 = slots[0], *s1 = slots[1], *s2 = slots[2], c[MBP_CONSTANTS_MAX];                                                            \
        for (int i = 0; i < MBP_CONSTANTS_MAX; i++)                                                                                        \
            c[i] = (T)constants[i];                                                                                                        \
        INDEPENDENT                                                                                                                        \
        for (int64_t i = 0; i < n; i++) {                                                                                                  \
            T s[MBP_SLOTS_MAX] = {WORDS(slot_names) > 0 ? s0[i] : 0, WORDS(slot_names) > 1 ? s1[i] : 0,                                    \
                                  WORDS(slot_names) > 2 ? s2[i] : 0};                                                                      \
            p[i] = decay_enters(step);                                                                                                     \
            if (WORDS(slot_names) > 0)                                                                                                     \
                s0[i] = s[0];                                                                                                              \
            if (WORDS(slot_names) > 1)                                                                                                     \
                s1[i] = s[1];                                                                                                              \
            if (WORDS(slot_names) > 2)                                                                                                     \
                s2[i] = s[2];                                                                                                              \
        }                                                                                                                                  \
    }
#include "formulas.def"
#undef IN_GRADIENT
#undef DECOUPLED
#undef WORDS

enum { CLIP_BLOCK = 1024 }; /* clipped gradients that stay in the first cache between the two loops */

static void clip(int64_t n, T *clipped, const T *g, T scale, T bound) {
    INDEPENDENT
    for (int64_t i = 0; i < n; i++) {
        const T scaled = scale * g[i], below = bound < scaled ? bound : scaled;
        clipped[i] = -bound > below ? -bound : below;
    }
}

static void update(update_loop loop, int64_t n, T *p, const T *g, void *const slots[MBP_SLOTS_MAX],
                   const double constants[MBP_CONSTANTS_MAX], const mbp_terms *terms) {
    const T scale = (T)terms->scale, bound = (T)terms->bound, decay = (T)terms->decay;
    T *s[MBP_SLOTS_MAX] = {slots[0], slots[1], slots[2]}, clipped[CLIP_BLOCK];
    if (scale == 1 && bound == INF) {
        loop(n, p, g, s, constants, decay);
        return;
    }
    for (int64_t first = 0; first < n; first += CLIP_BLOCK) {
        const int64_t count = n - first < CLIP_BLOCK ? n - first : CLIP_BLOCK;
        T *const part[MBP_SLOTS_MAX] = {s[0] ? s[0] + first : NULL, s[1] ? s[1] + first : NULL, s[2] ? s[2] + first : NULL};
        clip(count, clipped, g + first, scale, bound);
        loop(count, p + first, clipped, part, constants, decay);
    }
}

#define OPTIMIZER(name, ...)                                                                                                               \
    static void update_##name(int64_t n, void *p, const void *g, void *const slots[MBP_SLOTS_MAX],                                         \
                              const double constants[MBP_CONSTANTS_MAX], const mbp_terms *terms) {                                         \
        update(loop_##name, n, p, g, slots, constants, terms);                                                                             \
    }
#include "formulas.def"
