/* What is known of attributes, by tag. */
#ifndef FASTARCHIVE_KINDS_H
#define FASTARCHIVE_KINDS_H

#include "native.h"

typedef struct {
    const uint32_t *tags; /* ascending */
    const uint8_t *kinds; /* of each */
    size_t count;
} Kinds;

static inline uint8_t kind_of(const Kinds *kinds, uint32_t tag, uint8_t otherwise)
{
    size_t low = 0, high = kinds->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (kinds->tags[middle] < tag)
            low = middle + 1;
        else
            high = middle;
    }
    return low < kinds->count && kinds->tags[low] == tag ? kinds->kinds[low] : otherwise;
}

#endif
