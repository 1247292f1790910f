/* 16-bit pixels filtered and compressed (rows.c). */
#ifndef FASTARCHIVE_ROWS_H
#define FASTARCHIVE_ROWS_H

#include <stddef.h>
#include <stdint.h>

size_t fastarchive_rows_memory(size_t size, size_t distance);
size_t fastarchive_scratch(void);
void fastarchive_scratch_prepare(void *scratch);
void fastarchive_rows_begin(void *memory, size_t size, size_t distance);
void fastarchive_rows_feed(void *memory, void *scratch, const uint8_t *data, size_t start, size_t size);
size_t fastarchive_rows_end(void *memory, void *scratch, size_t *size);

#endif
