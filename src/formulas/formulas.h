/* Floor 1: mathematics of one number, for the rows of formulas.def. The dtype T is double if the including file defines
 * MBP_DOUBLE, else float.
 *
 * Letters, here and in formulas.def: z pre-activation, y output of an activation, dz and dy their gradients; o raw
 * output of the network, t target, d = o - t. d_f is the derivative of f.
 *
 * A compiler can vectorize a loop that uses these functions: they use ?: instead of branches, call only inlined
 * functions, and round by adding and subtracting a large constant. They use neither fused multiply-adds nor tables, so
 * every vector width gives the same bits. Functions in capitals replace those of a mathematical library;
 * tests/c/formulas/test_math.c has the error that each may have. NaN in gives NaN out. */
#ifndef MBP_FORMULAS_H
#define MBP_FORMULAS_H

#include "config/config.h"

#include <float.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if FLT_EVAL_METHOD != 0
#error "floats are computed with more digits, which changes the results: compile with -msse2 -mfpmath=sse"
#endif
#if defined(__FAST_MATH__) || __FINITE_MATH_ONLY__
#error "-ffast-math, -Ofast and -ffinite-math-only change the results: add -fno-fast-math for this file"
#endif

/* Compilers do not vectorize a loop that contains a call. SHARED: in small code, such a function is compiled once. */
#define FORMULA static inline __attribute__((always_inline))
#if MICROBP_SMALL
#define SHARED static __attribute__((noinline, unused))
#else
#define SHARED FORMULA
#endif

/* P4(x, a, b, c, d) = a + b x + c x^2 + d x^3, by Horner's rule in x^2 on pairs of coefficients: this halves the
 * chain of dependent operations. */
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

/* ---- the two dtypes: layout, constants, and polynomials of the degree that the precision needs ----
 *
 * LN2_HI is ln 2 rounded to few bits, so that n * LN2_HI is exact for every exponent n. LN2_LO is the rest of ln 2.
 *
 * The polynomials are minimax fits, computed by Remez's algorithm in 60-digit arithmetic and then rounded to T:
 *   EXP_SERIES(r) = (e^r - 1 - r) / r^2 on |r| <= 0.3470; the error is relative to e^r - 1;
 *   LOG_SERIES(x) = (2 atanh(s) / s - 2) / x with x = s^2 on 0 <= x <= 0.02945; the error is relative to 2 atanh(s);
 *   CENTRE_SERIES(x) = (Phi(z) - 1/2) / z with x = z^2 on |z| <= 1; the error is relative to Phi(-|z|);
 *   TAIL_SERIES(x) = (a + TAIL_MIDDLE) e^(a^2/2) Phi(-a) with x = (a - TAIL_MIDDLE) / (a + TAIL_MIDDLE)
 *     on 1 <= a <= TAIL_END; the error is relative to TAIL_SERIES itself. The mapping from a to x is that of
 *     Shepherd & Laframboise 1981;
 *   SINE_SERIES(x) = (sin(r)/r - 1) / x and COSINE_SERIES(x) = (cos(r) - 1 + x/2) / x^2 with x = r^2 on |r| <= pi/4;
 *     the errors are relative to sin(r) and cos(r). */
#ifdef MBP_DOUBLE
typedef double T;
typedef uint64_t Bits;
enum { MANTISSA_BITS = 52, BIAS = 1023, SPLIT_BITS = 27 };
#define SQRT(x) __builtin_sqrt(x)
static const T MIN_NORMAL = 0x1p-1022, EXP_LOWEST = -746, EXP_HIGHEST = 710;
static const T TANH_END = 22, TAIL_END = 38.6, TAIL_MIDDLE = 4;
static const T LN2_HI = 0x1.62e42fefap-1, LN2_LO = 0x1.cf79abc9e3b3ap-40;
#define EXP_SERIES(r) \
    P10(r, 0x1.0000000000005p-1, 0x1.5555555555539p-3, 0x1.555555555225bp-5, 0x1.1111111119092p-7, \
        0x1.6c16c17ef58dep-10, 0x1.a01a0174da045p-13, 0x1.a019a71c513fep-16, 0x1.71de884cc63e5p-19, \
        0x1.28a236dc80aaep-22, 0x1.ae6badebc36c3p-26)
#define LOG_SERIES(x) \
    P7(x, 0x1.5555555555592p-1, 0x1.999999997fd77p-2, 0x1.24924941f4fb5p-2, 0x1.c71c52060804fp-3, \
       0x1.74663fa2246efp-3, 0x1.39a1a6f74baacp-3, 0x1.2f063485e2110p-3)
#define CENTRE_SERIES(x) \
    P10(x, 0x1.9884533d4364ep-2, -0x1.1058377e2cc53p-4, 0x1.46d042974fd5dp-7, -0x1.37403f644d75fp-10, \
        0x1.e42b0af40fa75p-14, -0x1.3ce8bf41c676fp-17, 0x1.6582bcf0a08d0p-21, -0x1.618c77d800450p-25, \
        0x1.31177b171d46ep-29, -0x1.86505aa8da715p-34)
#define TAIL_SERIES(x) (TAIL_LOW(x) + SQUARE(SQUARE(x) * SQUARE(x) * (x)) * TAIL_HIGH(x))
#define TAIL_LOW(x) \
    P10(x, 0x1.82b4bb8c94dcep-1, -0x1.373e3a893c28bp-1, 0x1.8c6dbf2cfc275p-2, -0x1.7dff2bff68098p-3, \
        0x1.eec4cc3e55879p-5, -0x1.ee276105a4069p-8, -0x1.c81719e2c9db6p-9, 0x1.ab826027b6849p-10, \
        0x1.17a4b8c521cf2p-13, -0x1.e4a44cda67b91p-13)
#define TAIL_HIGH(x) \
    P10(x, -0x1.002fdb75ea9b0p-19, 0x1.26d511c917193p-15, 0x1.819d05bd3a597p-21, -0x1.8de8908d73fdcp-18, \
        -0x1.52cbe2f2b8e84p-21, 0x1.18ac7ebc7dc3fp-20, 0x1.1c7315487202bp-22, -0x1.97c11a5dfe6f8p-23, \
        -0x1.136a127be5745p-24, 0x1.31767c940f533p-25)
#define SINE_SERIES(x) \
    P6(x, -0x1.5555555555549p-3, 0x1.111111110f881p-7, -0x1.a01a019c126bcp-13, 0x1.71de357874fecp-19, \
       -0x1.ae5e66d55ea56p-26, 0x1.5d932f6c1e4ebp-33)
#define COSINE_SERIES(x) \
    P6(x, 0x1.555555555554cp-5, -0x1.6c16c16c15184p-10, 0x1.a01a019cb26f8p-16, -0x1.27e4f80a76c28p-22, \
       0x1.1ee9ec47fde24p-29, -0x1.8faecf582c7f3p-37)
#else
typedef float T;
typedef uint32_t Bits;
enum { MANTISSA_BITS = 23, BIAS = 127, SPLIT_BITS = 12 };
#define SQRT(x) __builtin_sqrtf(x)
static const T MIN_NORMAL = 0x1p-126f, EXP_LOWEST = -104, EXP_HIGHEST = 89;
static const T TANH_END = 10, TAIL_END = 14.4f, TAIL_MIDDLE = 3;
static const T LN2_HI = 0x1.62ep-1f, LN2_LO = 0x1.0bfbe8p-15f;
#define EXP_SERIES(r) P5(r, 0x1.fffffep-2, 0x1.5554b0p-3, 0x1.555674p-5, 0x1.1227f6p-7, 0x1.6bebf2p-10)
#define LOG_SERIES(x) P3(x, 0x1.55557ap-1, 0x1.995eb6p-2, 0x1.31e34cp-2)
#define CENTRE_SERIES(x) \
    P6(x, 0x1.988454p-2, -0x1.105826p-4, 0x1.46cc3ep-7, -0x1.36d8aep-10, 0x1.d9c17ap-14, -0x1.f4d38ep-18)
#define TAIL_SERIES(x) \
    P8(x, 0x1.754a76p-1, -0x1.04c726p-1, 0x1.d71306p-3, -0x1.83323ap-5, -0x1.563d28p-7, 0x1.c9a858p-8, 0x1.dcbe6cp-11, \
       -0x1.0bf74cp-10)
#define SINE_SERIES(x) P3(x, -0x1.555546p-3, 0x1.11073ap-7, -0x1.9943dep-13)
#define COSINE_SERIES(x) P3(x, 0x1.55554ap-5, -0x1.6c0c34p-10, 0x1.99eb9ap-16)
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

/* The larger and the smaller of two numbers; NaN if x is NaN. A NaN in y is ignored. */
FORMULA T MAX(T x, T y) { return x < y ? y : x; }
FORMULA T MIN(T x, T y) { return x > y ? y : x; }

/* y with the sign of x, for y >= 0. */
FORMULA T with_sign(T y, T x) { return as_number(as_bits(y) | (as_bits(x) & ~(~(Bits)0 >> 1))); }

/* condition ? x : y, by bit masks: compilers turn selections that depend on each other into many branches. */
FORMULA T PICK(int condition, T x, T y) {
    const Bits mask = condition ? ~(Bits)0 : 0;
    return as_number((as_bits(x) & mask) | (as_bits(y) & ~mask));
}

/* -1, 0 or 1. */
FORMULA T SIGN(T x) { return PICK(x == 0, x, with_sign(1, x)); }

/* x rounded to the nearest integer, for |x| < 2^(MANTISSA_BITS - 2): the sum has no bits left for a fraction. */
FORMULA T nearest(T x) { return x + (T)1.5 * TWO_TO_MANTISSA - (T)1.5 * TWO_TO_MANTISSA; }

/* 2^n for an integer -BIAS < n <= BIAS: the lowest bits of the sum are n + BIAS, the exponent of the result. */
FORMULA T pow2(T n) { return as_number(as_bits(n + ((T)1.5 * TWO_TO_MANTISSA + (T)BIAS)) << MANTISSA_BITS); }

/* ---- exponentials: x = n ln 2 + r. 2^n is applied as two factors, since one would overflow before e^x does ---- */

/* e^(x - tail) for EXP_LOWEST <= x <= EXP_HIGHEST. tail is small: the part of the argument that x cannot hold. */
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

SHARED T EXP(T x) { return exp_in_range(MIN(MAX(x, EXP_LOWEST), EXP_HIGHEST), 0); }

SHARED T EXPM1(T x) {
    T y = expm1_in_range(MIN(MAX(x, EXP_LOWEST), EXP_HIGHEST));
    return x == 0 ? x : y; /* keeps -0 */
}

SHARED T SIGMOID(T x) { return 1 / (1 + EXP(-x)); }

SHARED T TANH(T x) {
    T e = expm1_in_range(2 * MIN(ABS(x), TANH_END));
    return with_sign(e / (e + 2), x);
}

/* ---- logarithms: x = 2^k (1 + f) with 1 + f between sqrt(1/2) and sqrt(2) ---- */

/* Returns f and stores k, for a normal x > 0. */
FORMULA T log_reduce(T x, T *k) {
    Bits u = as_bits(x) + (as_bits(1) - as_bits(SQRT_HALF));
    *k = as_number(u >> MANTISSA_BITS | as_bits(TWO_TO_MANTISSA)) - (TWO_TO_MANTISSA + (T)BIAS);
    return as_number((u & (((Bits)1 << MANTISSA_BITS) - 1)) + as_bits(SQRT_HALF)) - 1;
}

/* k ln 2 + log(1 + f) + tail, with log(1 + f) = 2 atanh(s) as in fdlibm: f - f^2/2 is exact enough to be added last. */
FORMULA T log_sum(T k, T f, T tail) {
    T s = f / (2 + f), x = s * s, half_square = f * f * (T)0.5;
    return k * LN2_HI - (half_square - (s * (half_square + x * LOG_SERIES(x)) + (k * LN2_LO + tail)) - f);
}

SHARED T LOG(T x) {
    T k, f = log_reduce(x < MIN_NORMAL ? x * TWO_TO_MANTISSA : x, &k);
    T y = log_sum(x < MIN_NORMAL ? k - (T)MANTISSA_BITS : k, f, 0);
    y = x < INF ? y : x;
    return x > 0 ? y : x == 0 ? -INF : NOT_A_NUMBER;
}

/* log(1 + x), corrected for the rounding error of 1 + x (Knuth's two-sum). */
SHARED T LOG1P(T x) {
    T u = 1 + x, v = u - 1, error = (1 - (u - v)) + (x - v);
    T k, f = log_reduce(u, &k);
    T y = log_sum(k, k == 0 ? x : f, k == 0 ? 0 : error / u);
    y = x < INF ? y : x;
    y = x == 0 ? x : y;
    return x > -1 ? y : x == -1 ? -INF : NOT_A_NUMBER;
}

/* ---- sine and cosine: z = quarter pi/2 + r ---- */

/* Returns r, at most pi/4, and stores the lowest bits of the integer `quarter`. Computed in double also for float:
 * pi/2 is cut into parts of 29 bits, whose products with `quarter` are exact while |z| < TURNS_END. For a larger |z|, r
 * loses its digits, but stays in its range. */
enum { TURNS_END = 1 << 24 };
static const T EIGHTH_TURN = (T)0x1.921fb54442d18p-1;
FORMULA T turn_rest(T z, Bits *quarter) {
    const double shift = 0x1.8p52, shifted = (double)z * 0x1.45f306dc9c883p-1 + shift, n = shifted - shift;
    double r = (double)z - n * 0x1.921fb54p+0;
    if (sizeof(T) == sizeof(double))
        r = r - n * 0x1.10b4611p-30 - n * 0x1.4c4c662p-59 - n * 0x1.1701b839a252p-88;
    else
        r = r - n * 0x1.10b4611a62633p-30;
    uint64_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    *quarter = (Bits)bits;
    return MIN(MAX((T)r, -EIGHTH_TURN), EIGHTH_TURN);
}

FORMULA T sine_near_0(T r) { return r + r * (r * r * SINE_SERIES(r * r)); }
FORMULA T cosine_near_0(T r) { return 1 - r * r * (T)0.5 + r * r * (r * r) * COSINE_SERIES(r * r); }

/* The sine of r after `quarter` quarter turns. */
FORMULA T sine_after(Bits quarter, T r) {
    const Bits minus = (quarter & 2) << (8 * sizeof(T) - 2);
    return as_number(as_bits(PICK(quarter & 1, cosine_near_0(r), sine_near_0(r))) ^ minus);
}

SHARED T SIN(T z) {
    Bits quarter;
    T r = turn_rest(z, &quarter);
    T y = sine_after(quarter, r);
    return z == 0 ? z : y; /* keeps -0 */
}

SHARED T COS(T z) {
    Bits quarter;
    T r = turn_rest(z, &quarter);
    return sine_after(quarter + 1, r);
}

/* ---- the normal distribution ---- */

/* e^(-a^2/2) for 0 <= a <= TAIL_END. a^2 is computed in two parts: a relative error in an exponent of size E becomes E
 * times larger in the result. */
SHARED T gaussian(T a) {
    T high = as_number(as_bits(a) >> SPLIT_BITS << SPLIT_BITS);
    return exp_in_range(high * high * (T)-0.5, (a - high) * (a + high) * (T)0.5);
}

SHARED T NORMAL_CDF(T z) {
    T a = MIN(ABS(z), TAIL_END), x = (a - TAIL_MIDDLE) / (a + TAIL_MIDDLE);
    T tail = gaussian(a) * TAIL_SERIES(x) / (a + TAIL_MIDDLE);
    T centre = (T)0.5 + z * CENTRE_SERIES(z * z);
    return a < 1 ? centre : z > 0 ? 1 - tail : tail;
}

/* ---- parts of activations and losses that are too long for a row of formulas.def ---- */

/* Klambauer et al. 2017, section 2 */
static const T SELU_SCALE = (T)1.0507009873554805, SELU_ALPHA = (T)1.6732632423543772;
/* LeCun et al. 1998, section 4.4 */
static const T TANH_SCALE = (T)1.7159, TANH_STRETCH = (T)(2.0 / 3);
/* 1 / sqrt(2 pi) */
static const T NORMAL_DENSITY_AT_0 = (T)0x1.9884533d43651p-2;

FORMULA T selu(T z) { return SELU_SCALE * (z <= 0 ? SELU_ALPHA * EXPM1(z) : z); }
FORMULA T d_selu(T y) { return y > 0 ? SELU_SCALE : y + SELU_SCALE * SELU_ALPHA; }

/* z is cut off because infinity * density would be NaN. */
SHARED T d_gelu(T z) {
    T density = NORMAL_DENSITY_AT_0 * gaussian(MIN(ABS(z), TAIL_END));
    return NORMAL_CDF(z) + MIN(MAX(z, -TAIL_END), TAIL_END) * density;
}

/* larger and smaller are the sigmoids of |z| and -|z|; neither is computed as 1 - p, which would lose digits. */
FORMULA T d_silu(T z) {
    T e = EXP(-ABS(z)), larger = 1 / (1 + e), smaller = e * larger;
    return z < 0 ? smaller * (1 + z * larger) : larger * (1 + z * smaller);
}

SHARED T softplus(T z) { return MAX(z, 0) + LOG1P(EXP(-ABS(z))); }
FORMULA T hard_sigmoid(T z) { return z <= -3 ? 0 : z >= 3 ? 1 : (z + 3) / 6; }
FORMULA T scaled_tanh(T z) { return TANH_SCALE * TANH(TANH_STRETCH * z); }
FORMULA T d_scaled_tanh(T y) { return TANH_STRETCH / TANH_SCALE * (TANH_SCALE - y) * (TANH_SCALE + y); }

FORMULA T huber(T d, T delta) { return ABS(d) <= delta ? d * d / 2 : delta * (ABS(d) - delta / 2); }
/* log(cosh(d)) = -log(1 - tanh(d)^2) / 2, or |d| + log((1 + exp(-2 |d|)) / 2), of which one has no cancellation. */
FORMULA T log_cosh(T d) {
    T a = ABS(d), e = EXPM1(-2 * a), tanh = e / (2 + e);
    T y = LOG1P(a < 1 ? -tanh * tanh : e / 2);
    return a < 1 ? y / -2 : a + y;
}

/* w: the weight of the class 1. */
FORMULA T bce(T o, T t, T w) { return (o > 0 ? o * (1 - t) : -o * (w * t)) + LOG1P(EXP(-ABS(o))) * (1 + (w - 1) * t); }
FORMULA T d_bce(T o, T t, T w) { return SIGMOID(o) * (1 + (w - 1) * t) - w * t; }

/* The target t of two classes with label smoothing s, which moves it towards 1/2. */
FORMULA T smoothed(T t, T s) { return (1 - s) * t + s / 2; }

#undef EXP_SERIES
#undef LOG_SERIES
#undef CENTRE_SERIES
#undef TAIL_SERIES
#undef TAIL_LOW
#undef TAIL_HIGH
#undef SINE_SERIES
#undef COSINE_SERIES

#endif
