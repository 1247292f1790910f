/*
 * BLAKE3 (the paper of 2020, section 2), unkeyed, of data of at most BLAKE3_MOST bytes: chunks of 1 KB side by side in the lanes of
 * a vector where there are vectors, and a tree of them. What is larger is left to the library the rest of the archive uses.
 */
#include "blake3.h"
#include "native.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#define BLOCK 64u
#define CHUNK 1024u
enum { CHUNK_START = 1, CHUNK_END = 2, PARENT = 4, ROOT = 8 };

static const uint32_t IV[8] = {0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19};

static const uint8_t SCHEDULE[7][16] = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8},
    {3, 4, 10, 12, 13, 2, 7, 14, 6, 5, 9, 0, 11, 15, 8, 1}, {10, 7, 12, 9, 14, 3, 13, 15, 4, 0, 11, 2, 5, 8, 1, 6},
    {12, 13, 9, 11, 15, 10, 14, 8, 7, 2, 5, 3, 0, 1, 6, 4}, {9, 14, 11, 5, 8, 12, 15, 1, 13, 3, 0, 10, 2, 6, 4, 7},
    {11, 15, 5, 0, 1, 9, 8, 6, 14, 10, 2, 12, 3, 4, 7, 13},
};

/* The same for one word and for a vector of them. */
#define ROTATED(x, n) ((x) >> (n) | (x) << (32 - (n)))
#define MIX(v, a, b, c, d, x, y)                                                                                              \
    do {                                                                                                                      \
        v[a] += v[b] + (x), v[d] = ROTATED(v[d] ^ v[a], 16), v[c] += v[d], v[b] = ROTATED(v[b] ^ v[c], 12);                   \
        v[a] += v[b] + (y), v[d] = ROTATED(v[d] ^ v[a], 8), v[c] += v[d], v[b] = ROTATED(v[b] ^ v[c], 7);                     \
    } while (0)
#define ROUND(v, m, s)                                                                                                        \
    do {                                                                                                                      \
        MIX(v, 0, 4, 8, 12, m[s[0]], m[s[1]]);                                                                                \
        MIX(v, 1, 5, 9, 13, m[s[2]], m[s[3]]);                                                                                \
        MIX(v, 2, 6, 10, 14, m[s[4]], m[s[5]]);                                                                               \
        MIX(v, 3, 7, 11, 15, m[s[6]], m[s[7]]);                                                                               \
        MIX(v, 0, 5, 10, 15, m[s[8]], m[s[9]]);                                                                               \
        MIX(v, 1, 6, 11, 12, m[s[10]], m[s[11]]);                                                                             \
        MIX(v, 2, 7, 8, 13, m[s[12]], m[s[13]]);                                                                              \
        MIX(v, 3, 4, 9, 14, m[s[14]], m[s[15]]);                                                                              \
    } while (0)
#define ROUNDS(v, m)                                                                                                          \
    do {                                                                                                                      \
        ROUND(v, m, SCHEDULE[0]);                                                                                             \
        ROUND(v, m, SCHEDULE[1]);                                                                                             \
        ROUND(v, m, SCHEDULE[2]);                                                                                             \
        ROUND(v, m, SCHEDULE[3]);                                                                                             \
        ROUND(v, m, SCHEDULE[4]);                                                                                             \
        ROUND(v, m, SCHEDULE[5]);                                                                                             \
        ROUND(v, m, SCHEDULE[6]);                                                                                             \
    } while (0)

static void compress(uint32_t value[8], const uint32_t message[16], uint32_t counter, uint32_t length, uint32_t flags)
{
    uint32_t v[16];
    memcpy(v, value, 32);
    memcpy(v + 8, IV, 16);
    v[12] = counter;
    v[13] = 0;
    v[14] = length;
    v[15] = flags;
    ROUNDS(v, message);
    for (int i = 0; i < 8; i++)
        value[i] = v[i] ^ v[i + 8];
}

/* Goes on with a chunk of `size` bytes, of which the first `done` whole blocks are in `value`. */
static void finish_chunk(const uint8_t *chunk, size_t size, size_t done, uint32_t number, uint32_t root, uint32_t value[8])
{
    for (size_t at = done * BLOCK;; at += BLOCK) {
        uint32_t message[16] = {0};
        size_t length = size - at < BLOCK ? size - at : BLOCK;
        int last = at + length == size;
        memcpy(message, chunk + at, length);
        compress(value, message, number, (uint32_t)length, (at ? 0 : CHUNK_START) | (last ? CHUNK_END | root : 0));
        if (last)
            return;
    }
}

#if defined(__AVX2__)

#if defined(__AVX512F__)
#define LANES 16u
typedef uint32_t Words __attribute__((vector_size(64)));
#define GATHER(data, at) ((Words)_mm512_i32gather_epi32((__m512i)(at), data, 1))
#else
#define LANES 8u
typedef uint32_t Words __attribute__((vector_size(32)));
#define GATHER(data, at) ((Words)_mm256_i32gather_epi32((const int *)(data), (__m256i)(at), 1))
#endif
#define FEW 3u

/*
 * The chaining values of `count` chunks of `data`, the first of them number `first`. All are whole but perhaps the last, of
 * which `blocks` blocks are taken in.
 */
static void take_side_by_side(const uint8_t *data, size_t count, uint32_t first, size_t blocks, uint32_t (*values)[8])
{
    Words v[16], value[8], message[16], at = {0}, number, zero = {0};
    for (unsigned lane = 0; lane < LANES; lane++) {
        at[lane] = lane < count ? lane * CHUNK : 0; /* a lane too many does the first chunk's work again */
        number[lane] = first + lane;
    }
    for (int i = 0; i < 8; i++)
        value[i] = zero + IV[i];
    for (size_t block = 0; block < CHUNK / BLOCK; block++) {
        if (block == blocks) {
            for (int i = 0; i < 8; i++)
                values[count - 1][i] = value[i][count - 1];
            at[count - 1] = at[0];
        }
        for (int i = 0; i < 16; i++)
            message[i] = GATHER(data + 4 * i, at);
        for (int i = 0; i < 8; i++)
            v[i] = value[i];
        for (int i = 0; i < 4; i++)
            v[8 + i] = zero + IV[i];
        v[12] = number;
        v[13] = zero;
        v[14] = zero + BLOCK;
        v[15] = zero + (block == 0 ? CHUNK_START : block == CHUNK / BLOCK - 1 ? CHUNK_END : 0);
        ROUNDS(v, message);
        for (int i = 0; i < 8; i++)
            value[i] = v[i] ^ v[i + 8];
        at += BLOCK;
    }
    for (size_t lane = 0; lane < count - (blocks < CHUNK / BLOCK); lane++)
        for (int i = 0; i < 8; i++)
            values[lane][i] = value[i][lane];
}

#endif

void blake3(const uint8_t *data, size_t size, uint8_t digest[32])
{
    uint32_t values[BLAKE3_MOST / CHUNK][8];
    size_t count = size ? (size + CHUNK - 1) / CHUNK : 1, done = 0;
    size_t rest = size - (count - 1) * CHUNK; /* of the last chunk: at least 1 byte if there are any */
#if defined(__AVX2__)
    while (count > 1 && count - done >= FEW) {
        size_t some = count - done < LANES ? count - done : LANES;
        int has_last = done + some == count;
        /* The last block is different, so it is left over. */
        size_t blocks = has_last ? (rest - 1) / BLOCK : CHUNK / BLOCK;
        take_side_by_side(data + done * CHUNK, some, (uint32_t)done, blocks, values + done);
        if (has_last) {
            if (!blocks)
                memcpy(values[count - 1], IV, 32);
            finish_chunk(data + (count - 1) * CHUNK, rest, blocks, (uint32_t)count - 1, 0, values[count - 1]);
        }
        done += some;
    }
#endif
    for (; done < count; done++) {
        memcpy(values[done], IV, 32);
        size_t length = done + 1 == count ? rest : CHUNK;
        finish_chunk(data + done * CHUNK, length, 0, (uint32_t)done, count == 1 ? ROOT : 0, values[done]);
    }
    while (count > 1) { /* neighbours have a parent; one without goes up as it is */
        size_t parents = count / 2;
        for (size_t i = 0; i < parents; i++) {
            uint32_t message[16];
            memcpy(message, values[2 * i], 64);
            memcpy(values[i], IV, 32);
            compress(values[i], message, 0, BLOCK, PARENT | (count == 2 ? ROOT : 0));
        }
        if (count & 1)
            memcpy(values[parents], values[count - 1], 32);
        count = parents + (count & 1);
    }
    memcpy(digest, values[0], 32);
}
