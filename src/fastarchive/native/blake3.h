/* BLAKE3 of data that comes in pieces, or is all there. */
#ifndef FASTARCHIVE_BLAKE3_H
#define FASTARCHIVE_BLAKE3_H

#include <stddef.h>
#include <stdint.h>

/* Chunks of 1 KB worked on side by side: one in each lane of the widest vectors there are. */
#if defined(__AVX512F__)
#define BLAKE3_LANES 16u
#elif defined(__AVX2__)
#define BLAKE3_LANES 8u
#else
#define BLAKE3_LANES 4u
#endif
#define BLAKE3_LEVELS 32 /* of the tree: 4 TB of data */

/* A chaining value of 32 bytes. Two of them are the message of their parent. */
typedef struct {
    uint32_t word[8];
} Chaining;

/* Data being hashed. */
typedef struct {
    uint64_t chunks;                                /* taken in: a multiple of the lanes */
    size_t waiting;                                 /* bytes that come after them, in `rest` */
    size_t values[BLAKE3_LEVELS];                   /* of the chunks taken in, at each level of the tree: none, or one in each lane */
    Chaining level[BLAKE3_LEVELS][2 * BLAKE3_LANES];
    uint8_t rest[BLAKE3_LANES << 10];
} Blake3;

void blake3_begin(Blake3 *state);
/* The next `size` bytes; quickest in pieces of many KB. */
void blake3_add(Blake3 *state, const uint8_t *data, size_t size);
/* The 32 bytes of the digest of all of them. Nothing may follow. */
void blake3_end(Blake3 *state, uint8_t digest[32]);
/* The same for data that is all there. */
void blake3(const uint8_t *data, size_t size, uint8_t digest[32]);

#endif
