/*
 * The filter ROWS for 16-bit samples (docs/format.md, "Filters"), and the frame of what it makes: both while the pixels
 * come in, in pieces of any size, so that each byte is worked on while it is in a cache.
 */
#include "frames.h"
#include "native.h"
#include "rows.h"

#define BIAS 0x0080008000800080u
/* Words filtered at a time: they stay in the first-level cache between the two steps. */
#define TILE 1024
#define LEAST_WINDOW (32u << 10)
/* Rows that come together and are not copied. */
#define WORTH_ROWS 4

/* Differences of `count` words to those `distance` words before. */
static void subtract_rows(const uint8_t *words, const uint8_t *before, size_t count, uint8_t *out)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t word, other, difference;
        memcpy(&word, words + 8 * i, 8);
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

static void filter_words(const uint8_t *words, size_t distance, size_t count, uint8_t *low, uint8_t *high)
{
    uint16_t tile[4 * TILE];
    for (size_t done = 0; done < count; done += TILE) {
        size_t some = count - done < TILE ? count - done : TILE;
        subtract_rows(words + 8 * done, words + 8 * done - 8 * distance, some, (uint8_t *)tile);
        split_samples(tile, 4 * some, low + 4 * done, high + 4 * done);
    }
}

/*
 * Pixels being filtered and compressed. Behind it in memory lie, at the offsets named: the window (the row before, then
 * pixels not filtered yet), a block of each plane, and the compressed blocks of each plane.
 */
typedef struct {
    size_t size;     /* bytes of pixels there will be */
    size_t come;     /* and have come */
    size_t distance; /* words of a row */
    size_t room;     /* bytes of the window after the row */
    size_t waiting;  /* of them taken */
    size_t each;     /* bytes of a plane in a block */
    size_t filled;   /* bytes in the blocks of both planes */
    size_t window, planes[2], out[2], written[2];
    Coder coders[2];
} Rows;

static size_t round_up(size_t size)
{
    return (size + 63) & ~(size_t)63;
}

/* How pixels are cut, and where everything is: the bytes of memory needed. */
static size_t lay_out(Rows *rows, size_t size, size_t distance)
{
    size_t plane = size - size / 2; /* the second one has the odd byte */
    memset(rows, 0, sizeof *rows);
    rows->size = size;
    /* What comes after fewer words than a row has none before it. */
    rows->distance = distance < size / 8 ? distance : size / 8;
    rows->room = 8 * rows->distance > LEAST_WINDOW ? round_up(8 * rows->distance) : LEAST_WINDOW;
    if (rows->room > round_up(size))
        rows->room = round_up(size);
    size_t blocks = (plane + FRAME_BLOCK - 1) / FRAME_BLOCK;
    rows->each = rows_each(size);
    size_t at = round_up(sizeof *rows);
    rows->window = at;
    at += round_up(8 * rows->distance + rows->room + 8);
    for (int p = 0; p < 2; p++) {
        rows->planes[p] = at;
        at += rows->each + 64;
    }
    for (int p = 0; p < 2; p++) {
        rows->out[p] = at;
        at += round_up(FRAME_HEAD + plane + FRAME_BLOCK_HEAD * (blocks + 2) + FRAME_TRIAL(rows->each));
    }
    return at;
}

/* Bytes of memory, aligned to 8, for `size` bytes of pixels with rows of `distance` words. */
EXPORT size_t fastarchive_rows_memory(size_t size, size_t distance)
{
    Rows rows;
    return lay_out(&rows, size, distance);
}

/* `size` bytes of 16-bit samples, `distance` 8-byte words a row, will come. */
EXPORT void fastarchive_rows_begin(void *memory, size_t size, size_t distance)
{
    Rows *rows = memory;
    lay_out(rows, size, distance);
    memset((uint8_t *)memory + rows->window, 0, 8 * rows->distance); /* before the first row: as if it were nothing */
    rows->written[0] = frame_head((uint8_t *)memory + rows->out[0], size);
}

/* The blocks of both planes are full, or the last ones: the second has `odd` bytes more. */
static void encode_planes(Rows *rows, void *scratch, int last, size_t odd)
{
    uint8_t *memory = (uint8_t *)rows;
    for (int p = 0; p < 2; p++) {
        size_t length = rows->filled + (p ? odd : 0);
        if (length || (last && p))
            rows->written[p] += frame_block(scratch, &rows->coders[p], memory + rows->planes[p], length, last && p,
                                            memory + rows->out[p] + rows->written[p]);
    }
    rows->filled = 0;
}

/* Filter `words` words, each of which has the one `distance` before it in memory, too. */
static void take_words(Rows *rows, void *scratch, const uint8_t *pixels, size_t words)
{
    uint8_t *memory = (uint8_t *)rows;
    for (size_t done = 0; done < words;) {
        if (rows->filled == rows->each)
            encode_planes(rows, scratch, 0, 0);
        size_t room = (rows->each - rows->filled) / 4, count = words - done < room ? words - done : room;
        filter_words(pixels + 8 * done, rows->distance, count, memory + rows->planes[0] + rows->filled,
                     memory + rows->planes[1] + rows->filled);
        rows->filled += 4 * count;
        done += count;
    }
}

/* Filter the whole words in the window; less than a word stays. */
static void empty_window(Rows *rows, void *scratch)
{
    uint8_t *window = (uint8_t *)rows + rows->window;
    size_t words = rows->waiting / 8;
    take_words(rows, scratch, window + 8 * rows->distance, words);
    memmove(window, window + 8 * words, 8 * rows->distance + rows->waiting % 8);
    rows->waiting %= 8;
}

/* Pixels by way of the window. */
static void take_copied(Rows *rows, void *scratch, const uint8_t *data, size_t size)
{
    while (size) {
        size_t some = rows->room - rows->waiting < size ? rows->room - rows->waiting : size;
        memcpy((uint8_t *)rows + rows->window + 8 * rows->distance + rows->waiting, data, some);
        rows->waiting += some;
        data += some;
        size -= some;
        if (rows->waiting == rows->room)
            empty_window(rows, scratch);
    }
}

/*
 * The next `size` bytes of pixels, from `data + start` on; no more than were announced are taken. `scratch` is fastarchive_scratch() bytes,
 * prepared, and nobody else's during the call.
 */
EXPORT void fastarchive_rows_feed(void *memory, void *scratch, const uint8_t *data, size_t start, size_t size)
{
    Rows *rows = memory;
    size_t row = 8 * rows->distance;
    data += start;
    if (size > rows->size - rows->come)
        size = rows->size - rows->come;
    rows->come += size;
    if (size > WORTH_ROWS * row + 8) {
        /* Only the first row has to meet the one before it in the window; the others are filtered where they are. */
        empty_window(rows, scratch);
        size_t first = row + -rows->waiting % 8;
        take_copied(rows, scratch, data, first);
        empty_window(rows, scratch);
        size_t words = (size - first) / 8;
        take_words(rows, scratch, data + first, words);
        data += first + 8 * words - row;
        size -= first + 8 * words;
        memcpy((uint8_t *)memory + rows->window, data, row);
        data += row;
    }
    take_copied(rows, scratch, data, size);
}

/*
 * No more pixels come, whether as many as announced have or fewer, but some. Returns the offset of their zstd frame in
 * `memory`, and its size in `*size`, which is at most 64 bytes and a thousandth more than theirs.
 */
EXPORT size_t fastarchive_rows_end(void *memory, void *scratch, size_t *size)
{
    Rows *rows = memory;
    uint8_t *start = memory, *low = start + rows->planes[0], *high = start + rows->planes[1];
    empty_window(rows, scratch);
    if (rows->waiting && rows->each - rows->filled < 4)
        encode_planes(rows, scratch, 0, 0);
    const uint8_t *rest = start + rows->window + 8 * rows->distance;
    for (; rows->waiting > 1; rows->waiting -= 2, rest += 2) { /* after the last whole word: as they are */
        low[rows->filled] = rest[0];
        high[rows->filled++] = rest[1];
    }
    if (rows->waiting)
        high[rows->filled] = *rest;
    encode_planes(rows, scratch, 1, rows->waiting);
    frame_head(start + rows->out[0], rows->come);
    memmove(start + rows->out[0] + rows->written[0], start + rows->out[1], rows->written[1]);
    *size = rows->written[0] + rows->written[1];
    return rows->out[0];
}

EXPORT size_t fastarchive_scratch(void)
{
    return frame_scratch();
}

EXPORT void fastarchive_scratch_prepare(void *scratch)
{
    frame_prepare(scratch);
}
