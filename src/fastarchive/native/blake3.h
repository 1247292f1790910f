/* BLAKE3 of data that is all there. */
#ifndef FASTARCHIVE_BLAKE3_H
#define FASTARCHIVE_BLAKE3_H

#include <stddef.h>
#include <stdint.h>

#define BLAKE3_MOST (128u << 10) /* bytes blake3() takes */

/* The 32 bytes of the digest of at most BLAKE3_MOST bytes. */
void blake3(const uint8_t *data, size_t size, uint8_t digest[32]);

#endif
