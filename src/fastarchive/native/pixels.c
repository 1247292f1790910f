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

/* The words from `word` on, as many as are STEP at a time below `end`, each the sum of its difference, in two planes, and
   the word `distance` before it, 0 for those that have none: `end` or `word` is `distance`, which is STEP at least.
   Returns where it stopped. */
static size_t add_rows(const uint8_t *low, const uint8_t *high, size_t word, size_t end, size_t distance, uint8_t *out)
{
    for (; word + STEP <= end; word += STEP) {
        Bytes lows, highs;
        Words before = {0}, words;
        memcpy(&lows, low + 4 * word, sizeof lows);
        memcpy(&highs, high + 4 * word, sizeof highs);
        if (word >= distance)
            memcpy(&before, out + 8 * (word - distance), sizeof before);
        words = (Words)(__builtin_convertvector(lows, Samples) | __builtin_convertvector(highs, Samples) << 8);
        words = words - BIAS + before;
        memcpy(out + 8 * word, &words, sizeof words);
    }
    return word;
}

/* One word, wherever it is. */
static void add_word(const uint8_t *low, const uint8_t *high, size_t word, size_t distance, uint8_t *out)
{
    uint64_t before = 0, sum = 0;
    for (unsigned sample = 0; sample < 4; sample++)
        sum |= (uint64_t)(low[4 * word + sample] | high[4 * word + sample] << 8) << 16 * sample;
    if (word >= distance)
        before = load64(out + 8 * (word - distance));
    sum = sum - BIAS + before;
    memcpy(out + 8 * word, &sum, 8);
}

/* What the filter was given, `size` bytes, into `out`. */
EXPORT void fastarchive_restore_rows(const uint8_t *planes, size_t size, size_t distance, uint8_t *out)
{
    size_t words = size / 8, samples = size / 2, word = 0;
    const uint8_t *high = planes + samples;
    if (distance >= STEP)
        word = add_rows(planes, high, word, distance < words ? distance : words, distance, out);
    while (word < words && word < distance)
        add_word(planes, high, word++, distance, out);
    if (distance >= STEP)
        word = add_rows(planes, high, word, words, distance, out);
    while (word < words)
        add_word(planes, high, word++, distance, out);
    for (size_t sample = 4 * words; sample < samples; sample++) {
        out[2 * sample] = planes[sample];
        out[2 * sample + 1] = planes[samples + sample];
    }
    if (size & 1)
        out[size - 1] = planes[size - 1];
}
