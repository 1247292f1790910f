/* What a plain data set consists of, as far as its record has to know (instance.c). */
#ifndef FASTARCHIVE_INSTANCE_H
#define FASTARCHIVE_INSTANCE_H

#include "headers.h"
#include "record.h"

#define BLOCK_SIZE (1u << 20) /* bytes of pixels in a block, and of a data set, at most */
#define MOST_WANTED 512u      /* tags */

typedef struct {
    const uint8_t *bytes;
    size_t length;
} Text;

/* Finds elements. */
typedef struct {
    uint32_t wanted_count;
    uint32_t wanted[MOST_WANTED]; /* tags, ascending */
    Found found[MOST_WANTED];
    uint8_t *attributes; /* where those that a record has are copied to */
} Finder;

/* What a record is made from. */
typedef struct {
    Scan scan;
    Text text[RECORD_STRINGS];
    size_t distance; /* 0: there are no pixels */
} Parts;

/*
 * Whether a data set of `total` bytes is a plain one that has nothing to be refused for, by its first `size` bytes; what it
 * consists of goes to `parts`. `strings`: the affected SOP class and instance, the transfer syntax and the two AE titles, with
 * these lengths. A `total` of 0 is not known yet: then it has to have pixels, which end it. Returns its size, or 0.
 */
size_t find_parts(Finder *finder, const uint8_t *data, size_t size, size_t total, const uint8_t *strings,
                  const uint8_t lengths[5], Parts *parts);

#endif
