/*
 * zstd frames (RFC 8878) for filtered pixels: noise with runs of one byte in it.
 *
 * A general compressor looks for repetitions everywhere and finds them by chance; here only runs are looked for, eight
 * bytes at a time, and everything else goes through a Huffman code. Every zstd decoder reads the result.
 */
#include "frames.h"
#include "native.h"
#include "runs.h"

#define BLOCK FRAME_BLOCK
/* A run is stored as a sequence of some 11 bits. One that fills no aligned word is left to the Huffman code. */
#define SHORTEST_RUN 12
#define FEW_LITERALS 64
#define MOST_RUNS (BLOCK / SHORTEST_RUN)

enum { RAW_BLOCK, RLE_BLOCK, COMPRESSED_BLOCK };
enum { RAW_LITERALS, RLE_LITERALS, HUFFMAN_LITERALS, SAME_HUFFMAN_LITERALS };

typedef struct {
    uint32_t literals; /* before the run, its first byte among them: never 0 */
    uint32_t length;   /* of the match that repeats that byte */
} Run;

typedef struct {
    FseTable literal_lengths, match_lengths;
    uint8_t literal_codes[64], match_codes[131]; /* of short lengths */
    Run runs[MOST_RUNS];
    uint8_t literals[BLOCK];
} Scratch;

/* -- codes of literal and match lengths -------------------------------------------------------------------------- */

static unsigned code_of(const uint32_t *base, unsigned codes, uint32_t length)
{
    unsigned low = 0, high = codes;
    while (high - low > 1) {
        unsigned middle = (low + high) / 2;
        if (base[middle] <= length)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* Of long lengths each power of two has a code. */
static unsigned literal_code(const Scratch *scratch, uint32_t length)
{
    return length < 64 ? scratch->literal_codes[length] : highest_bit(length) + 19;
}

static unsigned match_code(const Scratch *scratch, uint32_t length)
{
    return length < 131 ? scratch->match_codes[length] : highest_bit(length - 3) + 36;
}

/* -- runs ------------------------------------------------------------------------------------------------------- */

#ifdef __AVX512BW__
#include <immintrin.h>

/* Whether one of the eight words at `data` is one byte eight times. */
static inline int has_uniform_word(const uint8_t *data)
{
    __m512i words = _mm512_loadu_si512(data);
    return _mm512_cmpeq_epi64_mask(words, _mm512_rol_epi64(words, 8)) != 0;
}

/* Where the run of `byte` that goes on at `last` ends. */
static inline const uint8_t *run_end(const uint8_t *last, const uint8_t *end, uint8_t byte)
{
    for (; end - last >= 64; last += 64) {
        uint64_t others = _mm512_cmpneq_epi8_mask(_mm512_loadu_si512(last), _mm512_set1_epi8((char)byte));
        if (others)
            return last + __builtin_ctzll(others);
    }
    while (last < end && *last == byte)
        last++;
    return last;
}

/* Count those of 64 bytes that are more than `width` above `low`, modulo 256. */
static inline void count_others(const uint8_t *data, uint8_t low, uint8_t width, uint32_t counts[256])
{
    __m512i above = _mm512_sub_epi8(_mm512_loadu_si512(data), _mm512_set1_epi8((char)low));
    uint64_t others = _mm512_cmpgt_epu8_mask(above, _mm512_set1_epi8((char)width));
    for (; others; others &= others - 1)
        counts[data[__builtin_ctzll(others)]]++;
}

#else

static inline int has_uniform_word(const uint8_t *data)
{
    uint64_t found = 0;
    for (int i = 0; i < 8; i++) {
        uint64_t word = load64(data + 8 * i);
        found |= word == (word << 8 | word >> 56);
    }
    return found != 0;
}

static inline const uint8_t *run_end(const uint8_t *last, const uint8_t *end, uint8_t byte)
{
    uint64_t word = byte * 0x0101010101010101u;
    while (last + 8 <= end && load64(last) == word)
        last += 8;
    while (last < end && *last == byte)
        last++;
    return last;
}

static inline void count_others(const uint8_t *data, uint8_t low, uint8_t width, uint32_t counts[256])
{
    uint8_t found = 0;
    for (int i = 0; i < 64; i++)
        found |= (uint8_t)(data[i] - low) > width;
    if (found)
        for (int i = 0; i < 64; i++)
            counts[data[i]] += (uint8_t)(data[i] - low) > width;
}

#endif

/* Find the runs of a block and gather what is between them; returns how many there are. */
static size_t find_runs(const uint8_t *data, size_t size, Run *runs, uint8_t *literals, size_t *literal_count)
{
    const uint8_t *end = data + size, *from = data;
    uint8_t *out = literals;
    size_t count = 0;
    for (const uint8_t *at = data; at + 16 <= end; at += 8) {
        while (at + 64 <= end && !has_uniform_word(at))
            at += 64;
        if (at + 8 > end)
            break;
        uint64_t word = load64(at);
        if (word != (word << 8 | word >> 56))
            continue;
        const uint8_t *first = at, *last = run_end(at + 8, end, *at);
        while (first > from && first[-1] == *at)
            first--;
        if (last - first < SHORTEST_RUN)
            continue;
        size_t before = (size_t)(first + 1 - from);
        memcpy(out, from, before);
        out += before;
        runs[count++] = (Run){(uint32_t)before, (uint32_t)(last - first - 1)};
        from = last;
        at += (last - at - 8) / 8 * 8; /* to the last word in the run; the loop goes beyond it */
    }
    if (count)
        memcpy(out, from, (size_t)(end - from));
    *literal_count = (size_t)(out + (end - from) - literals);
    return count;
}

/* The sequences section: `count` runs, all of them repeating the byte before (offset code 0 for all). */
static uint8_t *write_runs(const Scratch *scratch, size_t count, uint8_t *out)
{
    if (count < 128)
        *out++ = (uint8_t)count;
    else if (count < 0x7F00) {
        *out++ = (uint8_t)((count >> 8) + 128);
        *out++ = (uint8_t)count;
    } else {
        *out++ = 255;
        *out++ = (uint8_t)(count - 0x7F00);
        *out++ = (uint8_t)((count - 0x7F00) >> 8);
    }
    if (!count)
        return out;
    *out++ = 1 << 4; /* literal lengths and match lengths by the predefined tables, offset codes all the same: */
    *out++ = 0;
    const FseTable *of_literals = &scratch->literal_lengths, *of_matches = &scratch->match_lengths;
    unsigned literal_state = 0, match_state = 0;
    BitWriter bits = {0, 0, out};
    for (size_t i = count; i-- > 0;) {
        Run run = scratch->runs[i];
        unsigned literal = literal_code(scratch, run.literals), match = match_code(scratch, run.length);
        if (i == count - 1) {
            match_state = fse_first(of_matches, match);
            literal_state = fse_first(of_literals, literal);
        } else {
            match_state = fse_step(of_matches, match_state, match, &bits);
            literal_state = fse_step(of_literals, literal_state, literal, &bits);
        }
        bits_add(&bits, run.literals - LITERAL_BASE[literal], LITERAL_BITS[literal]);
        bits_add(&bits, run.length - MATCH_BASE[match], MATCH_BITS[match]);
        bits_flush(&bits);
    }
    fse_last(of_matches, match_state, &bits);
    fse_last(of_literals, literal_state, &bits);
    return bits_close(&bits);
}

/* -- literals --------------------------------------------------------------------------------------------------- */

#define SAMPLED (32u << 10)
#define STRETCH 64u /* bytes counted together, */
#define EVERY 9u    /* of so many times as many: odd, so that all columns of an image have their turn */

static void add_bytes(const uint8_t *data, size_t size, uint32_t tables[4][256])
{
    size_t i = 0;
    for (; i + 16 <= size; i += 16) {
        uint64_t a = load64(data + i), b = load64(data + i + 8);
        for (int byte = 0; byte < 64; byte += 16) {
            tables[0][(uint8_t)(a >> byte)]++;
            tables[1][(uint8_t)(a >> (byte + 8))]++;
            tables[2][(uint8_t)(b >> byte)]++;
            tables[3][(uint8_t)(b >> (byte + 8))]++;
        }
    }
    for (; i < size; i++)
        tables[0][data[i]]++;
}

/*
 * How often each byte occurs; of many bytes, estimated by some stretches, but never 0 for one that does occur.
 * Noise has its bytes side by side: those around the most frequent one are seen in the sample, and the few outside are
 * looked for.
 */
static void count_bytes(const uint8_t *data, size_t size, uint32_t counts[256])
{
    uint32_t tables[4][256] = {{0}}; /* four, so that equal bytes in a row don't wait for each other */
    if (size < SAMPLED)
        add_bytes(data, size, tables);
    else
        for (size_t at = 0; at + STRETCH <= size; at += EVERY * STRETCH)
            add_bytes(data + at, STRETCH, tables);
    int mode = 0;
    for (int s = 0; s < 256; s++) {
        counts[s] = tables[0][s] + tables[1][s] + tables[2][s] + tables[3][s];
        mode = counts[s] > counts[mode] ? s : mode;
    }
    if (size < SAMPLED)
        return;
    int low = mode, high = mode;
    while (low > 0 && counts[low - 1])
        low--;
    while (high < 255 && counts[high + 1])
        high++;
    for (int s = 0; s < 256; s++)
        counts[s] = s >= low && s <= high ? EVERY * counts[s] : 0;
    size_t at = 0;
    for (; at + 64 <= size; at += 64)
        count_others(data + at, (uint8_t)low, (uint8_t)(high - low), counts);
    for (; at < size; at++)
        counts[data[at]] += data[at] < low || data[at] > high;
}

/* A literals section header: type, size format, then sizes of `width` bits each. */
static uint8_t *literals_header(uint8_t *out, unsigned type, unsigned format, uint64_t sizes, unsigned bytes)
{
    uint64_t header = type | format << 2 | sizes << 4;
    memcpy(out, &header, 8);
    return out + bytes;
}

static uint8_t *write_plain_literals(const uint8_t *literals, size_t count, uint8_t *out)
{
    if (count < 32) { /* one byte: size formats 0 and 2 have one bit only */
        *out++ = (uint8_t)(RAW_LITERALS | count << 3);
    } else
        out = count < 4096 ? literals_header(out, RAW_LITERALS, 1, count, 2) : literals_header(out, RAW_LITERALS, 3, count, 3);
    memcpy(out, literals, count);
    return out + count;
}

/* The literals section of a block, in whichever way is shortest. */
static uint8_t *write_literals(Coder *coder, const uint8_t *literals, size_t count, uint8_t *out)
{
    uint32_t counts[256];
    if (count < FEW_LITERALS)
        return write_plain_literals(literals, count, out);
    count_bytes(literals, count, counts);
    HuffmanCode code;
    uint8_t description[128 + 2 * FLUSH_SLACK];
    size_t described = huffman_build(&code, counts) ? huffman_describe(&code, description) : 0;
    int new_code = described > 0;
    if (coder->has_code) {
        /* The last code again costs no description, if it has all the symbols. */
        int covers = 1;
        for (unsigned s = 0; s < 256; s++)
            covers &= !counts[s] | (coder->code.code[s] != 0);
        if (covers && (!new_code || huffman_cost(&coder->code, counts) <= huffman_cost(&code, counts) + 8 * described))
            new_code = 0;
        else if (!new_code)
            return write_plain_literals(literals, count, out);
    } else if (!new_code)
        return write_plain_literals(literals, count, out);
    const HuffmanCode *used = new_code ? &code : &coder->code;
    if (!new_code)
        described = 0;
    if (huffman_cost(used, counts) / 8 + described + 16 >= count)
        return write_plain_literals(literals, count, out);

    /* Four streams, the first three of the same length, so that a decoder can read them side by side. */
    uint8_t *start = out + 5, *at = start;
    memcpy(at, description, described);
    at += described;
    uint8_t *jumps = at;
    at += 6;
    size_t quarter = (count + 3) / 4;
    for (unsigned stream = 0; stream < 4; stream++) {
        uint8_t *end = huffman_stream(used, literals + stream * quarter, stream < 3 ? quarter : count - 3 * quarter, at);
        if (stream < 3) {
            uint16_t length = (uint16_t)(end - at);
            memcpy(jumps + 2 * stream, &length, 2);
        }
        at = end;
    }
    size_t stored = (size_t)(at - start);
    uint64_t sizes = count | (uint64_t)stored << 18;
    uint64_t header = (new_code ? HUFFMAN_LITERALS : SAME_HUFFMAN_LITERALS) | 3 << 2 | sizes << 4;
    memcpy(out, &header, 5);
    if (new_code) {
        coder->code = code;
        coder->has_code = 1;
    }
    return at;
}

/* -- blocks and frames ------------------------------------------------------------------------------------------ */

static size_t put_block_header(uint8_t *out, int last, unsigned type, size_t size)
{
    uint32_t header = (uint32_t)last | type << 1 | (uint32_t)size << 3;
    memcpy(out, &header, FRAME_BLOCK_HEAD);
    return FRAME_BLOCK_HEAD;
}

size_t frame_block(void *memory, Coder *coder, const uint8_t *data, size_t size, int last, uint8_t *out)
{
    Scratch *scratch = memory;
    size_t literal_count;
    if (!size)
        return put_block_header(out, last, RAW_BLOCK, 0);
    size_t runs = find_runs(data, size, scratch->runs, scratch->literals, &literal_count);
    if (runs == 1 && literal_count == 1 && scratch->runs[0].length + 1 == size) {
        out[put_block_header(out, last, RLE_BLOCK, size)] = data[0];
        return FRAME_BLOCK_HEAD + 1;
    }
    uint8_t *body = out + FRAME_BLOCK_HEAD;
    uint8_t *end = write_literals(coder, runs ? scratch->literals : data, literal_count, body);
    end = write_runs(scratch, runs, end);
    size_t stored = (size_t)(end - body);
    int compressed = stored < size;
    if (!compressed) {
        stored = size;
        memcpy(body, data, size);
        coder->has_code = 0; /* what a decoder never saw can't be repeated */
    }
    return put_block_header(out, last, compressed ? COMPRESSED_BLOCK : RAW_BLOCK, stored) + stored;
}

size_t frame_scratch(void)
{
    return sizeof(Scratch);
}

void frame_prepare(void *memory)
{
    Scratch *scratch = memory;
    fse_build(&scratch->literal_lengths, LITERAL_SHARES, 36, LENGTH_LOG);
    fse_build(&scratch->match_lengths, MATCH_SHARES, 53, LENGTH_LOG);
    for (unsigned length = 0; length < sizeof scratch->literal_codes; length++)
        scratch->literal_codes[length] = (uint8_t)code_of(LITERAL_BASE, 36, length);
    for (unsigned length = 0; length < sizeof scratch->match_codes; length++)
        scratch->match_codes[length] = (uint8_t)code_of(MATCH_BASE, 53, length);
}

size_t frame_head(uint8_t *out, size_t content)
{
    /* Magic number, then a header that says: one segment, content size in 4 bytes, no checksum, no dictionary. */
    static const uint8_t head[] = {0x28, 0xB5, 0x2F, 0xFD, 0xA0};
    uint32_t size = (uint32_t)content;
    memcpy(out, head, 5);
    memcpy(out + 5, &size, 4);
    return FRAME_HEAD;
}
