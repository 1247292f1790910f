/* The filter ROWS for 16-bit samples (docs/format.md, "Filters"), and the frame of what it makes. */
#include "native.h"

#define BIAS 0x0080008000800080u
/* Words filtered at a time: they stay in the first-level cache between the two steps. */
#define TILE 1024

/* Differences of `count` words to those `distance` words before; NULL: there are none before. */
static void subtract_rows(const uint8_t *words, const uint8_t *before, size_t count, uint8_t *out)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t word, other = 0, difference;
        memcpy(&word, words + 8 * i, 8);
        if (before)
            memcpy(&other, before + 8 * i, 8);
        difference = word - other + BIAS;
        memcpy(out + 8 * i, &difference, 8);
    }
}

static void split_samples(const uint16_t *samples, size_t count, uint8_t *low, uint8_t *high)
{
    for (size_t i = 0; i < count; i++) {
        low[i] = (uint8_t)samples[i];
        high[i] = (uint8_t)(samples[i] >> 8);
    }
}

/* `size` bytes filtered into `out`, which has as many. */
static void filter_rows(const uint8_t *data, size_t size, size_t distance, uint8_t *out)
{
    uint16_t tile[4 * TILE];
    size_t words = size / 8, samples = size / 2;
    for (size_t word = 0; word < words;) {
        size_t count = words - word < TILE ? words - word : TILE;
        if (word < distance) {
            count = distance - word < count ? distance - word : count;
            subtract_rows(data + 8 * word, NULL, count, (uint8_t *)tile);
        } else
            subtract_rows(data + 8 * word, data + 8 * (word - distance), count, (uint8_t *)tile);
        split_samples(tile, 4 * count, out + 4 * word, out + samples + 4 * word);
        word += count;
    }
    for (size_t sample = 4 * words; sample < samples; sample++) { /* after the last whole word: as they are */
        out[sample] = data[2 * sample];
        out[samples + sample] = data[2 * sample + 1];
    }
    if (size & 1)
        out[size - 1] = data[size - 1];
}

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

/* What filter_rows() was given, `size` bytes, into `out`. */
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

/* Bytes of memory that fastarchive_pixels() works in for `size` bytes of pixels. */
EXPORT size_t fastarchive_pixels_work(size_t size)
{
    return frame_work() + size;
}

/*
 * Filter `size` bytes of 16-bit samples, `distance` 8-byte words a row, and compress them into `out` as one zstd frame.
 * `work` is fastarchive_pixels_work(size) bytes, aligned to 8. Returns the frame's size, 0 if it would be longer than
 * `capacity`.
 */
EXPORT size_t fastarchive_pixels(const uint8_t *data, size_t size, size_t distance, void *work, uint8_t *out,
                                 size_t capacity)
{
    uint8_t *planes = (uint8_t *)work + frame_work();
    filter_rows(data, size, distance, planes);
    return frame_encode(planes, size, size / 2, work, out, capacity);
}
