/* What the scan of a header finds (headers.c). */
#ifndef FASTARCHIVE_HEADERS_H
#define FASTARCHIVE_HEADERS_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint32_t tag;
    uint16_t vr;
    uint16_t unused;
    uint32_t offset; /* of the value */
    uint32_t length;
} Found;

typedef struct {
    uint32_t count;      /* of elements found */
    uint32_t attributes; /* bytes copied */
    uint32_t pixel_tag;  /* 0: the data set has no pixel data */
    uint32_t pixel_vr;
    uint32_t pixel_length;
    uint32_t header_offset;
    uint32_t value_offset;
} Scan;

int fastarchive_header(const uint8_t *data, size_t size, const uint32_t *wanted, uint32_t wanted_count, uint32_t longest,
                       Found *found, uint8_t *attributes, Scan *scan);

#endif
