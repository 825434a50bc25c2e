/* Part of kernels.c: the optimizers. They update the flat vector of all parameters. */

/* The number of words in a text of slot names, at most MBP_SLOTS_MAX. The compiler computes it. */
#define WORDS(text) \
    (!*(text) ? 0 : !__builtin_strchr(text, ' ') ? 1 : !__builtin_strchr(__builtin_strchr(text, ' ') + 1, ' ') ? 2 : 3)

/* A loop over `count` parameters. `statement` uses p[i], its slots s[] and the constants c[]; KEEP_SLOTS stores the
 * slots that it changed. */
#define UPDATE_LOOP(slot_names, count, statement) \
    T *s0 = slots[0], *s1 = slots[1], *s2 = slots[2], c[MBP_CONSTANTS_MAX]; \
    (void)s0, (void)s1, (void)s2; \
    for (int i = 0; i < MBP_CONSTANTS_MAX; i++) \
        c[i] = (T)constants[i]; \
    INDEPENDENT \
    for (int64_t i = 0; i < (count); i++) { \
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

/* loop_NAME is the loop of an optimizer, not inlined: the code has each loop once. It is compiled for whole vectors; in
 * small code for any n. */
#define WHOLE(n) (MICROBP_SMALL ? (n) : (n) / VL * VL)
#define UPDATE_ARGUMENTS \
    int64_t n, T *p, const T *g, T *const slots[MBP_SLOTS_MAX], const double constants[MBP_CONSTANTS_MAX], T decay
typedef void (*update_loop)(UPDATE_ARGUMENTS);

#define IN_GRADIENT(step) step(p[i], g[i] + decay * p[i], s, c)
#define DECOUPLED(step) step(p[i] - decay * p[i], g[i], s, c)
#define OPTIMIZER(name, slot_names, text, meaning, powers, decay_enters, prepare, step, ...) \
    static HOT __attribute__((noinline)) void loop_##name(UPDATE_ARGUMENTS) { \
        UPDATE_LOOP(slot_names, WHOLE(n), p[i] = decay_enters(step); KEEP_SLOTS(slot_names)) \
    }
#define TRUST_OPTIMIZER(name, slot_names, text, meaning, powers, prepare, moments, direction) \
    static HOT __attribute__((noinline)) void loop_##name(UPDATE_ARGUMENTS) { \
        (void)g; \
        UPDATE_LOOP(slot_names, WHOLE(n), p[i] -= c[0] * (direction(s, c) + decay * p[i])) \
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

/* The copies of slots. Without slots none: loop_combine looks at the first. */
#define COPIES(slots, copy) {slots[0] ? copy[0] : NULL, copy[1], copy[2]}

/* Runs the loop for n < VL, in a copy. */
static __attribute__((noinline)) void update_few(update_loop loop, UPDATE_ARGUMENTS) {
    T last_p[VL] = {0}, last_g[VL] = {0}, last_slots[MBP_SLOTS_MAX][VL] = {{0}};
    T *const last[MBP_SLOTS_MAX] = COPIES(slots, last_slots);
    copy_few(VL, n, p, last_p);
    copy_few(VL, n, g, last_g);
    for (int s = 0; s < MBP_SLOTS_MAX && slots[s]; s++)
        copy_few(VL, n, slots[s], last[s]);
    loop(VL, last_p, last_g, last, constants, decay);
    copy_few(VL, n, last_p, p);
    for (int s = 0; s < MBP_SLOTS_MAX && slots[s]; s++)
        copy_few(VL, n, last[s], slots[s]);
}

/* Runs the loop for any n. The last vector ends with the parameters and is updated in a copy. That is made before the
 * others change, because both may have elements in common; these are computed twice, with the same bits. */
static __attribute__((noinline)) void update_block(update_loop loop, UPDATE_ARGUMENTS) {
    const int64_t whole = WHOLE(n), end = n - VL;
    if (whole == n) {
        loop(n, p, g, slots, constants, decay);
        return;
    }
    if (!whole) {
        update_few(loop, n, p, g, slots, constants, decay);
        return;
    }
    T last_p[VL], last_g[VL], last_slots[MBP_SLOTS_MAX][VL];
    T *const last[MBP_SLOTS_MAX] = COPIES(slots, last_slots);
    store(last_p, load(p + end));
    store(last_g, load(g + end));
    for (int s = 0; s < MBP_SLOTS_MAX && slots[s]; s++)
        store(last[s], load(slots[s] + end));
    loop(whole, p, g, slots, constants, decay);
    loop(VL, last_p, last_g, last, constants, decay);
    store(p + end, load(last_p));
    for (int s = 0; s < MBP_SLOTS_MAX && slots[s]; s++)
        store(slots[s] + end, load(last[s]));
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
        update_block(loops[optimizer], count, (T *)p + first, clip_block(count, clipped, (const T *)g + first, terms),
                     s, constants, (T)terms->decay);
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
        UPDATE_LOOP(slot_names, n, moments(g[i], s, c); direction[i] = direction_of(s, c) + decay * p[i]; \
                    KEEP_SLOTS(slot_names)) \
    } \
    static void measure_##name(int64_t n, const void *p, const void *g, void *const slots[MBP_SLOTS_MAX], \
                               const double constants[MBP_CONSTANTS_MAX], const mbp_terms *terms, double sums[2]) { \
        measure(measure_loop_##name, n, p, g, slots, constants, terms, sums); \
    }
#include "formulas/formulas.def"
#undef MEASURE_ARGUMENTS
#undef UPDATE_LOOP
#undef KEEP_SLOTS
#undef WORDS

#if MICROBP_SPARSE
/* p and s become by[0] p + by[1] s and by[2] p + by[3] s. s NULL: p becomes by[0] p. */
static HOT void loop_combine(UPDATE_ARGUMENTS) {
    T *const s = slots[0];
    const T a = (T)constants[0], b = (T)constants[1], c = (T)constants[2], d = (T)constants[3];
    (void)g, (void)decay;
    if (!s) {
        INDEPENDENT
        for (int64_t i = 0; i < WHOLE(n); i++)
            p[i] = a * p[i];
        return;
    }
    INDEPENDENT
    for (int64_t i = 0; i < WHOLE(n); i++) {
        const T before = p[i];
        p[i] = a * before + b * s[i];
        s[i] = c * before + d * s[i];
    }
}

static void combine(int64_t n, void *p, void *s, const double by[4]) {
    T *const slots[MBP_SLOTS_MAX] = {s};
    const double constants[MBP_CONSTANTS_MAX] = {by[0], by[1], by[2], by[3]};
    update_block(loop_combine, n, p, p, slots, constants, 0);
}
#endif
#undef UPDATE_ARGUMENTS
#undef COPIES
#undef WHOLE
