/* The way back from the filter ROWS for 16-bit samples (docs/format.md, "Filters"); rows.c has the way there. */
#include "native.h"

#define BIAS 0x0080008000800080u
/* Words done at a time: a vector. */
#ifdef __AVX512BW__
#define STEP 8
#else
#define STEP 4
#endif

typedef uint8_t Bytes __attribute__((vector_size(4 * STEP)));
typedef uint16_t Samples __attribute__((vector_size(8 * STEP)));
typedef uint64_t Words __attribute__((vector_size(8 * STEP)));

/* STEP words of differences, in two planes. */
static inline Words joined(const uint8_t *low, const uint8_t *high)
{
    Bytes lows, highs;
    memcpy(&lows, low, sizeof lows);
    memcpy(&highs, high, sizeof highs);
    return (Words)(__builtin_convertvector(lows, Samples) | __builtin_convertvector(highs, Samples) << 8) - BIAS;
}

/* One of them. */
static inline uint64_t difference(const uint8_t *low, const uint8_t *high)
{
    uint64_t word = 0;
    for (unsigned sample = 0; sample < 4; sample++)
        word |= (uint64_t)(low[sample] | high[sample] << 8) << 16 * sample;
    return word - BIAS;
}

void restore_words(const uint8_t *low, const uint8_t *high, size_t count, size_t distance, uint8_t *out)
{
    size_t word = 0;
    if (distance >= STEP)
        for (; word + STEP <= count; word += STEP) {
            Words before;
            memcpy(&before, out + 8 * word - 8 * distance, sizeof before);
            Words words = joined(low + 4 * word, high + 4 * word) + before;
            memcpy(out + 8 * word, &words, sizeof words);
        }
    for (; word < count; word++) {
        uint64_t sum = difference(low + 4 * word, high + 4 * word) + load64(out + 8 * word - 8 * distance);
        memcpy(out + 8 * word, &sum, 8);
    }
}

/* What the filter was given, `size` bytes, into `out`. */
EXPORT void fastarchive_restore_rows(const uint8_t *planes, size_t size, size_t distance, uint8_t *out)
{
    size_t words = size / 8, samples = size / 2, first = distance < words ? distance : words, word = 0;
    const uint8_t *high = planes + samples;
    for (; word + STEP <= first; word += STEP) {
        Words row = joined(planes + 4 * word, high + 4 * word);
        memcpy(out + 8 * word, &row, sizeof row);
    }
    for (; word < first; word++) {
        uint64_t sum = difference(planes + 4 * word, high + 4 * word);
        memcpy(out + 8 * word, &sum, 8);
    }
    restore_words(planes + 4 * word, high + 4 * word, words - word, distance, out + 8 * word);
    for (size_t sample = 4 * words; sample < samples; sample++) {
        out[2 * sample] = planes[sample];
        out[2 * sample + 1] = planes[samples + sample];
    }
    if (size & 1)
        out[size - 1] = planes[size - 1];
}
