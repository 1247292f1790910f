/* The way back from entropy.c: what unpack.c needs to read literals and runs. Hostile input is told, never followed. */
#ifndef FASTARCHIVE_DECODING_H
#define FASTARCHIVE_DECODING_H

#include <stddef.h>
#include <stdint.h>

#define CODE_BITS 11 /* the longest Huffman code a literal may have (RFC 8878 4.2.1) */

/* What the next CODE_BITS bits stand for. */
typedef struct {
    uint32_t several[1 << CODE_BITS]; /* up to three symbols, a byte each, and how many they are in the highest byte */
    uint8_t taken[1 << CODE_BITS];    /* the bits they take */
    uint32_t one[1 << CODE_BITS];     /* the first of them: the bits it takes in the lowest byte, itself in the second */
} HuffmanTable;

/* Read the description of a code (4.2.1) from `size` bytes; its length, 0 if it is none. */
size_t huffman_read(HuffmanTable *table, const uint8_t *in, size_t size);

/* Four streams of `size` bytes in all with their jump table (4.2.2), `count` symbols, into `out`; whether they are
   right. Up to 8 bytes before `in` are read and not used. */
int huffman_unpack(const HuffmanTable *table, const uint8_t *in, size_t size, uint8_t *out, size_t count);

/* An FSE decoding table (4.1) of at most 64 states. */
typedef struct {
    unsigned log;
    uint8_t symbol[64], bits[64];
    uint16_t base[64];
} FseReader;

/* `counts` sum to 1 << log, -1 standing for "less than one". */
void fse_reader(FseReader *reader, const int8_t *counts, unsigned symbols, unsigned log);

/* Bits read from the last one back; `left` falls below zero when more are asked for than there are. */
typedef struct {
    const uint8_t *start;
    size_t size;
    int64_t left;
} BitReader;

/* A stream of `size` bytes, up to its closing 1 bit; 0 if it has none. */
static inline int bits_open(BitReader *bits, const uint8_t *start, size_t size)
{
    if (size == 0 || start[size - 1] == 0)
        return 0;
    *bits = (BitReader){start, size, (int64_t)(8 * size) - 8 + (31 - __builtin_clz(start[size - 1]))};
    return 1;
}

/* The next `count` bits, at most 16; those before the first one are zero. */
static inline unsigned bits_take(BitReader *bits, unsigned count)
{
    bits->left -= count;
    int64_t from = bits->left >> 3;
    uint32_t window = 0;
    for (int i = 0; i < 3; i++)
        if (from + i >= 0 && (size_t)(from + i) < bits->size)
            window |= (uint32_t)bits->start[from + i] << 8 * i;
    return window >> (bits->left & 7) & ((1u << count) - 1);
}

#endif
