/* 16-bit pixels filtered and compressed (rows.c). */
#ifndef FASTARCHIVE_ROWS_H
#define FASTARCHIVE_ROWS_H

#include "frames.h"

/* Bytes of a plane of `size` bytes of pixels in a block but the last: a word's samples lie in one block. */
static inline size_t rows_each(size_t size)
{
    size_t plane = size - size / 2; /* the second one has the odd byte */
    size_t blocks = (plane + FRAME_BLOCK - 1) / FRAME_BLOCK;
    return blocks ? ((plane + blocks - 1) / blocks + 63) & ~(size_t)63 : 0;
}

size_t fastarchive_rows_memory(size_t size, size_t distance);
size_t fastarchive_scratch(void);
void fastarchive_scratch_prepare(void *scratch);
void fastarchive_rows_begin(void *memory, size_t size, size_t distance);
void fastarchive_rows_feed(void *memory, void *scratch, const uint8_t *data, size_t start, size_t size);
size_t fastarchive_rows_end(void *memory, void *scratch, size_t *size);

#endif
