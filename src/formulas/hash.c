/* Floor 1: hashes of values by XXH64, written from its description (Collet, xxHash fast digest algorithm, version
 * 0.1.1, 2018), which has the primes, the turns and the shifts. */
#include "formulas/random.h"
#include "microbp.h"

static const uint64_t PRIME_1 = 0x9E3779B185EBCA87, PRIME_2 = 0xC2B2AE3D27D4EB4F, PRIME_3 = 0x165667B19E3779F9,
                      PRIME_4 = 0x85EBCA77C2B2AE63, PRIME_5 = 0x27D4EB2F165667C5;

static inline uint64_t turned(uint64_t bits, int left) { return bits << left | bits >> (64 - left); }

static inline uint64_t four_bytes(const unsigned char *b) {
    return b[0] | (uint64_t)b[1] << 8 | (uint64_t)b[2] << 16 | (uint64_t)b[3] << 24;
}

static inline uint64_t eight_bytes(const unsigned char *b) { return four_bytes(b) | four_bytes(b + 4) << 32; }

/* A lane after one more word of 8 bytes. */
static inline uint64_t lane_after(uint64_t lane, uint64_t word) { return turned(lane + word * PRIME_2, 31) * PRIME_1; }

static inline uint64_t hash_after(uint64_t hash, uint64_t word) {
    return turned(hash ^ lane_after(0, word), 27) * PRIME_1 + PRIME_4;
}

/* Every bit of the hash changes about half of the bits of the result. */
static inline uint64_t spread(uint64_t hash) {
    hash = (hash ^ hash >> 33) * PRIME_2;
    hash = (hash ^ hash >> 29) * PRIME_3;
    return hash ^ hash >> 32;
}

/* Takes blocks of 32 bytes, each as four words for four lanes, which do not wait for each other. */
static uint64_t hash_of_blocks(const unsigned char *b, size_t blocks, uint64_t seed) {
    static const int turns[4] = {1, 7, 12, 18};
    uint64_t lanes[4] = {seed + PRIME_1 + PRIME_2, seed + PRIME_2, seed, seed - PRIME_1}, hash = 0;
    for (; blocks > 0; blocks--, b += 32)
        for (int i = 0; i < 4; i++)
            lanes[i] = lane_after(lanes[i], eight_bytes(b + 8 * i));
    for (int i = 0; i < 4; i++)
        hash += turned(lanes[i], turns[i]);
    for (int i = 0; i < 4; i++)
        hash = (hash ^ lane_after(0, lanes[i])) * PRIME_1 + PRIME_4;
    return hash;
}

uint64_t mbp_hash(const void *bytes, size_t count, uint64_t seed) {
    const unsigned char *b = bytes;
    if (!bytes && count)
        return 0;
    const size_t blocks = count / 32;
    uint64_t hash = (blocks ? hash_of_blocks(b, blocks, seed) : seed + PRIME_5) + count;
    size_t at = 32 * blocks;
    for (; count - at >= 8; at += 8)
        hash = hash_after(hash, eight_bytes(b + at));
    if (count - at >= 4) {
        hash = turned(hash ^ four_bytes(b + at) * PRIME_1, 23) * PRIME_2 + PRIME_3;
        at += 4;
    }
    for (; at < count; at++)
        hash = turned(hash ^ b[at] * PRIME_5, 11) * PRIME_1;
    return spread(hash);
}

uint64_t mbp_hash_number(int64_t number, uint64_t seed) {
    return spread(hash_after(seed + PRIME_5 + 8, (uint64_t)number));
}

int64_t mbp_hash_level(uint64_t hash, int64_t levels) {
    return levels < 1 ? -1 : (int64_t)mbp_upper_product(hash, (uint64_t)levels);
}
