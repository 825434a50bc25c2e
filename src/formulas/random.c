#include "formulas/chosen.h"
#include "formulas/random.h"

void mbp_words(uint64_t seed, const uint32_t counter[4], uint32_t words[4]) { mbp_philox(seed, counter, words); }

void mbp_draw(double *out, int64_t first, int64_t count, int normal, int f64, uint64_t seed, uint32_t stream,
              uint64_t step) {
    for (int64_t e = 0; e < count; e += 4) {
        uint32_t w[8],
            counter[4] = {(uint32_t)((first + e) / (f64 ? 2 : 4)), stream, (uint32_t)step, (uint32_t)(step >> 32)};
        double four[4];
        mbp_words(seed, counter, w);
        counter[0]++;
        if (f64)
            mbp_words(seed, counter, w + 4);
        for (int i = 0; i < 4; i++)
            four[i] = f64 ? mbp_uniform_53(w[2 * i], w[2 * i + 1]) : mbp_uniform_24(w[i]);
        if (MBP_NORMALS && normal) {
            mbp_normal_pair(four);
            mbp_normal_pair(four + 2);
        }
        memcpy(out + e, four, (count - e < 4 ? (size_t)(count - e) : 4) * sizeof(double));
    }
}
