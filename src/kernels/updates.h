/* Part of kernels.c: the optimizers. They update the flat vector of all parameters. */

/* The number of words in a text of slot names, at most MBP_SLOTS_MAX. The compiler computes it. */
#define WORDS(text) \
    (!*(text) ? 0 : !__builtin_strchr(text, ' ') ? 1 : !__builtin_strchr(__builtin_strchr(text, ' ') + 1, ' ') ? 2 : 3)

/* A loop over n parameters. `statement` uses p[i], its slots s[] and the constants c[]; KEEP_SLOTS stores the slots
 * that it changed. */
#define UPDATE_LOOP(slot_names, statement) \
    T *s0 = slots[0], *s1 = slots[1], *s2 = slots[2], c[MBP_CONSTANTS_MAX]; \
    (void)s0, (void)s1, (void)s2; \
    for (int i = 0; i < MBP_CONSTANTS_MAX; i++) \
        c[i] = (T)constants[i]; \
    INDEPENDENT \
    for (int64_t i = 0; i < n; i++) { \
        T s[MBP_SLOTS_MAX] = {WORDS(slot_names) > 0 ? s0[i] : 0, WORDS(slot_names) > 1 ? s1[i] : 0, \
                              WORDS(slot_names) > 2 ? s2[i] : 0}; \
        statement; \
    }
#define KEEP_SLOTS(slot_names) \
    { \
        if (WORDS(slot_names) > 0) \
            s0[i] = s[0]; \
        if (WORDS(slot_names) > 1) \
            s1[i] = s[1]; \
        if (WORDS(slot_names) > 2) \
            s2[i] = s[2]; \
    }

/* loop_NAME is the loop of an optimizer, not inlined: the code has each loop once. */
#define UPDATE_ARGUMENTS \
    int64_t n, T *p, const T *g, T *const slots[MBP_SLOTS_MAX], const double constants[MBP_CONSTANTS_MAX], T decay
typedef void (*update_loop)(UPDATE_ARGUMENTS);

#define IN_GRADIENT(step) step(p[i], g[i] + decay * p[i], s, c)
#define DECOUPLED(step) step(p[i] - decay * p[i], g[i], s, c)
#define OPTIMIZER(name, slot_names, text, meaning, powers, decay_enters, prepare, step) \
    static HOT __attribute__((noinline)) void loop_##name(UPDATE_ARGUMENTS) { \
        UPDATE_LOOP(slot_names, p[i] = decay_enters(step); KEEP_SLOTS(slot_names)) \
    }
#define TRUST_OPTIMIZER(name, slot_names, text, meaning, powers, prepare, moments, direction) \
    static HOT __attribute__((noinline)) void loop_##name(UPDATE_ARGUMENTS) { \
        (void)g; \
        UPDATE_LOOP(slot_names, p[i] -= c[0] * (direction(s, c) + decay * p[i])) \
    }
#include "formulas/formulas.def"
#undef IN_GRADIENT
#undef DECOUPLED

enum { BLOCK = 1024 }; /* elements: they stay in the L1 cache from one loop to the next */

static void clip(int64_t n, T *clipped, const T *g, T scale, T bound) {
    INDEPENDENT
    for (int64_t i = 0; i < n; i++) {
        const T scaled = scale * g[i], below = bound < scaled ? bound : scaled;
        clipped[i] = -bound > below ? -bound : below;
    }
}

static int clips(const mbp_terms *terms) { return !((T)terms->scale == 1 && (T)terms->bound == INF); }

/* The gradients of a block as the optimizer gets them: g itself, or the clipped gradients. */
static const T *clip_block(int64_t n, T clipped[BLOCK], const T *g, const mbp_terms *terms) {
    if (!clips(terms))
        return g;
    clip(n, clipped, g, (T)terms->scale, (T)terms->bound);
    return clipped;
}

static void slots_at(int64_t first, void *const slots[MBP_SLOTS_MAX], T *at[MBP_SLOTS_MAX]) {
    for (int s = 0; s < MBP_SLOTS_MAX; s++)
        at[s] = slots[s] ? (T *)slots[s] + first : NULL;
}

static void update(int optimizer, int64_t n, void *p, const void *g, void *const slots[MBP_SLOTS_MAX],
                   const double constants[MBP_CONSTANTS_MAX], const mbp_terms *terms) {
    static const update_loop loops[] = {
#define OPTIMIZER(name, ...) loop_##name,
#define TRUST_OPTIMIZER(name, ...) loop_##name,
#include "formulas/formulas.def"
    };
    const int64_t block = clips(terms) ? BLOCK : n;
    T *s[MBP_SLOTS_MAX], clipped[BLOCK];
    for (int64_t first = 0; first < n; first += block) {
        const int64_t count = n - first < block ? n - first : block;
        slots_at(first, slots, s);
        loops[optimizer](count, (T *)p + first, clip_block(count, clipped, (const T *)g + first, terms), s, constants,
                         (T)terms->decay);
    }
}

/* ---- the first pass of optimizers with a trust ratio: slots and sums of squares ---- */

#define MEASURE_ARGUMENTS \
    int64_t n, T *direction, const T *p, const T *g, T *const slots[MBP_SLOTS_MAX], \
        const double constants[MBP_CONSTANTS_MAX], T decay
typedef void (*measure_loop)(MEASURE_ARGUMENTS);

static inline void measure(measure_loop loop, int64_t n, const T *p, const T *g, void *const slots[MBP_SLOTS_MAX],
                           const double constants[MBP_CONSTANTS_MAX], const mbp_terms *terms, double sums[2]) {
    T *s[MBP_SLOTS_MAX], clipped[BLOCK], direction[BLOCK];
    double of_p[LANES] = {0}, of_direction[LANES] = {0};
    for (int64_t first = 0; first < n; first += BLOCK) {
        const int64_t count = n - first < BLOCK ? n - first : BLOCK;
        slots_at(first, slots, s);
        loop(count, direction, p + first, clip_block(count, clipped, g + first, terms), s, constants, (T)terms->decay);
        add_squares(count, p + first, of_p);
        add_squares(count, direction, of_direction);
    }
    sums[0] = sum_lanes(of_p);
    sums[1] = sum_lanes(of_direction);
}

#define TRUST_OPTIMIZER(name, slot_names, text, meaning, powers, prepare, moments, direction_of) \
    static void measure_loop_##name(MEASURE_ARGUMENTS) { \
        UPDATE_LOOP(slot_names, moments(g[i], s, c); direction[i] = direction_of(s, c) + decay * p[i]; \
                    KEEP_SLOTS(slot_names)) \
    } \
    static void measure_##name(int64_t n, const void *p, const void *g, void *const slots[MBP_SLOTS_MAX], \
                               const double constants[MBP_CONSTANTS_MAX], const mbp_terms *terms, double sums[2]) { \
        measure(measure_loop_##name, n, p, g, slots, constants, terms, sums); \
    }
#include "formulas/formulas.def"
#undef UPDATE_ARGUMENTS
#undef MEASURE_ARGUMENTS
#undef UPDATE_LOOP
#undef KEEP_SLOTS
#undef WORDS
