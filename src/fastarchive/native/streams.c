/* Streams of Huffman codes (RFC 8878 section 4.2.2): the last symbol first. */
#include "entropy.h"
#include "native.h"

/* Write the symbols from `at` down to `symbols`, the last of them first. */
static void write_symbols(const uint32_t *table, const uint8_t *symbols, const uint8_t *at, BitWriter *bits)
{
    while ((at - symbols) % 5) {
        uint32_t entry = table[*--at];
        bits_add(bits, entry & 0xFFFF, entry >> 16);
    }
    bits_flush(bits);
    while (at > symbols) {
        /* 5 symbols of 11 bits and the 7 that may be left: 62. Joined in pairs first, which shortens the chain. */
        uint32_t a = table[at[-1]], b = table[at[-2]], c = table[at[-3]], d = table[at[-4]], e = table[at[-5]];
        uint64_t ab = (a & 0xFFFF) | (uint64_t)(b & 0xFFFF) << (a >> 16);
        uint64_t cd = (c & 0xFFFF) | (uint64_t)(d & 0xFFFF) << (c >> 16);
        unsigned ab_count = (a >> 16) + (b >> 16), cd_count = (c >> 16) + (d >> 16);
        uint64_t cde = cd | (uint64_t)(e & 0xFFFF) << cd_count;
        bits_add(bits, ab, ab_count);
        bits_add(bits, cde, cd_count + (e >> 16));
        bits_flush(bits);
        at -= 5;
    }
}

#ifdef __AVX512VBMI2__
#include <immintrin.h>

/*
 * 64 symbols at a time, looked up in tables that are in registers. Their codes are joined to eight groups of eight symbols, a
 * group in each lane; where in its first byte each group begins is added up, and the bytes of all of them are brought together
 * and stored at once.
 */

typedef struct {
    __m512i quarter[4];
} ByteTable;

static inline __m512i look_up(const ByteTable *table, __m512i symbols, __mmask64 upper)
{
    __m512i low = _mm512_permutex2var_epi8(table->quarter[0], symbols, table->quarter[1]);
    __m512i high = _mm512_permutex2var_epi8(table->quarter[2], symbols, table->quarter[3]);
    return _mm512_mask_blend_epi8(upper, low, high);
}

/* 32 codes in the low 11 bits of a word each, their lengths above, joined to 8 of at most 44 bits. */
static inline void join(__m512i words, __m512i *codes, __m512i *lengths)
{
    const __m512i one = _mm512_set1_epi16(1), low32 = _mm512_set1_epi64(0xFFFFFFFF);
    /* Of two words the first code times 1, and the second times 2 for each bit of the first. */
    __m512i length = _mm512_srli_epi16(words, 11);
    __m512i factors = _mm512_sllv_epi16(one, _mm512_slli_epi32(length, 16));
    __m512i pairs = _mm512_madd_epi16(_mm512_and_si512(words, _mm512_set1_epi16(0x7FF)), factors);
    length = _mm512_madd_epi16(length, one);
    __m512i first = _mm512_and_si512(length, low32);
    *codes = _mm512_or_si512(_mm512_and_si512(pairs, low32), _mm512_sllv_epi64(_mm512_srli_epi64(pairs, 32), first));
    *lengths = _mm512_add_epi64(first, _mm512_srli_epi64(length, 32));
}

/* A stream between two groups. */
typedef struct {
    __m512i held;  /* in the last lane: the bits of the byte that is not full yet */
    __m512i count; /* of those, in every lane */
    uint8_t *next;
} GroupWriter;

/* Eight groups of 8 to 63 bits. As none is shorter than a byte, what one has in the byte it begins in is from the one before it. */
static inline void add_groups(GroupWriter *groups, __m512i codes, __m512i lengths)
{
    const __m512i zero = _mm512_setzero_si512(), seven = _mm512_set1_epi64(7);
    __m512i sum = lengths;
    sum = _mm512_add_epi64(sum, _mm512_alignr_epi64(sum, zero, 7));
    sum = _mm512_add_epi64(sum, _mm512_alignr_epi64(sum, zero, 6));
    sum = _mm512_add_epi64(sum, _mm512_alignr_epi64(sum, zero, 4));
    __m512i end = _mm512_add_epi64(sum, groups->count), start = _mm512_sub_epi64(end, lengths);
    __m512i held = _mm512_srlv_epi64(codes, _mm512_sub_epi64(lengths, _mm512_and_si512(end, seven)));
    __m512i bytes = _mm512_sllv_epi64(codes, _mm512_and_si512(start, seven));
    bytes = _mm512_or_si512(bytes, _mm512_alignr_epi64(held, groups->held, 7));
    /* Of each lane the bytes that are full: as many as there are borders of bytes from its start to its end. */
    __m512i full = _mm512_sub_epi64(_mm512_andnot_si512(seven, end), _mm512_andnot_si512(seven, start));
    full = _mm512_srlv_epi64(_mm512_set1_epi64(-1), _mm512_sub_epi64(_mm512_set1_epi64(64), full));
    __mmask64 stored = _mm512_movepi8_mask(full);
    _mm512_storeu_si512(groups->next, _mm512_maskz_compress_epi8(stored, bytes));
    groups->next += __builtin_popcountll(stored);
    groups->held = held;
    groups->count = _mm512_and_si512(_mm512_add_epi64(_mm512_permutexvar_epi64(seven, sum), groups->count), seven);
}

static inline BitWriter single_bits(const GroupWriter *groups)
{
    __m512i last = _mm512_permutexvar_epi64(_mm512_set1_epi64(7), groups->held);
    return (BitWriter){
        (uint64_t)_mm_cvtsi128_si64(_mm512_castsi512_si128(last)),
        (unsigned)_mm_cvtsi128_si64(_mm512_castsi512_si128(groups->count)),
        groups->next,
    };
}

uint8_t *huffman_stream(const HuffmanCode *code, const uint8_t *symbols, size_t count, uint8_t *out)
{
    uint8_t bytes[2][256], order[64];
    ByteTable low, rest; /* 8 bits of the code; its other 3 with 4 bits of its length above them */
    for (int s = 0; s < 256; s++) {
        bytes[0][s] = (uint8_t)code->code[s];
        bytes[1][s] = (uint8_t)((code->code[s] >> 8 & 7) | code->code[s] >> 16 << 3);
    }
    /* Backwards, and fours in turn to both halves of each 16 bytes, so that the first of eight meets the second. */
    for (int i = 0; i < 64; i++)
        order[(i >> 4) * 16 + (i & 4) * 2 + (i >> 3 & 1) * 4 + (i & 3)] = (uint8_t)(63 - i);
    for (int q = 0; q < 4; q++) {
        low.quarter[q] = _mm512_loadu_si512(bytes[0] + 64 * q);
        rest.quarter[q] = _mm512_loadu_si512(bytes[1] + 64 * q);
    }
    const __m512i reverse = _mm512_loadu_si512(order), most = _mm512_set1_epi64(63);
    const uint8_t *at = symbols + count;
    GroupWriter groups = {_mm512_setzero_si512(), _mm512_setzero_si512(), out};
    for (; at - symbols >= 64; at -= 64) {
        __m512i codes[2], lengths[2];
        __m512i read = _mm512_permutexvar_epi8(reverse, _mm512_loadu_si512(at - 64));
        __mmask64 upper = _mm512_movepi8_mask(read);
        __m512i words = look_up(&low, read, upper), others = look_up(&rest, read, upper);
        join(_mm512_unpacklo_epi8(words, others), &codes[0], &lengths[0]);
        join(_mm512_unpackhi_epi8(words, others), &codes[1], &lengths[1]);
        __m512i both = _mm512_add_epi64(lengths[0], lengths[1]);
        if (__builtin_expect(_mm512_cmpgt_epu64_mask(both, most) == 0, 1)) {
            add_groups(&groups, _mm512_or_si512(codes[0], _mm512_sllv_epi64(codes[1], lengths[0])), both);
            continue;
        }
        BitWriter bits = single_bits(&groups);
        write_symbols(code->code, at - 64, at, &bits);
        groups = (GroupWriter){_mm512_set1_epi64((int64_t)bits.held), _mm512_set1_epi64(bits.count), bits.next};
    }
    BitWriter bits = single_bits(&groups);
    write_symbols(code->code, symbols, at, &bits);
    return bits_close(&bits);
}

#else

uint8_t *huffman_stream(const HuffmanCode *code, const uint8_t *symbols, size_t count, uint8_t *out)
{
    BitWriter bits = {0, 0, out};
    write_symbols(code->code, symbols, symbols + count, &bits);
    return bits_close(&bits);
}

#endif
