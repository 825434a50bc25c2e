/* Floor 0: the mathematics behind the rows of formulas.def, in the dtype T of the including file (double with MBP_DOUBLE, else float).
 *
 * Letters, here and in formulas.def: z pre-activation, y output, d* gradient by *, o raw output, t target, d = o - t.
 *
 * All is written so that a compiler vectorises the loops around it: no branches but selections, no calls, rounding by a large
 * constant. There is no fused multiply-add and no table, so every vector width gives the same bits. Capitals are the functions of
 * a mathematical library; their errors are those that tests/c/test_math.c allows. NaN in gives NaN out. */
#ifndef MBP_FORMULAS_H
#define MBP_FORMULAS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* A loop with a call left in it is not vectorised. */
#define FORMULA static inline __attribute__((always_inline))

/* P4(x, a, b, c, d) = a + b x + c x^2 + d x^3: Horner's rule in x^2 on pairs, which halves the chain of dependent operations. */
#define P1(x, a) ((T)(a))
#define P2(x, a, b) ((T)(a) + (T)(b) * (x))
#define P3(x, a, b, ...) (P2(x, a, b) + (x) * (x) * P1(x, __VA_ARGS__))
#define P4(x, a, b, ...) (P2(x, a, b) + (x) * (x) * P2(x, __VA_ARGS__))
#define P5(x, a, b, ...) (P2(x, a, b) + (x) * (x) * P3(x, __VA_ARGS__))
#define P6(x, a, b, ...) (P2(x, a, b) + (x) * (x) * P4(x, __VA_ARGS__))
#define P7(x, a, b, ...) (P2(x, a, b) + (x) * (x) * P5(x, __VA_ARGS__))
#define P8(x, a, b, ...) (P2(x, a, b) + (x) * (x) * P6(x, __VA_ARGS__))
#define P9(x, a, b, ...) (P2(x, a, b) + (x) * (x) * P7(x, __VA_ARGS__))
#define P10(x, a, b, ...) (P2(x, a, b) + (x) * (x) * P8(x, __VA_ARGS__))

/* ---- the two dtypes: their layout, their constants, and polynomials as short as their precision allows ----
 *
 * LN2_HI is ln 2 with so few bits that n * LN2_HI is exact for every exponent n; LN2_LO is the rest.
 * The polynomials are minimax fits, made by Remez's exchange in 60-digit arithmetic and then rounded to T:
 *   EXP_SERIES(r) = (e^r - 1 - r) / r^2 on |r| <= 0.3470, the error relative to e^r - 1;
 *   LOG_SERIES(x) = (2 atanh(s) / s - 2) / x with x = s^2 on 0 <= x <= 0.02945, the error relative to the whole;
 *   CENTRE_SERIES(x) = (Phi(z) - 1/2) / z with x = z^2 on |z| <= 1, the error relative to Phi(-|z|);
 *   TAIL_SERIES(x) = (a + TAIL_MIDDLE) e^(a^2/2) Phi(-a) with x = (a - TAIL_MIDDLE) / (a + TAIL_MIDDLE) on 1 <= a <= TAIL_END, the
 *   error relative to itself (the mapping is Shepherd & Laframboise's, 1981). */
#ifdef MBP_DOUBLE
typedef double T;
typedef uint64_t Bits;
enum { MANTISSA_BITS = 52, BIAS = 1023, SPLIT_BITS = 27 };
#define SQRT(x) __builtin_sqrt(x)
static const T MIN_NORMAL = 0x1p-1022, EXP_LOWEST = -746, EXP_HIGHEST = 710, TANH_END = 22, TAIL_END = 38.6, TAIL_MIDDLE = 4;
static const T LN2_HI = 0x1.62e42fefap-1, LN2_LO = 0x1.cf79abc9e3b3ap-40;
#define EXP_SERIES(r)                                                                                                                      \
    P10(r, 0x1.0000000000005p-1, 0x1.5555555555539p-3, 0x1.555555555225bp-5, 0x1.1111111119092p-7, 0x1.6c16c17ef58dep-10,                  \
        0x1.a01a0174da045p-13, 0x1.a019a71c513fep-16, 0x1.71de884cc63e5p-19, 0x1.28a236dc80aaep-22, 0x1.ae6badebc36c3p-26)
#define LOG_SERIES(x)                                                                                                                      \
    P7(x, 0x1.5555555555592p-1, 0x1.999999997fd77p-2, 0x1.24924941f4fb5p-2, 0x1.c71c52060804fp-3, 0x1.74663fa2246efp-3,                    \
       0x1.39a1a6f74baacp-3, 0x1.2f063485e2110p-3)
#define CENTRE_SERIES(x)                                                                                                                   \
    P10(x, 0x1.9884533d4364ep-2, -0x1.1058377e2cc53p-4, 0x1.46d042974fd5dp-7, -0x1.37403f644d75fp-10, 0x1.e42b0af40fa75p-14,               \
        -0x1.3ce8bf41c676fp-17, 0x1.6582bcf0a08d0p-21, -0x1.618c77d800450p-25, 0x1.31177b171d46ep-29, -0x1.86505aa8da715p-34)
#define TAIL_SERIES(x)                                                                                                                     \
    (P10(x, 0x1.82b4bb8c94dcep-1, -0x1.373e3a893c28bp-1, 0x1.8c6dbf2cfc275p-2, -0x1.7dff2bff68098p-3, 0x1.eec4cc3e55879p-5,                \
         -0x1.ee276105a4069p-8, -0x1.c81719e2c9db6p-9, 0x1.ab826027b6849p-10, 0x1.17a4b8c521cf2p-13, -0x1.e4a44cda67b91p-13) +             \
     SQUARE(SQUARE(x) * SQUARE(x) * (x)) *                                                                                                 \
         P10(x, -0x1.002fdb75ea9b0p-19, 0x1.26d511c917193p-15, 0x1.819d05bd3a597p-21, -0x1.8de8908d73fdcp-18, -0x1.52cbe2f2b8e84p-21,      \
             0x1.18ac7ebc7dc3fp-20, 0x1.1c7315487202bp-22, -0x1.97c11a5dfe6f8p-23, -0x1.136a127be5745p-24, 0x1.31767c940f533p-25))
#else
typedef float T;
typedef uint32_t Bits;
enum { MANTISSA_BITS = 23, BIAS = 127, SPLIT_BITS = 12 };
#define SQRT(x) __builtin_sqrtf(x)
static const T MIN_NORMAL = 0x1p-126f, EXP_LOWEST = -104, EXP_HIGHEST = 89, TANH_END = 10, TAIL_END = 14.4f, TAIL_MIDDLE = 3;
static const T LN2_HI = 0x1.62ep-1f, LN2_LO = 0x1.0bfbe8p-15f;
#define EXP_SERIES(r) P5(r, 0x1.fffffep-2, 0x1.5554b0p-3, 0x1.555674p-5, 0x1.1227f6p-7, 0x1.6bebf2p-10)
#define LOG_SERIES(x) P3(x, 0x1.55557ap-1, 0x1.995eb6p-2, 0x1.31e34cp-2)
#define CENTRE_SERIES(x) P6(x, 0x1.988454p-2, -0x1.105826p-4, 0x1.46cc3ep-7, -0x1.36d8aep-10, 0x1.d9c17ap-14, -0x1.f4d38ep-18)
#define TAIL_SERIES(x)                                                                                                                     \
    P8(x, 0x1.754a76p-1, -0x1.04c726p-1, 0x1.d71306p-3, -0x1.83323ap-5, -0x1.563d28p-7, 0x1.c9a858p-8, 0x1.dcbe6cp-11, -0x1.0bf74cp-10)
#endif

/* ---- the bits of a number ---- */

static const T INF = (T)__builtin_inf(), NOT_A_NUMBER = (T)__builtin_nan("");
static const T LOG2E = (T)0x1.71547652b82fep+0, SQRT_HALF = (T)0x1.6a09e667f3bcdp-1;
static const T TWO_TO_MANTISSA = (T)((Bits)1 << MANTISSA_BITS);

FORMULA Bits as_bits(T x) {
    Bits bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

FORMULA T as_number(Bits bits) {
    T x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

FORMULA T SQUARE(T x) { return x * x; }
FORMULA T ABS(T x) { return as_number(as_bits(x) & ~(Bits)0 >> 1); }

/* The larger and the smaller; a NaN in x stays. */
FORMULA T MAX(T x, T y) { return x < y ? y : x; }
FORMULA T MIN(T x, T y) { return x > y ? y : x; }

/* y with the sign of x, for y >= 0. */
FORMULA T with_sign(T y, T x) { return as_number(as_bits(y) | (as_bits(x) & ~(~(Bits)0 >> 1))); }

/* condition ? x : y by bits: of selections that depend on one another compilers make a maze. */
FORMULA T PICK(int condition, T x, T y) {
    const Bits mask = condition ? ~(Bits)0 : 0;
    return as_number((as_bits(x) & mask) | (as_bits(y) & ~mask));
}

/* -1, 0 or 1. */
FORMULA T SIGN(T x) { return PICK(x == 0, x, with_sign(1, x)); }

/* The nearest integer, for |x| < 2^(MANTISSA_BITS - 2): no digit after the point survives the addition. */
FORMULA T nearest(T x) { return x + (T)1.5 * TWO_TO_MANTISSA - (T)1.5 * TWO_TO_MANTISSA; }

/* 2^n for an integer -BIAS < n <= BIAS: after the addition the lowest bits are n + BIAS. */
FORMULA T pow2(T n) { return as_number(as_bits(n + ((T)1.5 * TWO_TO_MANTISSA + BIAS)) << MANTISSA_BITS); }

/* ---- exponentials: x = n ln 2 + r, and 2^n in two factors, since one would overflow before e^x does ---- */

/* e^(x - tail) for EXP_LOWEST <= x <= EXP_HIGHEST, tail being small: what x lacks in precision. */
FORMULA T exp_in_range(T x, T tail) {
    T n = nearest((x - tail) * LOG2E), half = nearest(n * (T)0.5);
    T r = x - n * LN2_HI - n * LN2_LO - tail;
    return (1 + (r + r * r * EXP_SERIES(r))) * pow2(half) * pow2(n - half);
}

/* e^x - 1 = 2^n (e^r - 1) + 2^n - 1. */
FORMULA T expm1_in_range(T x) {
    T n = nearest(x * LOG2E), half = nearest(n * (T)0.5);
    T r = x - n * LN2_HI - n * LN2_LO;
    return ((r + r * r * EXP_SERIES(r)) * pow2(half) + (pow2(half) - pow2(half - n))) * pow2(n - half);
}

FORMULA T EXP(T x) { return exp_in_range(MIN(MAX(x, EXP_LOWEST), EXP_HIGHEST), 0); }

FORMULA T EXPM1(T x) {
    T y = expm1_in_range(MIN(MAX(x, EXP_LOWEST), EXP_HIGHEST));
    return x == 0 ? x : y; /* keeps -0 */
}

FORMULA T SIGMOID(T x) { return 1 / (1 + EXP(-x)); }

FORMULA T TANH(T x) {
    T e = expm1_in_range(2 * MIN(ABS(x), TANH_END));
    return with_sign(e / (e + 2), x);
}

/* ---- logarithms: x = 2^k (1 + f) with 1 + f between sqrt(1/2) and sqrt(2) ---- */

/* Returns f, for a normal x > 0. */
FORMULA T log_reduce(T x, T *k) {
    Bits u = as_bits(x) + (as_bits(1) - as_bits(SQRT_HALF));
    *k = as_number(u >> MANTISSA_BITS | as_bits(TWO_TO_MANTISSA)) - (TWO_TO_MANTISSA + BIAS);
    return as_number((u & (((Bits)1 << MANTISSA_BITS) - 1)) + as_bits(SQRT_HALF)) - 1;
}

/* k ln 2 + log(1 + f) + tail, with log(1 + f) = 2 atanh(s) as in the classic fdlibm: f - f^2/2 is exact enough to come last. */
FORMULA T log_sum(T k, T f, T tail) {
    T s = f / (2 + f), x = s * s, half_square = f * f * (T)0.5;
    return k * LN2_HI - (half_square - (s * (half_square + x * LOG_SERIES(x)) + (k * LN2_LO + tail)) - f);
}

FORMULA T LOG(T x) {
    T k, f = log_reduce(x < MIN_NORMAL ? x * TWO_TO_MANTISSA : x, &k);
    T y = log_sum(x < MIN_NORMAL ? k - MANTISSA_BITS : k, f, 0);
    y = x < INF ? y : x;
    return x > 0 ? y : x == 0 ? -INF : NOT_A_NUMBER;
}

/* log(1 + x), the rounding error of 1 + x (Knuth's two-sum) put back in. */
FORMULA T LOG1P(T x) {
    T u = 1 + x, v = u - 1, error = (1 - (u - v)) + (x - v);
    T k, f = log_reduce(u, &k);
    T y = log_sum(k, k == 0 ? x : f, k == 0 ? 0 : error / u);
    y = x < INF ? y : x;
    y = x == 0 ? x : y;
    return x > -1 ? y : x == -1 ? -INF : NOT_A_NUMBER;
}

/* ---- the normal distribution ---- */

/* e^(-a^2/2) for 0 <= a <= TAIL_END: a^2 in two parts, since an error in an exponent of size E is E times as large in the result. */
FORMULA T gaussian(T a) {
    T high = as_number(as_bits(a) >> SPLIT_BITS << SPLIT_BITS);
    return exp_in_range(high * high * (T)-0.5, (a - high) * (a + high) * (T)0.5);
}

FORMULA T NORMAL_CDF(T z) {
    T a = MIN(ABS(z), TAIL_END), x = (a - TAIL_MIDDLE) / (a + TAIL_MIDDLE);
    T tail = gaussian(a) * TAIL_SERIES(x) / (a + TAIL_MIDDLE);
    T centre = (T)0.5 + z * CENTRE_SERIES(z * z);
    return a < 1 ? centre : z > 0 ? 1 - tail : tail;
}

/* ---- activations and losses whose row in formulas.def would be long ---- */

static const T SELU_SCALE = (T)1.0507009873554805, SELU_ALPHA = (T)1.6732632423543772; /* Klambauer et al. 2017, section 2 */
static const T TANH_SCALE = (T)1.7159, TANH_STRETCH = (T)(2.0 / 3);                     /* LeCun et al. 1998, section 4.4 */
static const T NORMAL_DENSITY_AT_0 = (T)0x1.9884533d43651p-2;                           /* 1 / sqrt(2 pi) */

FORMULA T selu(T z) { return SELU_SCALE * (z <= 0 ? SELU_ALPHA * EXPM1(z) : z); }
FORMULA T d_selu(T y) { return y > 0 ? SELU_SCALE : y + SELU_SCALE * SELU_ALPHA; }

FORMULA T d_gelu(T z) {
    T density = NORMAL_DENSITY_AT_0 * gaussian(MIN(ABS(z), TAIL_END));
    return NORMAL_CDF(z) + MIN(MAX(z, -TAIL_END), TAIL_END) * density; /* not z x density: at infinity that is NaN */
}

FORMULA T d_silu(T z) {
    T e = EXP(-ABS(z)), larger = 1 / (1 + e), smaller = e * larger; /* the sigmoids of |z| and -|z|, without 1 - p */
    return z < 0 ? smaller * (1 + z * larger) : larger * (1 + z * smaller);
}

FORMULA T softplus(T z) { return MAX(z, 0) + LOG1P(EXP(-ABS(z))); }
FORMULA T hard_sigmoid(T z) { return z <= -3 ? 0 : z >= 3 ? 1 : (z + 3) / 6; }
FORMULA T scaled_tanh(T z) { return TANH_SCALE * TANH(TANH_STRETCH * z); }
FORMULA T d_scaled_tanh(T y) { return TANH_STRETCH / TANH_SCALE * (TANH_SCALE - y) * (TANH_SCALE + y); }

FORMULA T huber(T d, T delta) { return ABS(d) <= delta ? d * d / 2 : delta * (ABS(d) - delta / 2); }
FORMULA T bce(T o, T t) { return (o > 0 ? o * (1 - t) : -o * t) + LOG1P(EXP(-ABS(o))); }

/* A target towards the middle of two classes, by the share s. */
FORMULA T smoothed(T t, T s) { return (1 - s) * t + s / 2; }

/* ---- functions of a row ----
 *
 * A row is read in blocks of 16, the last one filled up with -inf, whose exponential is 0. Sums are 16 partial sums, element j in
 * the j % 16th, added by one tree: the same order for every vector width. */
enum { ROW_BLOCK = 16 };

/* The block at o, with n elements left in its row. */
static inline const T *row_block(int64_t n, const T *o, T filled[ROW_BLOCK]) {
    if (n >= ROW_BLOCK)
        return o;
    for (int k = 0; k < ROW_BLOCK; k++)
        filled[k] = k < n ? o[k] : -INF;
    return filled;
}

static inline void row_store(int64_t n, const T block[ROW_BLOCK], T *y) {
    if (n >= ROW_BLOCK)
        memcpy(y, block, ROW_BLOCK * sizeof(T));
    else
        for (int k = 0; k < n; k++)
            y[k] = block[k];
}

/* The largest element, NaN aside. */
static inline T row_max(int64_t n, const T *o) {
    T filled[ROW_BLOCK], m[ROW_BLOCK];
    memcpy(m, row_block(n, o, filled), sizeof m);
    for (int64_t j = ROW_BLOCK; j < n; j += ROW_BLOCK) {
        const T *block = row_block(n - j, o + j, filled);
        for (int k = 0; k < ROW_BLOCK; k++)
            m[k] = MAX(block[k], m[k]);
    }
    for (int k = 0; k < 8; k++)
        m[k] = MAX(m[k], m[k + 8]);
    for (int k = 0; k < 4; k++)
        m[k] = MAX(m[k], m[k + 4]);
    return MAX(MAX(m[0], m[2]), MAX(m[1], m[3]));
}

/* 16 partial sums by one tree. */
static inline T row_sum(T s[ROW_BLOCK]) {
    for (int k = 0; k < 8; k++)
        s[k] += s[k + 8];
    for (int k = 0; k < 4; k++)
        s[k] += s[k + 4];
    return (s[0] + s[2]) + (s[1] + s[3]);
}

/* The sum of e^(o - max) less 1, which is exact where all but the largest vanish; and, unless y is NULL, each of them. y may be o. The
 * exponentials that are 1 are counted, the others added. */
static inline T row_exponentials(int64_t n, const T *o, T max, T *y) {
    T filled[ROW_BLOCK], e[ROW_BLOCK], ones[ROW_BLOCK] = {0}, others[ROW_BLOCK] = {0};
    for (int64_t j = 0; j < n; j += ROW_BLOCK) {
        const T *block = row_block(n - j, o + j, filled);
        for (int k = 0; k < ROW_BLOCK; k++)
            e[k] = EXP(block[k] - max);
        for (int k = 0; k < ROW_BLOCK; k++) {
            ones[k] += e[k] == 1 ? 1 : 0;
            others[k] += e[k] == 1 ? 0 : e[k];
        }
        if (y)
            row_store(n - j, e, y + j);
    }
    return row_sum(ones) - 1 + row_sum(others);
}

/* y = softmax(o); y may be o. -inf has probability 0; all -inf, a NaN or +inf make the row NaN. */
static inline void row_softmax(int64_t n, const T *o, T *y) {
    T sum = 1 + row_exponentials(n, o, row_max(n, o), y);
    for (int64_t j = 0; j < n; j++)
        y[j] /= sum;
}

/* Sum of t_j (log(sum of e^o) - o_j) and, in *mass, of t_j; t NULL: 1 / n each. In double, where max - o cannot overflow for float. */
static inline double row_expectation(int64_t n, const T *o, const T *t, double max, double log_sum, double *mass) {
    double loss[ROW_BLOCK] = {0}, total[ROW_BLOCK] = {0};
    for (int64_t j = 0; j < n; j += ROW_BLOCK)
        for (int64_t k = 0; k < ROW_BLOCK && k < n - j; k++) {
            double p = t ? (double)t[j + k] : 1 / (double)n;
            loss[k] += p == 0 ? 0 : p * (max - (double)o[j + k] + log_sum);
            total[k] += p;
        }
    for (int half = ROW_BLOCK / 2; half; half /= 2)
        for (int k = 0; k < half; k++) {
            loss[k] += loss[k + half];
            total[k] += total[k + half];
        }
    *mass = total[0];
    return loss[0];
}

/* A row's loss from that against its targets: these count 1 - s, and every class s / n besides (Szegedy et al. 2016, section 7). */
static inline double row_smoothed_loss(int64_t n, const T *o, T max, double log_sum, double s, double loss) {
    double mass;
    return s > 0 ? (1 - s) * loss + s * row_expectation(n, o, NULL, (double)max, log_sum, &mass) : loss;
}

/* The loss of one row against the probabilities t, or the class `label` if t is NULL, with label smoothing by the share s; gradient, unless
 * NULL: scale times the derivative, softmax(o) * sum(t) - t for the smoothed t. */
static inline double row_cross_entropy(int64_t n, const T *o, const T *t, int64_t label, double s, double scale, T *gradient) {
    T max = row_max(n, o), excess = row_exponentials(n, o, max, gradient);
    double log_sum = (double)LOG1P(excess), mass = 1;
    double loss = t ? row_expectation(n, o, t, (double)max, log_sum, &mass) : (double)max - (double)o[label] + log_sum;
    if (gradient) {
        T factor = (T)(scale * ((1 - s) * mass + s) / (double)(1 + excess)), share = (T)(scale * (1 - s)), each = (T)(scale * s / (double)n);
        for (int64_t j = 0; j < n; j++)
            gradient[j] *= factor;
        if (t)
            for (int64_t j = 0; j < n; j++)
                gradient[j] -= share * t[j];
        else
            gradient[label] -= share;
        for (int64_t j = 0; s > 0 && j < n; j++)
            gradient[j] -= each;
    }
    return row_smoothed_loss(n, o, max, log_sum, s, loss);
}

/* row_cross_entropy against labels for `count` <= 16 rows, `ld` elements apart, of n <= 16 classes: the same operations in the same order,
 * with a row in each lane, so that narrow rows fill the vectors too (64 rows of 10 classes 6.4 -> 1.9 microseconds). */
static inline void narrow_cross_entropy(int64_t n, int count, const T *o, int64_t ld, const int64_t label[], double s, const double scale[],
                                        T *gradient, int64_t gradient_ld, double loss[]) {
    T e[ROW_BLOCK][ROW_BLOCK], m[ROW_BLOCK][ROW_BLOCK], ones[ROW_BLOCK][ROW_BLOCK], factor[ROW_BLOCK], excess[ROW_BLOCK], log_sum[ROW_BLOCK];
    for (int k = 0; k < ROW_BLOCK; k++)
        for (int l = 0; l < ROW_BLOCK; l++)
            m[k][l] = e[k][l] = l >= count ? 0 : k < n ? o[l * ld + k] : -INF;
    for (int half = ROW_BLOCK / 2; half; half /= 2)
        for (int k = 0; k < half; k++)
            for (int l = 0; l < ROW_BLOCK; l++)
                m[k][l] = MAX(m[k][l], m[k + half][l]);
    for (int k = 0; k < ROW_BLOCK; k++)
        for (int l = 0; l < ROW_BLOCK; l++) {
            e[k][l] = k < n ? EXP(e[k][l] - m[0][l]) : 0;
            ones[k][l] = e[k][l] == 1 ? 1 : 0;
        }
    T others[ROW_BLOCK][ROW_BLOCK];
    for (int k = 0; k < ROW_BLOCK; k++)
        for (int l = 0; l < ROW_BLOCK; l++)
            others[k][l] = e[k][l] == 1 ? 0 : e[k][l];
    for (int half = ROW_BLOCK / 2; half; half /= 2)
        for (int k = 0; k < half; k++)
            for (int l = 0; l < ROW_BLOCK; l++) {
                ones[k][l] += ones[k + half][l];
                others[k][l] += others[k + half][l];
            }
    for (int l = 0; l < ROW_BLOCK; l++) {
        excess[l] = ones[0][l] - 1 + others[0][l];
        log_sum[l] = LOG1P(excess[l]);
    }
    for (int l = 0; l < count; l++) {
        const double sharp = (double)m[0][l] - (double)o[l * ld + label[l]] + (double)log_sum[l];
        loss[l] = row_smoothed_loss(n, o + l * ld, m[0][l], (double)log_sum[l], s, sharp);
        factor[l] = (T)(scale[l] * ((1 - s) + s) / (double)(1 + excess[l]));
    }
    for (int l = 0; gradient && l < count; l++) {
        T *const row = gradient + l * gradient_ld;
        for (int64_t k = 0; k < n; k++)
            row[k] = e[k][l] * factor[l];
        row[label[l]] -= (T)(scale[l] * (1 - s));
        for (int64_t k = 0; s > 0 && k < n; k++)
            row[k] -= (T)(scale[l] * s / (double)n);
    }
}

#undef EXP_SERIES
#undef LOG_SERIES
#undef CENTRE_SERIES
#undef TAIL_SERIES

#endif
