/* The functions of formulas.h and rows.h against the C library in the next wider type, and the optimizers against the
 * textbook. Compile for float, and with -DMBP_DOUBLE for double.
 *     test_math [stride]     float: every stride-th of the 2^32 inputs (1: all); double: 10^9 / stride random inputs */
#include "formulas/optimizers.h"
#include "formulas/rows.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#ifdef MBP_DOUBLE
typedef long double Wide;
#define IN_WIDE(f) f##l
enum { DIGITS = DBL_MANT_DIG, LEAST_EXPONENT = DBL_MIN_EXP };
static const T LARGEST = DBL_MAX;
#else
typedef double Wide;
#define IN_WIDE(f) f
enum { DIGITS = FLT_MANT_DIG, LEAST_EXPONENT = FLT_MIN_EXP };
static const T LARGEST = FLT_MAX;
#endif

enum { CHUNK = 4096 };

static int failures;

static void expect(int good, const char *what, double got, double expected) {
    if (!good) {
        printf("FAILED %s: got %.17g, expected %.17g\n", what, got, expected);
        failures++;
    }
}

/* ---- functions of one number: function, truth, allowed error in ULP, absolute error that is always allowed ---- */

static Wide true_sigmoid(Wide x) { return 1 / (1 + IN_WIDE(exp)(-x)); }
static Wide true_softplus(Wide x) { return (x > 0 ? x : 0) + IN_WIDE(log1p)(IN_WIDE(exp)(-IN_WIDE(fabs)(x))); }
static Wide true_normal_cdf(Wide x) { return IN_WIDE(erfc)(-x * IN_WIDE(sqrt)((Wide)0.5)) / 2; }
static Wide true_gelu(Wide x) { return x * true_normal_cdf(x); }
static Wide true_density(Wide x) { return IN_WIDE(exp)(-x * x / 2) / IN_WIDE(sqrt)(8 * IN_WIDE(atan)(1)); }
static Wide true_d_gelu(Wide x) { return true_normal_cdf(x) + (isinf(x) ? 0 : x * true_density(x)); }
static Wide true_silu(Wide x) { return x * true_sigmoid(x); }
static Wide true_d_silu(Wide x) { return true_sigmoid(x) * (1 + x * true_sigmoid(-x)); }
static Wide true_sine(Wide x) { return IN_WIDE(fabs)(x) < TURNS_END ? IN_WIDE(sin)(x) : x - x; }
static Wide true_cosine(Wide x) { return IN_WIDE(fabs)(x) < TURNS_END ? IN_WIDE(cos)(x) : x - x; }
static T sine(T z) { return ABS(z) < TURNS_END ? SIN(z) : z - z; }
static T cosine(T z) { return ABS(z) < TURNS_END ? COS(z) : z - z; }
static Wide true_log_cosh(Wide x) {
    Wide a = IN_WIDE(fabs)(x), half = IN_WIDE(sinh)((a < 1 ? a : 1) / 2);
    return a < 1 ? IN_WIDE(log1p)(2 * half * half) : a - IN_WIDE(log)(2) + IN_WIDE(log1p)(IN_WIDE(exp)(-2 * a));
}
static T gelu(T z) { return z * NORMAL_CDF(z); }
static T silu(T z) { return z * SIGMOID(z); }

#ifdef MBP_DOUBLE
#define BOUND(f32, f64) f64
#else
#define BOUND(f32, f64) f32
#endif
#define NEARLY_0 BOUND(1e-30, 1e-300) /* z times a probability that is subnormal */
#define NEAR_ROOT BOUND(3e-7, 5e-16)  /* near the root of a derivative */
#define FUNCTIONS(X) \
    X(EXP, IN_WIDE(exp), BOUND(2, 3), 0) \
    X(EXPM1, IN_WIDE(expm1), BOUND(2, 3), 0) \
    X(LOG, IN_WIDE(log), BOUND(2, 3), 0) \
    X(LOG1P, IN_WIDE(log1p), BOUND(2, 3), 0) \
    X(TANH, IN_WIDE(tanh), 3, 0) \
    X(sine, true_sine, BOUND(2, 3), 0) \
    X(cosine, true_cosine, BOUND(2, 3), 0) \
    X(SIGMOID, true_sigmoid, 3, 0) \
    X(NORMAL_CDF, true_normal_cdf, BOUND(6, 5), 0) \
    X(softplus, true_softplus, 3, 0) \
    X(log_cosh, true_log_cosh, 8, 0) \
    X(gelu, true_gelu, BOUND(4, 5), BOUND(1e-7, 1e-300)) \
    X(silu, true_silu, 4, NEARLY_0) \
    X(d_gelu, true_d_gelu, 4, NEAR_ROOT) \
    X(d_silu, true_d_silu, 4, NEAR_ROOT)

typedef struct function {
    const char *name;
    void (*run)(const T *x, T *y);
    Wide (*truth)(Wide x);
    double ulps, absolute;
    double worst;
    T worst_at;
} function;

/* The same loops as in the kernels. */
#define X(f, truth, ulps, absolute) \
    static void run_##f(const T *x, T *y) { \
        for (int i = 0; i < CHUNK; i++) \
            y[i] = f(x[i]); \
    }
FUNCTIONS(X)
#undef X
#define X(f, truth, ulps, absolute) {#f, run_##f, truth, ulps, absolute, 0, 0},
static function functions[] = {FUNCTIONS(X)};
#undef X
enum { COUNT = sizeof functions / sizeof *functions };

/* The error of got in units of the last place of T at `expected`; for subnormal numbers, those of the smallest normal
 * one. */
static double ulps_between(T got, Wide expected, double absolute) {
    if (isnan(expected) || isnan(got))
        return isnan(expected) && isnan(got) ? 0 : INFINITY;
    if ((Wide)got == expected || (isinf(got) && (T)expected == got))
        return 0;
    Wide error = IN_WIDE(fabs)((Wide)got - expected);
    if (error <= absolute || (IN_WIDE(fabs)(expected) < MIN_NORMAL && ABS(got) <= MIN_NORMAL))
        return 0;
    int exponent;
    IN_WIDE(frexp)(expected, &exponent);
    return (double)IN_WIDE(ldexp)(error, DIGITS - (exponent < LEAST_EXPONENT ? LEAST_EXPONENT : exponent));
}

static void check_chunk(const T x[CHUNK]) {
    static T y[CHUNK];
    for (int f = 0; f < COUNT; f++) {
        functions[f].run(x, y);
        for (int i = 0; i < CHUNK; i++) {
            double ulps = ulps_between(y[i], functions[f].truth((Wide)x[i]), functions[f].absolute);
            if (ulps > functions[f].worst)
                functions[f].worst = ulps, functions[f].worst_at = x[i];
        }
    }
}

static void sweep(uint64_t stride) {
    static T x[CHUNK];
#ifdef MBP_DOUBLE
    const uint64_t samples = 1000000000 / stride;
    uint64_t state = 1;
#else
    const uint64_t samples = ((uint64_t)1 << 32) / stride;
#endif
    for (uint64_t start = 0; start <= samples; start += CHUNK) {
        for (uint64_t i = 0; i < CHUNK; i++) {
#ifdef MBP_DOUBLE
            state = state * 6364136223846793005u +
                    1442695040888963407u; /* Knuth's MMIX; only the upper bits are random enough */
            T fraction = (T)(state >> 11) * 0x1p-53;
            /* alternately: all magnitudes, the range where most functions bend, the range of the exponential */
            x[i] = i % 3 == 0 ? ldexp(fraction * 2 - 1, (int)(state >> 3 & 127) - 80)
                              : (fraction - 0.5) * (i % 3 == 1 ? 16 : 1500);
#else
            x[i] = as_number((Bits)((start + i) * stride));
#endif
        }
        check_chunk(x);
    }
    for (int f = 0; f < COUNT; f++) {
        printf("%-10s worst %.3f ULP at %.17g\n", functions[f].name, functions[f].worst, (double)functions[f].worst_at);
        expect(functions[f].worst <= functions[f].ulps, functions[f].name, functions[f].worst, functions[f].ulps);
    }
}

static int same(T a, T b) { return (a != a && b != b) || (a == b && signbit(a) == signbit(b)); }

static void check_edges(void) {
    const T nan = NOT_A_NUMBER;
    const struct {
        const char *what;
        T got, expected;
    } edges[] = {
        {"EXP(0)", EXP(0), 1},
        {"EXP(-0)", EXP(-(T)0), 1},
        {"EXP(inf)", EXP(INF), INF},
        {"EXP(1000)", EXP(1000), INF},
        {"EXP(-inf)", EXP(-INF), 0},
        {"EXP(-1000)", EXP(-1000), 0},
        {"EXPM1(0)", EXPM1(0), 0},
        {"EXPM1(-0)", EXPM1(-(T)0), -(T)0},
        {"EXPM1(inf)", EXPM1(INF), INF},
        {"EXPM1(-inf)", EXPM1(-INF), -1},
        {"LOG(1)", LOG(1), 0},
        {"LOG(0)", LOG(0), -INF},
        {"LOG(-0)", LOG(-(T)0), -INF},
        {"LOG(-1)", LOG(-1), nan},
        {"LOG(-inf)", LOG(-INF), nan},
        {"LOG(inf)", LOG(INF), INF},
        {"LOG1P(0)", LOG1P(0), 0},
        {"LOG1P(-0)", LOG1P(-(T)0), -(T)0},
        {"LOG1P(-1)", LOG1P(-1), -INF},
        {"LOG1P(-2)", LOG1P(-2), nan},
        {"LOG1P(inf)", LOG1P(INF), INF},
        {"TANH(0)", TANH(0), 0},
        {"TANH(-0)", TANH(-(T)0), -(T)0},
        {"TANH(inf)", TANH(INF), 1},
        {"TANH(-inf)", TANH(-INF), -1},
        {"SIN(0)", SIN(0), 0},
        {"SIN(-0)", SIN(-(T)0), -(T)0},
        {"SIN(inf)", SIN(INF), nan},
        {"SIN(-inf)", SIN(-INF), nan},
        {"COS(0)", COS(0), 1},
        {"COS(inf)", COS(INF), nan},
        {"COS(-inf)", COS(-INF), nan},
        {"SIGMOID(0)", SIGMOID(0), (T)0.5},
        {"SIGMOID(inf)", SIGMOID(INF), 1},
        {"SIGMOID(-inf)", SIGMOID(-INF), 0},
        {"NORMAL_CDF(0)", NORMAL_CDF(0), (T)0.5},
        {"NORMAL_CDF(inf)", NORMAL_CDF(INF), 1},
        {"NORMAL_CDF(-inf)", NORMAL_CDF(-INF), 0},
        {"d_gelu(inf)", d_gelu(INF), 1},
        {"d_gelu(-inf)", d_gelu(-INF), 0},
        {"softplus(inf)", softplus(INF), INF},
        {"softplus(-inf)", softplus(-INF), 0},
        {"d_selu(0)", d_selu(0), SELU_SCALE * SELU_ALPHA},
        {"hard_sigmoid(0)", hard_sigmoid(0), (T)0.5},
        {"huber(3, 1)", huber(3, 1), (T)2.5},
        {"huber(-1, 2)", huber(-1, 2), (T)0.5},
        {"bce(1000, 1, 1)", bce(1000, 1, 1), 0},
        {"bce(-1000, 1, 1)", bce(-1000, 1, 1), 1000},
        {"selu(nan)", selu(nan), nan},
        {"d_selu(nan)", d_selu(nan), nan},
        {"hard_sigmoid(nan)", hard_sigmoid(nan), nan},
        {"scaled_tanh(nan)", scaled_tanh(nan), nan},
        {"huber(nan, 1)", huber(nan, 1), nan},
        {"bce(nan, 1, 1)", bce(nan, 1, 1), nan},
    };
    for (size_t i = 0; i < sizeof edges / sizeof *edges; i++)
        expect(same(edges[i].got, edges[i].expected), edges[i].what, (double)edges[i].got, (double)edges[i].expected);
    for (T z = TURNS_END; z < INF; z *= (T)1.7) {
        const T y[] = {SIN(z), SIN(-z), COS(z), COS(-z)};
        for (int i = 0; i < 4; i++)
            expect(ABS(y[i]) <= 1, "sine or cosine of a large number", (double)y[i], (double)z);
    }
    for (int f = 0; f < COUNT; f++) { /* every kind of NaN */
        static T x[CHUNK], y[CHUNK];
        for (Bits i = 0; i < CHUNK; i++)
            x[i] = as_number(as_bits(i % 2 ? INF : -INF) | (i * 0x9E3779B9 & (((Bits)1 << MANTISSA_BITS) - 1)) |
                             (i / 2 + 1));
        functions[f].run(x, y);
        for (int i = 0; i < CHUNK; i++)
            expect(isnan(y[i]), functions[f].name, (double)y[i], (double)nan);
    }
}

/* ---- rows ---- */

static int close_to(double got, Wide expected, Wide scale) {
    return IN_WIDE(fabs)((Wide)got - expected) <= IN_WIDE(ldexp)(scale, 3 - DIGITS);
}

/* s: label smoothing. */
static void check_row(int n, const T *o, const T *t, int label, Wide s) {
    T y[64], gradient[64];
    Wide target[64], max = -INFINITY, sum = 0, mass = 0, loss = 0, size = 0;
    for (int j = 0; j < n; j++)
        max = o[j] > max ? o[j] : max;
    for (int j = 0; j < n; j++)
        sum += IN_WIDE(exp)(o[j] - max);
    for (int j = 0; j < n; j++) {
        Wide q = target[j] = (1 - s) * (t ? t[j] : j == label) + s / n;
        mass += q;
        loss += q == 0 ? 0 : q * (max - o[j] + IN_WIDE(log)(sum));
        size += q == 0 ? 0 : q * (max - o[j] + IN_WIDE(log)(sum) + 1);
    }
    memcpy(y, o, (size_t)n * sizeof(T));
    row_softmax(n, y, y);
    const double p[] = {(double)s, 1, 0};
    double got = row_cross_entropy(n, o, t, label, p, 0.5, gradient);
    expect(got == row_cross_entropy(n, o, t, label, p, 0.5, NULL), "cross entropy without gradient", got, (double)loss);
    expect(close_to(got, loss, size), "cross entropy", got, (double)loss);
    for (int j = 0; j < n; j++) {
        Wide q = IN_WIDE(exp)(o[j] - max) / sum, slope = (q * mass - target[j]) / 2;
        expect(close_to(y[j], q, q + MIN_NORMAL), "softmax", (double)y[j], (double)q);
        expect(close_to(gradient[j], slope, mass + 1), "cross entropy's gradient", (double)gradient[j], (double)slope);
    }
}

static void check_rows(void) {
    T o[64], t[64];
    uint32_t state = 1;
    for (int n = 1; n <= 40; n++) {
        for (int j = 0; j < n; j++) {
            state = state * 1664525 + 1013904223; /* from Numerical Recipes */
            o[j] = (T)(state >> 8) / (1 << 20) - 8;
            t[j] = (T)(state >> 20 & 15) / 16;
        }
        for (int s = 0; s < 3; s++) {
            check_row(n, o, NULL, n / 2, (Wide)s / 4);
            check_row(n, o, t, 0, (Wide)s / 4);
        }
        o[n / 3] = -INF; /* a class of probability 0 */
        t[n / 3] = 0;
        if (n > 3) {
            check_row(n, o, NULL, n - 1, 0);
            check_row(n, o, t, 0, 0);
        }
    }
    T far[3] = {(T)FLT_MAX, (T)-FLT_MAX, 0}, y[3];
    double loss = row_cross_entropy(3, far, NULL, 1, SHARP, 1, NULL);
    expect(loss == 2 * (double)(T)FLT_MAX, "cross entropy of the largest logits", loss, 2 * (double)(T)FLT_MAX);
    const T spoilers[] = {NOT_A_NUMBER, INF};
    for (int i = 0; i < 2; i++) {
        far[2] = spoilers[i];
        row_softmax(3, far, y);
        expect(isnan(y[0]) && isnan(y[1]) && isnan(y[2]), "softmax of a NaN or inf", (double)y[0], NAN);
        loss = row_cross_entropy(3, far, NULL, 0, SHARP, 1, NULL);
        expect(isnan(loss), "cross entropy of a NaN or inf", loss, NAN);
    }
    far[0] = far[1] = far[2] = -INF;
    row_softmax(3, far, y);
    expect(isnan(y[0]), "softmax of -inf only", (double)y[0], NAN);
}

/* ---- optimizers: three steps of the textbook formula in the wider type ---- */

static void check_optimizers(void) {
    const double lr = 0.1, mu = 0.9, b1 = 0.8, b2 = 0.95, alpha = 0.9, eps = 1e-4;
    const T g[3] = {(T)0.5, (T)-0.25, (T)0.125};
    enum { SGD, MOMENTUM, NESTEROV, RMSPROP, ADAM };
    for (int kind = SGD; kind <= ADAM; kind++) {
        const double h[5][5] = {{lr}, {lr, mu}, {lr, mu}, {lr, alpha, eps}, {lr, b1, b2, eps}};
        T p = 1, s[2] = {0, 0};
        Wide q = 1, m = 0, v = 0;
        mbp_running run = {.power = {1, 1}};
        for (int i = 0; i < 3; i++) {
            double constants[8] = {0};
            T c[8];
            run.power[0] *= b1;
            run.power[1] *= b2;
            void (*const prepare[])(const double[], const mbp_running *, double[]) = {
                sgd_prepare, momentum_prepare, momentum_prepare, rmsprop_prepare, adam_prepare};
            prepare[kind](h[kind], &run, constants);
            for (int k = 0; k < 8; k++)
                c[k] = (T)constants[k];
            switch (kind) {
            case SGD:
                p = sgd_step(p, g[i], s, c);
                q -= lr * g[i];
                break;
            case MOMENTUM:
                p = sgd_momentum_step(p, g[i], s, c);
                v = mu * v + g[i];
                q -= lr * v;
                break;
            case NESTEROV:
                p = sgd_nesterov_step(p, g[i], s, c);
                v = mu * v + g[i];
                q -= lr * (g[i] + mu * v);
                break;
            case RMSPROP:
                p = rmsprop_step(p, g[i], s, c);
                v = alpha * v + (1 - alpha) * g[i] * g[i];
                q -= lr * g[i] / (IN_WIDE(sqrt)(v) + eps);
                break;
            default:
                p = adam_step(p, g[i], s, c);
                m = b1 * m + (1 - b1) * g[i];
                v = b2 * v + (1 - b2) * g[i] * g[i];
                q -= lr * m / (1 - run.power[0]) / (IN_WIDE(sqrt)(v / (1 - run.power[1])) + eps);
            }
        }
        expect(close_to(p, q, 1), (const char *[]){"sgd", "sgd_momentum", "sgd_nesterov", "rmsprop", "adam"}[kind],
               (double)p, (double)q);
    }
    double c[8];
    adam_prepare((const double[]){lr, b1, b2, 1e-60}, &(mbp_running){.power = {b1, b2}}, c);
    expect((T)c[5] > 0, "adam's eps in T", c[5], 1e-60);
}

int main(int argc, char **argv) {
    const uint64_t stride = argc > 1 ? strtoull(argv[1], NULL, 10) : 4099;
    expect(LARGEST * 2 == INF && EXP(LOG(LARGEST) + 1) == INF, "overflow", (double)EXP(LOG(LARGEST) + 1), INFINITY);
    check_edges();
    check_rows();
    check_optimizers();
    sweep(stride ? stride : 1);
    return failures != 0;
}
