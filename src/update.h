/* Part of kernels.c: the optimizers' pass over the flat vector. */

/* Words in a slot text, folded at compile time; at most MBP_SLOTS_MAX. */
#define WORDS(text)                                                                                                                        \
    (!*(text) ? 0 : !__builtin_strchr(text, ' ') ? 1 : !__builtin_strchr(__builtin_strchr(text, ' ') + 1, ' ') ? 2 : 3)

#define OPTIMIZER(name, slot_names, text, powers, prepare, step)                                                                           \
    static void update_##name(int64_t n, void *params, const void *grads, void *const slots[MBP_SLOTS_MAX],                                \
                              const double constants[MBP_CONSTANTS_MAX], double decay) {                                                   \
        T *p = params;                                                                                                                     \
        const T *g = grads, d = (T)decay;                                                                                                  \
        T *s0 = slots[0], *s1 = slots[1], *s2 = slots[2], c[MBP_CONSTANTS_MAX];                                                            \
        for (int i = 0; i < MBP_CONSTANTS_MAX; i++)                                                                                        \
            c[i] = (T)constants[i];                                                                                                        \
        INDEPENDENT                                                                                                                        \
        for (int64_t i = 0; i < n; i++) {                                                                                                  \
            T s[MBP_SLOTS_MAX] = {WORDS(slot_names) > 0 ? s0[i] : 0, WORDS(slot_names) > 1 ? s1[i] : 0,                                    \
                                  WORDS(slot_names) > 2 ? s2[i] : 0};                                                                      \
            p[i] = step(p[i], g[i] + d * p[i], s, c);                                                                                      \
            if (WORDS(slot_names) > 0)                                                                                                     \
                s0[i] = s[0];                                                                                                              \
            if (WORDS(slot_names) > 1)                                                                                                     \
                s1[i] = s[1];                                                                                                              \
            if (WORDS(slot_names) > 2)                                                                                                     \
                s2[i] = s[2];                                                                                                              \
        }                                                                                                                                  \
    }
#include "formulas.def"
#undef WORDS
