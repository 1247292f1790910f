/* The way back from the filter ROWS for 16-bit samples (docs/format.md, "Filters"); rows.c has the way there. */
#include "native.h"

#define BIAS 0x0080008000800080u
/* Words done at a time: they stay in the first-level cache between the two steps. */
#define TILE 1024

static void join_samples(const uint8_t *low, const uint8_t *high, size_t count, uint16_t *samples)
{
    for (size_t i = 0; i < count; i++)
        samples[i] = (uint16_t)(low[i] | high[i] << 8);
}

/* Words from differences to those `distance` words before, which are in `out` already; NULL: there are none before. */
static void add_rows(const uint8_t *differences, const uint8_t *before, size_t count, uint8_t *out)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t difference, other = 0, word;
        memcpy(&difference, differences + 8 * i, 8);
        if (before)
            memcpy(&other, before + 8 * i, 8);
        word = difference - BIAS + other;
        memcpy(out + 8 * i, &word, 8);
    }
}

/* What the filter was given, `size` bytes, into `out`. */
EXPORT void fastarchive_restore_rows(const uint8_t *planes, size_t size, size_t distance, uint8_t *out)
{
    uint16_t tile[4 * TILE];
    size_t words = size / 8, samples = size / 2;
    for (size_t word = 0; word < words;) {
        size_t count = words - word < TILE ? words - word : TILE;
        if (word < distance)
            count = distance - word < count ? distance - word : count;
        else
            count = distance < count ? distance : count; /* no further than what is done already */
        join_samples(planes + 4 * word, planes + samples + 4 * word, 4 * count, tile);
        add_rows((uint8_t *)tile, word < distance ? NULL : out + 8 * (word - distance), count, out + 8 * word);
        word += count;
    }
    for (size_t sample = 4 * words; sample < samples; sample++) {
        out[2 * sample] = planes[sample];
        out[2 * sample + 1] = planes[samples + sample];
    }
    if (size & 1)
        out[size - 1] = planes[size - 1];
}
