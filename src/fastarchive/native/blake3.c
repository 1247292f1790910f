/*
 * BLAKE3 (the paper of 2020, section 2), unkeyed: chunks of 1 KB side by side in the lanes of a vector, and parents of the tree
 * above them in the same way.
 *
 * Level n of the tree has the values of 2^n chunks each. As soon as a level has two for each lane, their parents go to the next
 * one; at the end, what is left does. A value without a neighbour goes up as it is, which makes the tree of the paper.
 */
#include "blake3.h"
#include "native.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#define BLOCK 64u
#define CHUNK 1024u
#define BLOCKS (CHUNK / BLOCK)
#define LANES BLAKE3_LANES
enum { CHUNK_START = 1, CHUNK_END = 2, PARENT = 4, ROOT = 8 };

static const Chaining IV = {
    {0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19},
};

static const uint8_t SCHEDULE[7][16] = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8},
    {3, 4, 10, 12, 13, 2, 7, 14, 6, 5, 9, 0, 11, 15, 8, 1}, {10, 7, 12, 9, 14, 3, 13, 15, 4, 0, 11, 2, 5, 8, 1, 6},
    {12, 13, 9, 11, 15, 10, 14, 8, 7, 2, 5, 3, 0, 1, 6, 4}, {9, 14, 11, 5, 8, 12, 15, 1, 13, 3, 0, 10, 2, 6, 4, 7},
    {11, 15, 5, 0, 1, 9, 8, 6, 14, 10, 2, 12, 3, 4, 7, 13},
};

/* The same for one word and for a vector of them: `turn` is how the one or the other is rotated to the right. */
#define MIX(turn, v, a, b, c, d, x, y)                                                                                        \
    do {                                                                                                                      \
        v[a] += v[b] + (x), v[d] = turn(v[d] ^ v[a], 16), v[c] += v[d], v[b] = turn(v[b] ^ v[c], 12);                         \
        v[a] += v[b] + (y), v[d] = turn(v[d] ^ v[a], 8), v[c] += v[d], v[b] = turn(v[b] ^ v[c], 7);                           \
    } while (0)
#define ROUND(turn, v, m, s)                                                                                                  \
    do {                                                                                                                      \
        MIX(turn, v, 0, 4, 8, 12, m[s[0]], m[s[1]]);                                                                          \
        MIX(turn, v, 1, 5, 9, 13, m[s[2]], m[s[3]]);                                                                          \
        MIX(turn, v, 2, 6, 10, 14, m[s[4]], m[s[5]]);                                                                         \
        MIX(turn, v, 3, 7, 11, 15, m[s[6]], m[s[7]]);                                                                         \
        MIX(turn, v, 0, 5, 10, 15, m[s[8]], m[s[9]]);                                                                         \
        MIX(turn, v, 1, 6, 11, 12, m[s[10]], m[s[11]]);                                                                       \
        MIX(turn, v, 2, 7, 8, 13, m[s[12]], m[s[13]]);                                                                        \
        MIX(turn, v, 3, 4, 9, 14, m[s[14]], m[s[15]]);                                                                        \
    } while (0)
#define ROUNDS(turn, v, m)                                                                                                    \
    do {                                                                                                                      \
        ROUND(turn, v, m, SCHEDULE[0]);                                                                                       \
        ROUND(turn, v, m, SCHEDULE[1]);                                                                                       \
        ROUND(turn, v, m, SCHEDULE[2]);                                                                                       \
        ROUND(turn, v, m, SCHEDULE[3]);                                                                                       \
        ROUND(turn, v, m, SCHEDULE[4]);                                                                                       \
        ROUND(turn, v, m, SCHEDULE[5]);                                                                                       \
        ROUND(turn, v, m, SCHEDULE[6]);                                                                                       \
    } while (0)
#define TURNED(x, n) ((x) >> (n) | (x) << (32 - (n)))

/* -- one after the other ---------------------------------------------------------------------------------------- */

static void compress(Chaining *value, const uint32_t message[16], uint64_t counter, uint32_t length, uint32_t flags)
{
    uint32_t v[16];
    memcpy(v, value, 32);
    memcpy(v + 8, &IV, 16);
    v[12] = (uint32_t)counter;
    v[13] = (uint32_t)(counter >> 32);
    v[14] = length;
    v[15] = flags;
    ROUNDS(TURNED, v, message);
    for (int i = 0; i < 8; i++)
        value->word[i] = v[i] ^ v[i + 8];
}

static Chaining hash_chunk(const uint8_t *chunk, size_t size, uint64_t number, uint32_t root)
{
    Chaining value = IV;
    for (size_t at = 0;; at += BLOCK) {
        uint32_t message[16] = {0};
        size_t length = size - at < BLOCK ? size - at : BLOCK;
        int last = at + length == size;
        memcpy(message, chunk + at, length);
        compress(&value, message, number, (uint32_t)length, (at ? 0 : CHUNK_START) | (last ? CHUNK_END | root : 0));
        if (last)
            return value;
    }
}

static Chaining parent_of(const Chaining children[2], uint32_t root)
{
    Chaining value = IV;
    uint32_t message[16];
    memcpy(message, children, 64);
    compress(&value, message, 0, BLOCK, PARENT | root);
    return value;
}

/* -- side by side ----------------------------------------------------------------------------------------------- */

typedef uint32_t Words __attribute__((vector_size(4 * LANES)));

/*
 * Four vectors are rows of 4 x 4 words, a square in each 128 bits, to be turned on its diagonal; load_rows() and store_rows()
 * have lane 4 * i + row in square i.
 */
#if defined(__AVX512F__)
#define INTERLEAVE(half, a, b) ((Words)_mm512_unpack##half##_epi32((__m512i)(a), (__m512i)(b)))
#define INTERLEAVE_PAIRS(half, a, b) ((Words)_mm512_unpack##half##_epi64((__m512i)(a), (__m512i)(b)))
#define TURNED_LANES TURNED
#elif defined(__AVX2__)
#define INTERLEAVE(half, a, b) ((Words)_mm256_unpack##half##_epi32((__m256i)(a), (__m256i)(b)))
#define INTERLEAVE_PAIRS(half, a, b) ((Words)_mm256_unpack##half##_epi64((__m256i)(a), (__m256i)(b)))
#define BYTES_TURNED(x, a, b, c, d)                                                                                           \
    ((Words)_mm256_shuffle_epi8((__m256i)(x), _mm256_setr_epi8(a, b, c, d, 4 + a, 4 + b, 4 + c, 4 + d, 8 + a, 8 + b, 8 + c,   \
                                                               8 + d, 12 + a, 12 + b, 12 + c, 12 + d, a, b, c, d, 4 + a,      \
                                                               4 + b, 4 + c, 4 + d, 8 + a, 8 + b, 8 + c, 8 + d, 12 + a,       \
                                                               12 + b, 12 + c, 12 + d)))
#define TURNED_LANES(x, n) ((n) == 16 ? BYTES_TURNED(x, 2, 3, 0, 1) : (n) == 8 ? BYTES_TURNED(x, 1, 2, 3, 0) : TURNED(x, n))
#elif defined(__SSE2__)
#include <emmintrin.h>
#define INTERLEAVE(half, a, b) ((Words)_mm_unpack##half##_epi32((__m128i)(a), (__m128i)(b)))
#define INTERLEAVE_PAIRS(half, a, b) ((Words)_mm_unpack##half##_epi64((__m128i)(a), (__m128i)(b)))
#define TURNED_LANES TURNED
#else
#define TURNED_LANES TURNED
#endif

static inline void turn_squares(Words rows[4])
{
#ifdef INTERLEAVE
    Words even = INTERLEAVE(lo, rows[0], rows[1]), odd = INTERLEAVE(lo, rows[2], rows[3]);
    Words even_high = INTERLEAVE(hi, rows[0], rows[1]), odd_high = INTERLEAVE(hi, rows[2], rows[3]);
    rows[0] = INTERLEAVE_PAIRS(lo, even, odd);
    rows[1] = INTERLEAVE_PAIRS(hi, even, odd);
    rows[2] = INTERLEAVE_PAIRS(lo, even_high, odd_high);
    rows[3] = INTERLEAVE_PAIRS(hi, even_high, odd_high);
#else
    Words turned[4];
    for (int row = 0; row < 4; row++)
        turned[row] = (Words){rows[0][row], rows[1][row], rows[2][row], rows[3][row]};
    memcpy(rows, turned, sizeof turned);
#endif
}

/* Four words of each lane's block, `stride` bytes from one lane's to the next, the first words in rows[0]. */
static inline void load_words(const uint8_t *data, size_t stride, Words rows[4])
{
    for (unsigned row = 0; row < 4; row++, data += stride) {
#if defined(__AVX512F__)
        __m512i squares = _mm512_castsi128_si512(_mm_loadu_si128((const void *)data));
        squares = _mm512_inserti32x4(squares, _mm_loadu_si128((const void *)(data + 4 * stride)), 1);
        squares = _mm512_inserti32x4(squares, _mm_loadu_si128((const void *)(data + 8 * stride)), 2);
        squares = _mm512_inserti32x4(squares, _mm_loadu_si128((const void *)(data + 12 * stride)), 3);
        rows[row] = (Words)squares;
#elif defined(__AVX2__)
        rows[row] = (Words)_mm256_loadu2_m128i((const void *)(data + 4 * stride), (const void *)data);
#else
        memcpy(&rows[row], data, 16);
#endif
    }
    turn_squares(rows);
}

/* The way back: four words of each lane's value, from word `at` on. */
static inline void store_words(Words rows[4], size_t at, Chaining out[LANES])
{
    turn_squares(rows);
    for (unsigned lane = 0; lane < LANES; lane++)
        memcpy(out[lane].word + at, (const uint8_t *)&rows[lane % 4] + lane / 4 * 16, 16);
}

/* Messages that differ in their bytes, and chunks in their numbers. */
typedef struct {
    size_t stride;               /* bytes from one to the next */
    size_t blocks;
    uint32_t every, first, last; /* flags of every block, the first and the last one */
    uint64_t number;             /* of the first chunk */
    uint32_t step;               /* to that of the next */
} Messages;

/* The last message may be shorter. */
typedef struct {
    size_t lane, block; /* its last block */
    uint32_t length;    /* bytes of that */
} Shorter;

/* The values of as many messages as there are lanes. */
static inline void hash_lanes(const uint8_t *data, Messages messages, Shorter shorter, Chaining out[LANES])
{
    Words v[16], value[8], message[16], number, zero = {0}, its_lane = {0};
    for (unsigned lane = 0; lane < LANES; lane++)
        number[lane] = (uint32_t)messages.number + lane * messages.step;
    its_lane[shorter.lane] = ~0u;
    for (int i = 0; i < 8; i++)
        value[i] = zero + IV.word[i];
    for (size_t block = 0; block < messages.blocks; block++) {
        for (int i = 0; i < 4; i++)
            load_words(data + block * BLOCK + 16 * i, messages.stride, message + 4 * i);
        for (int i = 0; i < 8; i++)
            v[i] = value[i];
        for (int i = 0; i < 4; i++)
            v[8 + i] = zero + IV.word[i];
        v[12] = number;
        v[13] = zero + (uint32_t)(messages.number >> 32);
        v[14] = zero + BLOCK;
        v[15] = zero + (messages.every | (block ? 0 : messages.first) | (block + 1 == messages.blocks ? messages.last : 0));
        if (block == shorter.block) {
            v[14] -= its_lane & (BLOCK - shorter.length);
            v[15] |= its_lane & messages.last;
        }
        ROUNDS(TURNED_LANES, v, message);
        if (block <= shorter.block)
            for (int i = 0; i < 8; i++)
                value[i] = v[i] ^ v[i + 8];
        else
            for (int i = 0; i < 8; i++)
                value[i] = (its_lane & value[i]) | (~its_lane & (v[i] ^ v[i + 8]));
    }
    store_words(value, 0, out);
    store_words(value + 4, 4, out);
}

/* `out` has room for the value of each lane, and `data` bytes for each, whatever they are beyond the last chunk. */
static void hash_chunks(const uint8_t *data, size_t size, uint64_t number, Chaining out[LANES])
{
    size_t last = (size - 1) / CHUNK, rest = size - last * CHUNK;
    if (!last) {
        *out = hash_chunk(data, size, number, 0);
        return;
    }
    Messages chunks = {CHUNK, BLOCKS, 0, CHUNK_START, CHUNK_END, number, 1};
    Shorter shorter = {last, (rest - 1) / BLOCK, (uint32_t)((rest - 1) % BLOCK + 1)};
    hash_lanes(data, chunks, shorter, out);
}

static void hash_parents(const Chaining *children, size_t parents, Chaining out[LANES])
{
    Messages messages = {BLOCK, 1, PARENT, 0, 0, 0, 0};
    Shorter none = {0, 0, BLOCK};
    if (parents == 1)
        *out = parent_of(children, 0);
    else if (parents)
        hash_lanes((const uint8_t *)children, messages, none, out);
}

/* -- the tree --------------------------------------------------------------------------------------------------- */

void blake3_begin(Blake3 *state)
{
    state->chunks = state->waiting = 0;
    memset(state->values, 0, sizeof state->values);
}

/* A chunk for each lane, which are not the last ones. */
static void take(Blake3 *state, const uint8_t *data)
{
    hash_chunks(data, LANES * CHUNK, state->chunks, state->level[0] + state->values[0]);
    state->chunks += LANES;
    size_t level = 0;
    while (state->values[level]) {
        state->values[level] = 0;
        hash_parents(state->level[level], LANES, state->level[level + 1] + state->values[level + 1]);
        level++;
    }
    state->values[level] = LANES;
}

void blake3_add(Blake3 *state, const uint8_t *data, size_t size)
{
    if (state->waiting) {
        size_t some = sizeof state->rest - state->waiting < size ? sizeof state->rest - state->waiting : size;
        memcpy(state->rest + state->waiting, data, some);
        state->waiting += some;
        data += some;
        size -= some;
        if (!size)
            return;
        take(state, state->rest);
        state->waiting = 0;
    }
    for (; size > sizeof state->rest; data += sizeof state->rest, size -= sizeof state->rest)
        take(state, data);
    memcpy(state->rest, data, size);
    state->waiting = size;
}

void blake3_end(Blake3 *state, uint8_t digest[32])
{
    Chaining root;
    if (!state->chunks && state->waiting <= CHUNK) {
        root = hash_chunk(state->rest, state->waiting, 0, ROOT);
        memcpy(digest, &root, 32);
        return;
    }
    memset(state->rest + state->waiting, 0, -state->waiting % BLOCK); /* the padding of the last block */
    hash_chunks(state->rest, state->waiting, state->chunks, state->level[0] + state->values[0]);
    state->values[0] += (state->waiting + CHUNK - 1) / CHUNK;
    uint64_t above = state->chunks / LANES; /* a bit for each level that has values, this one's the lowest */
    for (size_t level = 0;; level++) {
        Chaining *values = state->level[level], *parents = state->level[level + 1] + state->values[level + 1];
        size_t count = state->values[level];
        above >>= 1;
        if (count == 2 && !above) {
            root = parent_of(values, ROOT);
            memcpy(digest, &root, 32);
            return;
        }
        hash_parents(values, count / 2, parents);
        if (count & 1)
            parents[count / 2] = values[count - 1];
        state->values[level + 1] += (count + 1) / 2;
    }
}

void blake3(const uint8_t *data, size_t size, uint8_t digest[32])
{
    Blake3 state;
    blake3_begin(&state);
    blake3_add(&state, data, size);
    blake3_end(&state, digest);
}

EXPORT size_t fastarchive_blake3_memory(void)
{
    return sizeof(Blake3);
}

/* The digest of data taken in pieces of this size; `memory` is fastarchive_blake3_memory() bytes, aligned to 8. */
EXPORT void fastarchive_blake3(void *memory, const uint8_t *data, size_t size, size_t piece, uint8_t digest[32])
{
    blake3_begin(memory);
    for (size_t at = 0; at < size; at += piece)
        blake3_add(memory, data + at, size - at < piece ? size - at : piece);
    blake3_end(memory, digest);
}
