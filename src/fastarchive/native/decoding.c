/* Reading Huffman and FSE codes as the zstd frame format has them (RFC 8878 section 4). */
#include "decoding.h"
#include "native.h"

#define ENTRIES (1u << CODE_BITS)
#define WEIGHT_LOG 6
#define WEIGHTS 12

static inline unsigned highest_bit(uint32_t value)
{
    return 31 - (unsigned)__builtin_clz(value);
}

void fse_reader(FseReader *reader, const int8_t *counts, unsigned symbols, unsigned log)
{
    unsigned size = 1u << log, mask = size - 1, step = (size >> 1) + (size >> 3) + 3;
    unsigned high = size - 1, position = 0;
    uint16_t next[64];

    reader->log = log;
    for (unsigned s = 0; s < symbols; s++) {
        next[s] = (uint16_t)(counts[s] == -1 ? 1 : counts[s]);
        if (counts[s] == -1)
            reader->symbol[high--] = (uint8_t)s;
    }
    for (unsigned s = 0; s < symbols; s++)
        for (int n = 0; n < counts[s]; n++) {
            reader->symbol[position] = (uint8_t)s;
            do
                position = (position + step) & mask;
            while (position > high);
        }
    for (unsigned state = 0; state < size; state++) {
        unsigned at = next[reader->symbol[state]]++;
        reader->bits[state] = (uint8_t)(log - highest_bit(at));
        reader->base[state] = (uint16_t)((at << reader->bits[state]) - size);
    }
}

/* -- Huffman: the description ----------------------------------------------------------------------------------- */

/* Bits of a description of shares (RFC 8878 4.1.1), which are read from the first one on. */
typedef struct {
    const uint8_t *in;
    size_t size, at; /* `at` counts bits */
} Forward;

static unsigned peek(const Forward *bits, unsigned count)
{
    uint32_t window = 0;
    for (size_t i = 0; i < 3; i++)
        if ((bits->at >> 3) + i < bits->size)
            window |= (uint32_t)bits->in[(bits->at >> 3) + i] << 8 * i;
    return window >> (bits->at & 7) & ((1u << count) - 1);
}

/* The shares of weights: bytes they take, 0 if they are none. */
static size_t read_shares(const uint8_t *in, size_t size, int8_t shares[WEIGHTS], unsigned *log)
{
    Forward bits = {in, size, 4};
    *log = (size ? in[0] & 15u : 15u) + 5;
    if (*log > WEIGHT_LOG)
        return 0;
    int remaining = (1 << *log) + 1, threshold = 1 << *log;
    unsigned width = *log + 1, symbol = 0;
    memset(shares, 0, WEIGHTS);
    while (remaining > 1) {
        int most = 2 * threshold - 1 - remaining;
        int value = (int)peek(&bits, width);
        if ((value & (threshold - 1)) < most) {
            value &= threshold - 1;
            bits.at += width - 1;
        } else {
            if (value >= threshold)
                value -= most;
            bits.at += width;
        }
        int share = value - 1;
        remaining -= share < 0 ? 1 : share;
        if (symbol >= WEIGHTS || remaining < 1 || bits.at > 8 * size)
            return 0;
        shares[symbol++] = (int8_t)share;
        if (share == 0) {
            unsigned zeroes;
            do {
                zeroes = peek(&bits, 2);
                bits.at += 2;
                symbol += zeroes;
            } while (zeroes == 3 && symbol < WEIGHTS);
        }
        while (remaining < threshold) {
            width--;
            threshold >>= 1;
        }
    }
    return bits.at > 8 * size ? 0 : (bits.at + 7) / 8;
}

/* Weights coded by FSE, two states taking turns; how many there are, 0 if they are not right. */
static unsigned read_weights(const uint8_t *in, size_t size, uint8_t weights[256])
{
    int8_t shares[WEIGHTS];
    unsigned log;
    size_t described = read_shares(in, size, shares, &log);
    BitReader bits;
    if (!described || !bits_open(&bits, in + described, size - described))
        return 0;
    FseReader reader;
    fse_reader(&reader, shares, WEIGHTS, log);
    unsigned state[2], count = 0;
    state[0] = bits_take(&bits, log);
    state[1] = bits_take(&bits, log);
    if (bits.left < 0)
        return 0;
    for (;;) {
        unsigned *turn = &state[count & 1];
        if (count >= 254)
            return 0;
        weights[count++] = reader.symbol[*turn];
        *turn = reader.base[*turn] + bits_take(&bits, reader.bits[*turn]);
        if (bits.left < 0) { /* this state has no further symbol, the other one has its last */
            weights[count] = reader.symbol[state[count & 1]];
            return count + 1;
        }
    }
}

/* The table of single symbols from weights, the last of which follows from the others; whether they make a code. */
static int fill_single(HuffmanTable *table, uint8_t weights[256], unsigned count)
{
    uint32_t total = 0, of_weight[CODE_BITS + 2] = {0};
    for (unsigned s = 0; s < count; s++) {
        if (weights[s] > CODE_BITS)
            return 0;
        of_weight[weights[s]]++;
        total += 1u << weights[s] >> 1;
    }
    if (total == 0)
        return 0;
    unsigned longest = highest_bit(total) + 1;
    uint32_t rest = (1u << longest) - total;
    if (longest > CODE_BITS || (rest & (rest - 1)))
        return 0;
    weights[count] = (uint8_t)(highest_bit(rest) + 1);
    of_weight[weights[count]]++;
    /* The lightest symbols, which have the longest codes, come first; codes shorter than CODE_BITS fill more entries. */
    uint32_t first[CODE_BITS + 2], at = 0;
    unsigned scale = CODE_BITS - longest;
    for (unsigned w = 1; w <= longest; w++) {
        first[w] = at;
        at += of_weight[w] << (w - 1 + scale);
    }
    if (at != ENTRIES)
        return 0;
    for (unsigned s = 0; s <= count; s++) {
        unsigned w = weights[s];
        if (!w)
            continue;
        uint32_t entry = (longest + 1 - w) | s << 8;
        uint32_t entries = 1u << (w - 1 + scale);
        for (uint32_t i = 0; i < entries; i++)
            table->one[first[w] + i] = entry;
        first[w] += entries;
    }
    return 1;
}

/* Join the symbols that CODE_BITS bits hold, at most three. Written so that vectors do for it. */
static void join_symbols(const uint32_t *restrict one, uint32_t *restrict several)
{
    for (uint32_t i = 0; i < ENTRIES; i++) {
        uint32_t first = one[i], taken = first & 255;
        uint32_t second = one[(i << taken) & (ENTRIES - 1)], with_second = taken + (second & 255);
        uint32_t third = one[(i << with_second) & (ENTRIES - 1)], with_third = with_second + (third & 255);
        uint32_t two = with_second <= CODE_BITS, three = with_third <= CODE_BITS;
        uint32_t bits = three ? with_third : two ? with_second : taken;
        several[i] = first >> 8 | (second & 0xFF00) | (third & 0xFF00) << 8 | (1 + two + three) << 24 | bits << 26;
    }
}

static void split_taken(uint32_t *restrict several, uint8_t *restrict taken)
{
    for (uint32_t i = 0; i < ENTRIES; i++) {
        taken[i] = (uint8_t)(several[i] >> 26);
        several[i] &= 0x3FFFFFF;
    }
}

size_t huffman_read(HuffmanTable *table, const uint8_t *in, size_t size)
{
    uint8_t weights[256] = {0};
    if (size < 2)
        return 0;
    unsigned count, head = in[0];
    size_t length;
    if (head < 128) {
        length = head;
        if (1 + length > size)
            return 0;
        count = read_weights(in + 1, length, weights);
    } else { /* half a byte each */
        count = head - 127;
        length = (count + 1) / 2;
        if (1 + length > size)
            return 0;
        for (unsigned s = 0; s < count; s++)
            weights[s] = s & 1 ? in[1 + s / 2] & 15 : in[1 + s / 2] >> 4;
    }
    if (count < 1 || count > 255 || !fill_single(table, weights, count))
        return 0;
    join_symbols(table->one, table->several);
    split_taken(table->several, table->taken);
    return 1 + length;
}

/* -- Huffman: the streams --------------------------------------------------------------------------------------- */

/* One of four streams under way, which is read backwards. `held` has `valid` bits to come at its top; what is below them
   is nothing or the same that will be loaded there. */
typedef struct {
    const uint8_t *start, *next; /* the byte before `next` is the one to load */
    uint8_t *out, *end;
    uint64_t held;
    unsigned valid;
} Stream;

/* Lookups between two loads: whole bytes are loaded, so that 56 bits at least are there for them. */
#define LOOKUPS 5
#define MOST_BYTES 7                   /* of a stream that so many lookups take */
#define MOST_SYMBOLS (3 * LOOKUPS + 1) /* of what they write, a byte more than they say */

/* Shifting by a register that isn't known to be constant takes one instruction instead of two. */
#define OPAQUE(value) __asm__("" : "+r"(value))

/* Some streams side by side, as far as none of them can come to an end: one waits for its table where another works. */
static inline __attribute__((always_inline)) void run_side_by_side(const HuffmanTable *table, Stream *streams[4], int lanes)
{
    uint64_t held[4];
    unsigned valid[4];
    const uint8_t *next[4];
    uint8_t *out[4];
    unsigned top = 64 - CODE_BITS;
    OPAQUE(top);
#pragma GCC unroll 4
    for (int i = 0; i < lanes; i++) {
        held[i] = streams[i]->held;
        valid[i] = streams[i]->valid;
        next[i] = streams[i]->next;
        out[i] = streams[i]->out;
    }
    for (;;) {
        ptrdiff_t rounds = PTRDIFF_MAX;
#pragma GCC unroll 4
        for (int i = 0; i < lanes; i++) {
            ptrdiff_t by_bytes = (next[i] - streams[i]->start) / MOST_BYTES, by_room = (streams[i]->end - out[i]) / MOST_SYMBOLS;
            rounds = by_bytes < rounds ? by_bytes : rounds;
            rounds = by_room < rounds ? by_room : rounds;
        }
        if (rounds <= 0)
            break;
        do {
            /* Where to load from was known a round ago: nothing waits for it. */
#pragma GCC unroll 4
            for (int i = 0; i < lanes; i++) {
                held[i] |= load64(next[i] - 8) >> valid[i];
                next[i] -= (63 - valid[i]) >> 3;
                valid[i] |= 56;
            }
#pragma GCC unroll 5
            for (int lookup = 0; lookup < LOOKUPS; lookup++)
#pragma GCC unroll 4
                for (int i = 0; i < lanes; i++) {
                    uint64_t bits = held[i] >> top;
                    unsigned taken = table->taken[bits];
                    uint32_t symbols = table->several[bits];
                    memcpy(out[i], &symbols, 4);
                    held[i] <<= taken & 63;
                    valid[i] -= taken;
                    out[i] += symbols >> 24;
                }
        } while (--rounds);
    }
#pragma GCC unroll 4
    for (int i = 0; i < lanes; i++)
        *streams[i] = (Stream){streams[i]->start, next[i], out[i], streams[i]->end, held[i], valid[i]};
}

static void run_four(const HuffmanTable *table, Stream *streams[4])
{
    run_side_by_side(table, streams, 4);
}

static void run_three(const HuffmanTable *table, Stream *streams[4])
{
    run_side_by_side(table, streams, 3);
}

static void run_two(const HuffmanTable *table, Stream *streams[4])
{
    run_side_by_side(table, streams, 2);
}

static void run_one(const HuffmanTable *table, Stream *streams[4])
{
    run_side_by_side(table, streams, 1);
}

/* All four, fewer and fewer of them: what is coded in few bits is done with after few lookups. */
static void run_streams(const HuffmanTable *table, Stream streams[4])
{
    static void (*const run[])(const HuffmanTable *, Stream *[4]) = {run_one, run_two, run_three, run_four};
    Stream *going[4] = {&streams[0], &streams[1], &streams[2], &streams[3]};
    for (int count = 4; count;) {
        run[count - 1](table, going);
        int left = 0;
        for (int i = 0; i < count; i++)
            if (going[i]->next - going[i]->start >= MOST_BYTES && going[i]->end - going[i]->out >= MOST_SYMBOLS)
                going[left++] = going[i];
        count = left;
    }
}

/* The rest of a stream, bit by bit counted; whether it ends where it should. */
static int finish_stream(const uint32_t *one, Stream *stream)
{
    int64_t left = 8 * (stream->next - stream->start) + stream->valid;
    const uint8_t *start = stream->start;
    while (stream->out < stream->end) {
        if (left <= 0)
            return 0;
        int64_t last = (left - 1) >> 3;
        uint32_t window = (uint32_t)start[last] << 16;
        if (last > 0)
            window |= (uint32_t)start[last - 1] << 8;
        if (last > 1)
            window |= start[last - 2];
        uint32_t entry = one[(window << (8 * (last + 1) - left) & 0xFFFFFF) >> (24 - CODE_BITS)];
        left -= entry & 255;
        *stream->out++ = (uint8_t)(entry >> 8);
    }
    return left == 0;
}

int huffman_unpack(const HuffmanTable *table, const uint8_t *in, size_t size, uint8_t *out, size_t count)
{
    if (size < 6 + 4 || count < 4)
        return 0;
    size_t quarter = (count + 3) / 4, position = 6;
    if (3 * quarter > count)
        return 0;
    Stream streams[4];
    for (unsigned i = 0; i < 4; i++) {
        size_t length = i < 3 ? in[2 * i] | (size_t)in[2 * i + 1] << 8 : size - position;
        if (length == 0 || length > size - position)
            return 0;
        const uint8_t *start = in + position, *end = start + length;
        if (end[-1] == 0)
            return 0;
        unsigned closing = 8 - highest_bit(end[-1]);
        uint8_t *stop = i < 3 ? out + (i + 1) * quarter : out + count;
        streams[i] = (Stream){start, end - 8, out + i * quarter, stop, load64(end - 8) << closing, 64 - closing};
        position += length;
    }
    run_streams(table, streams);
    int right = 1;
    for (unsigned i = 0; i < 4; i++)
        right &= finish_stream(table->one, &streams[i]);
    return right;
}
