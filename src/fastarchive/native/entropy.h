/* Entropy coding of the zstd frame format (RFC 8878): what frames.c needs of it. */
#ifndef FASTARCHIVE_ENTROPY_H
#define FASTARCHIVE_ENTROPY_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline unsigned highest_bit(uint32_t value)
{
    return 31 - (unsigned)__builtin_clz(value);
}

/* Bits are written from the lowest up; decoders read them from the last one back. */
typedef struct {
    uint64_t held;
    unsigned count; /* bits in `held`, fewer than 8 after bits_flush() */
    uint8_t *next;
} BitWriter;

/* What bits_flush() may write beyond the bits it has: every output buffer is that much larger than its limit. */
#define FLUSH_SLACK 8

static inline void bits_add(BitWriter *bits, uint64_t value, unsigned count)
{
    bits->held |= value << bits->count;
    bits->count += count;
}

/* To be called before more than 64 bits would be held. */
static inline void bits_flush(BitWriter *bits)
{
    unsigned whole = bits->count >> 3;
    memcpy(bits->next, &bits->held, 8); /* little endian machines only: see native.h */
    bits->next += whole;
    bits->held = whole == 8 ? 0 : bits->held >> (whole * 8);
    bits->count &= 7;
}

/* The closing 1 bit, by which a decoder finds the last one. */
static inline uint8_t *bits_close(BitWriter *bits)
{
    bits_add(bits, 1, 1);
    bits_flush(bits);
    return bits->next + (bits->count > 0);
}

/* An FSE encoding table (RFC 8878 4.1) of at most 64 states. */
#define FSE_STATES 64
#define FSE_SYMBOLS 53

typedef struct {
    unsigned log;
    uint16_t next[FSE_STATES];
    struct {
        int32_t find;
        uint32_t bits;
    } symbol[FSE_SYMBOLS];
} FseTable;

/* `counts` sum to 1 << log, -1 standing for "less than one". */
void fse_build(FseTable *table, const int8_t *counts, unsigned symbols, unsigned log);

static inline unsigned fse_first(const FseTable *table, unsigned symbol)
{
    uint32_t bits = table->symbol[symbol].bits;
    unsigned count = (bits + (1u << 15)) >> 16;
    uint32_t value = (count << 16) - bits;
    return table->next[(int32_t)(value >> count) + table->symbol[symbol].find];
}

static inline unsigned fse_step(const FseTable *table, unsigned state, unsigned symbol, BitWriter *bits)
{
    unsigned count = (state + table->symbol[symbol].bits) >> 16;
    bits_add(bits, state & ((1u << count) - 1), count);
    return table->next[(int32_t)(state >> count) + table->symbol[symbol].find];
}

static inline void fse_last(const FseTable *table, unsigned state, BitWriter *bits)
{
    bits_add(bits, state & ((1u << table->log) - 1), table->log);
}

/* A Huffman code of literals (RFC 8878 4.2), at most 11 bits a symbol. */
typedef struct {
    uint32_t code[256]; /* the code in the low half, its length in the high half; 0: the symbol has none */
    unsigned last;      /* the highest symbol that occurs */
    unsigned longest;
} HuffmanCode;

/* The best code for these counts; 0 when fewer than two symbols occur. */
int huffman_build(HuffmanCode *code, const uint32_t counts[256]);
/* Bits that symbols of these counts take. */
uint64_t huffman_cost(const HuffmanCode *code, const uint32_t counts[256]);
/* The description of the code (4.2.1) into at most 128 bytes + FLUSH_SLACK: its length, 0 if it can't be described. */
size_t huffman_describe(const HuffmanCode *code, uint8_t *out);
/* One stream of symbols (4.2.2), in streams.c; `out` has room for 11 bits each and 64 bytes. Returns its end. */
uint8_t *huffman_stream(const HuffmanCode *code, const uint8_t *symbols, size_t count, uint8_t *out);

#endif
