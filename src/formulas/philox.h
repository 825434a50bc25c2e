/* Floor 1: four random words from a key and a counter, by Philox 4x32-10 (random.h). */
#ifndef MBP_PHILOX_H
#define MBP_PHILOX_H

#include <stdint.h>
#include <string.h>

/* Section 4 of the paper has the multipliers and the increments of the key (golden ratio, sqrt(3) - 1). */
static inline void mbp_philox(uint64_t seed, const uint32_t counter[4], uint32_t words[4]) {
    uint32_t key0 = (uint32_t)seed, key1 = (uint32_t)(seed >> 32), w[4];
    memcpy(w, counter, sizeof w);
    for (int round = 0; round < 10; round++) {
        const uint64_t a = (uint64_t)0xD2511F53 * w[0], b = (uint64_t)0xCD9E8D57 * w[2];
        w[0] = (uint32_t)(b >> 32) ^ w[1] ^ key0;
        w[1] = (uint32_t)b;
        w[2] = (uint32_t)(a >> 32) ^ w[3] ^ key1;
        w[3] = (uint32_t)a;
        key0 += 0x9E3779B9;
        key1 += 0xBB67AE85;
    }
    memcpy(words, w, sizeof w);
}

/* The same, compiled once (random.c). */
void mbp_words(uint64_t seed, const uint32_t counter[4], uint32_t words[4]);

#endif
