/* random.h: published results of Philox, numbers that microbp/reference/random.py draws too, and statistics of many
 * draws. */
#include "formulas/random.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static int failures;

static void expect(int good, const char *what, double got, double expected) {
    if (!good) {
        printf("FAILED %s: got %.17g, expected %.17g\n", what, got, expected);
        failures++;
    }
}

/* From the file kat_vectors of the Random123 distribution; the first word of the key is the lower half of the seed. */
static void check_philox(void) {
    static const struct {
        uint32_t counter[4], key[2], words[4];
    } answers[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        uint32_t words[4];
        mbp_philox((uint64_t)answers[i].key[1] << 32 | answers[i].key[0], answers[i].counter, words);
        for (int k = 0; k < 4; k++)
            expect(words[k] == answers[i].words[k], "philox", words[k], answers[i].words[k]);
    }
}

/* From draws(0x0123456789abcdef, 1, 3, 5, ...) and permutation(0x0123456789abcdef, 2, 5 << 32 | 7, 9) in Python. */
static void check_reference(void) {
    static const double expected[2][2][5] = {
        {{0x1.7f55cap-1, 0x1.e80cacp-1, 0x1.29281p-1, 0x1.cbfc0cp-1, 0x1.1f12e8p-1},
         {0x1.7f55ca6fe80cap-1, 0x1.29281137cbfc0p-1, 0x1.1f12e9f8b28b9p-1, 0x1.5bcbf1f1effe0p-1,
          0x1.d609e85ff46d6p-2}},
        {{0x1.97399970f6465p+0, -0x1.ed0a845c9a629p-2, 0x1.0ef294bba40fbp+0, -0x1.920e58a421907p-1,
          -0x1.7db7bee869f4dp-1},
         {-0x1.7458efe13a8ebp+0, -0x1.9bbdbfdffd4efp-1, -0x1.1a417b17bcfe3p-1, -0x1.28793783b8a44p+0,
          -0x1.52f64e13cf778p-1}},
    };
    static const int64_t order[9] = {1, 2, 3, 6, 8, 5, 7, 4, 0};
    for (int normal = 0; normal < 2; normal++)
        for (int f64 = 0; f64 < 2; f64++) {
            double got[5];
            mbp_draw(got, 0, 5, normal, f64, 0x0123456789abcdef, 1 << 24 | 3, 0);
            for (int i = 0; i < 5; i++)
                expect(got[i] == expected[normal][f64][i], "draw", got[i], expected[normal][f64][i]);
        }
    int64_t got[9];
    mbp_fill_permutation(0x0123456789abcdef, 2, (uint64_t)5 << 32 | 7, 9, got);
    for (int i = 0; i < 9; i++)
        expect(got[i] == order[i], "permutation", (double)got[i], (double)order[i]);
}

/* Numbers drawn in pieces are the same as numbers drawn at once. */
static void check_pieces(void) {
    double whole[40], piece[12];
    for (int f64 = 0; f64 < 2; f64++) {
        mbp_draw(whole, 0, 40, 1, f64, 9, 1 << 24, 0);
        for (int first = 0; first < 28; first += 4) {
            mbp_draw(piece, first, 11, 1, f64, 9, 1 << 24, 0);
            for (int i = 0; i < 11; i++)
                expect(piece[i] == whole[first + i], "draw in pieces", piece[i], whole[first + i]);
        }
    }
}

/* Moments within five standard errors; that of the mean of x^k is sqrt((E x^2k - (E x^k)^2) / n). */
static void check_moments(void) {
    enum { N = 1 << 20 };
    static const double normal_moment[9] = {1, 0, 1, 0, 3, 0, 15, 0, 105};
    double *x = malloc(N * sizeof *x);
    if (!x)
        exit(2);
    for (int normal = 0; normal < 2; normal++)
        for (int f64 = 0; f64 < 2; f64++) {
            mbp_draw(x, 0, N, normal, f64, 12345, 1 << 24 | 7, 0);
            double lowest = x[0], highest = x[0], product = 0;
            for (int i = 0; i < N; i++) {
                lowest = fmin(lowest, x[i]);
                highest = fmax(highest, x[i]);
            }
            expect(normal || (lowest >= 0 && highest < 1), "range of the uniform", lowest, highest);
            for (int k = 1; k <= 4; k++) {
                double sum = 0, expected = normal ? normal_moment[k] : 1.0 / (k + 1);
                double spread = (normal ? normal_moment[2 * k] : 1.0 / (2 * k + 1)) - expected * expected;
                for (int i = 0; i < N; i++)
                    sum += pow(x[i], k);
                expect(fabs(sum / N - expected) < 5 * sqrt(spread / N),
                       normal ? "moment of the normal" : "moment of the uniform", sum / N, expected);
            }
            const double mean = normal ? 0 : 0.5, variance = normal ? 1 : 1.0 / 12;
            for (int i = 0; i + 1 < N; i++)
                product += (x[i] - mean) * (x[i + 1] - mean);
            expect(fabs(product / N) < 5 * variance / sqrt(N), "correlation of neighbours", product / N, 0);
        }
    free(x);
}

static void check_turn(void) {
    const double turn = 8 * atan(1);
    for (int i = 0; i < 100000; i++) {
        const double u = i / 100000.0;
        double cosine, sine;
        mbp_turn(u, &cosine, &sine);
        expect(fabs(cosine - cos(turn * u)) < 1e-15, "cosine of a turn", cosine, cos(turn * u));
        expect(fabs(sine - sin(turn * u)) < 1e-15, "sine of a turn", sine, sin(turn * u));
    }
}

/* Each number occurs once. Over many instances each number comes first equally often (within six standard errors). */
static void check_permutations(void) {
    enum { LONGEST = 1000, SMALL = 7, TIMES = 70000 };
    static int64_t order[LONGEST];
    for (int n = 0; n <= LONGEST; n = n < 20 ? n + 1 : n * 7) {
        char seen[LONGEST] = {0};
        mbp_fill_permutation(3, 2, 1, n, order);
        for (int i = 0; i < n; i++) {
            expect(order[i] >= 0 && order[i] < n && !seen[order[i]], "permutation's element", (double)order[i], n);
            seen[order[i]] = 1;
        }
    }
    int first[SMALL] = {0};
    for (uint64_t instance = 0; instance < TIMES; instance++) {
        mbp_fill_permutation(3, 2, instance, SMALL, order);
        first[order[0]]++;
    }
    for (int i = 0; i < SMALL; i++)
        expect(abs(first[i] - TIMES / SMALL) < 6 * sqrt((double)TIMES / SMALL), "times that a number came first",
               first[i], (double)TIMES / SMALL);
}

int main(void) {
    check_philox();
    check_reference();
    check_pieces();
    check_moments();
    check_turn();
    check_permutations();
    return failures != 0;
}
