/* Huffman and FSE coding as the zstd frame format has them (RFC 8878 section 4). */
#include "entropy.h"
#include "native.h"

#define LONGEST_CODE 11
#define WEIGHT_LOG 6
#define WEIGHTS 12

void fse_build(FseTable *table, const int8_t *counts, unsigned symbols, unsigned log)
{
    unsigned size = 1u << log, mask = size - 1, step = (size >> 1) + (size >> 3) + 3;
    unsigned high = size - 1, position = 0, total = 0;
    uint8_t spread[FSE_STATES];
    uint16_t start[FSE_SYMBOLS + 1];

    table->log = log;
    start[0] = 0;
    for (unsigned s = 0; s < symbols; s++) {
        if (counts[s] == -1)
            spread[high--] = (uint8_t)s;
        start[s + 1] = (uint16_t)(start[s] + (counts[s] == -1 ? 1 : counts[s]));
    }
    for (unsigned s = 0; s < symbols; s++)
        for (int n = 0; n < counts[s]; n++) {
            spread[position] = (uint8_t)s;
            do
                position = (position + step) & mask;
            while (position > high);
        }
    for (unsigned state = 0; state < size; state++)
        table->next[start[spread[state]]++] = (uint16_t)(size + state);
    for (unsigned s = 0; s < symbols; s++) {
        unsigned count = counts[s] == -1 ? 1 : (unsigned)counts[s];
        if (count == 0) {
            table->symbol[s].bits = ((log + 1) << 16) - size;
            table->symbol[s].find = 0;
            continue;
        }
        unsigned most = count == 1 ? log : log - highest_bit(count - 1);
        table->symbol[s].bits = (most << 16) - (count == 1 ? size : count << most);
        table->symbol[s].find = (int32_t)total - (int32_t)count;
        total += count;
    }
}

/* -- Huffman: lengths ------------------------------------------------------------------------------------------- */

typedef struct {
    uint32_t weight;
    uint16_t parent;
    uint8_t symbol;
    uint8_t length;
} Node;

/* Sort at most 256 keys by their bits from 8 to 25, six at a time from the lowest up. */
static void sort(uint32_t *keys, unsigned count)
{
    uint32_t sorted[256];
    for (unsigned shift = 8; shift < 26; shift += 6) {
        uint16_t place[65] = {0};
        for (unsigned i = 0; i < count; i++)
            place[(keys[i] >> shift & 63) + 1]++;
        for (unsigned digit = 0; digit < 64; digit++)
            place[digit + 1] = (uint16_t)(place[digit + 1] + place[digit]);
        for (unsigned i = 0; i < count; i++)
            sorted[place[keys[i] >> shift & 63]++] = keys[i];
        memcpy(keys, sorted, 4 * count);
    }
}

/* Huffman's lengths for `leaves` nodes sorted by rising weight, which `nodes` begins with; returns the longest. */
static unsigned find_lengths(Node *nodes, unsigned leaves)
{
    /* Two queues: the leaves, and the inner nodes, which come by rising weight by themselves. */
    unsigned leaf = 0, inner = leaves, end = leaves;
    while (end < 2 * leaves - 1) {
        uint32_t weight = 0;
        for (int child = 0; child < 2; child++) {
            int is_leaf = leaf < leaves && (inner == end || nodes[leaf].weight <= nodes[inner].weight);
            unsigned least = is_leaf ? leaf++ : inner++;
            nodes[least].parent = (uint16_t)end;
            weight += nodes[least].weight;
        }
        nodes[end++] = (Node){weight, 0, 0, 0};
    }
    for (unsigned i = end - 1; i-- > 0;)
        nodes[i].length = (uint8_t)(nodes[nodes[i].parent].length + 1);
    return nodes[0].length;
}

int huffman_build(HuffmanCode *code, const uint32_t counts[256])
{
    Node nodes[512];
    uint32_t keys[256]; /* count, then symbol: a block has at most 1 << 17 of them, estimated a little more */
    unsigned leaves = 0;
    uint32_t total = 0;
    for (unsigned s = 0; s < 256; s++) {
        keys[leaves] = counts[s] << 8 | s;
        leaves += counts[s] != 0;
        total += counts[s];
    }
    if (leaves < 2)
        return 0;
    sort(keys, leaves);
    for (unsigned i = 0; i < leaves; i++)
        nodes[i] = (Node){keys[i] >> 8, 0, (uint8_t)keys[i], 0};
    /* Too long a code is that of a rare symbol. Taken for more frequent than they are, all of them stay in bounds, and
       what that costs is nearly always the least that the bound can cost. */
    uint32_t least = total >> LONGEST_CODE;
    while (find_lengths(nodes, leaves) > LONGEST_CODE) {
        for (unsigned i = 0; i < leaves && nodes[i].weight < least; i++)
            nodes[i].weight = least;
        least += least / 4 + 1;
    }

    uint8_t length[256] = {0};
    unsigned of_length[LONGEST_CODE + 2] = {0};
    code->longest = 0;
    for (unsigned i = 0; i < leaves; i++) {
        length[nodes[i].symbol] = nodes[i].length;
        of_length[nodes[i].length]++;
        if (nodes[i].length > code->longest)
            code->longest = nodes[i].length;
    }
    /* Codes from zero up, the longest first; symbols of the same length by value (RFC 8878 4.2.1.3). */
    uint32_t first[LONGEST_CODE + 2], value = 0;
    for (unsigned l = code->longest; l > 0; l--) {
        first[l] = value;
        value = (value + of_length[l]) >> 1;
    }
    for (unsigned s = 0; s < 256; s++) {
        code->code[s] = length[s] ? first[length[s]]++ | (uint32_t)length[s] << 16 : 0;
        if (length[s])
            code->last = s;
    }
    return 1;
}

uint64_t huffman_cost(const HuffmanCode *code, const uint32_t counts[256])
{
    uint64_t bits = 0;
    for (unsigned s = 0; s < 256; s++)
        bits += (uint64_t)counts[s] * (code->code[s] >> 16);
    return bits;
}

/* -- Huffman: description --------------------------------------------------------------------------------------- */

/* Shares of 64 that follow the counts and leave none out that occurs. */
static int normalise(const uint32_t counts[WEIGHTS], uint32_t total, int8_t shares[WEIGHTS])
{
    int left = 1 << WEIGHT_LOG;
    unsigned largest = 0;
    for (unsigned w = 0; w < WEIGHTS; w++) {
        shares[w] = (int8_t)((counts[w] << WEIGHT_LOG) / total);
        if (counts[w] && !shares[w])
            shares[w] = 1;
        left -= shares[w];
        if (shares[w] > shares[largest])
            largest = w;
    }
    /* At most 11 were raised to 1, and then the largest has most of the rest. */
    shares[largest] = (int8_t)(shares[largest] + left);
    return shares[largest] > 0;
}

/* The shares in the variable bit lengths of RFC 8878 4.1.1. */
static uint8_t *describe_shares(const int8_t shares[WEIGHTS], uint8_t *out)
{
    BitWriter bits = {0, 0, out};
    int remaining = (1 << WEIGHT_LOG) + 1, threshold = 1 << WEIGHT_LOG;
    unsigned width = WEIGHT_LOG + 1;
    bits_add(&bits, WEIGHT_LOG - 5, 4);
    for (unsigned w = 0; remaining > 1;) {
        int share = shares[w++];
        int most = 2 * threshold - 1 - remaining;
        remaining -= share;
        int value = share + 1;
        if (value >= threshold)
            value += most;
        bits_add(&bits, (uint64_t)value, width - (value < most));
        bits_flush(&bits);
        while (remaining < threshold) {
            width--;
            threshold >>= 1;
        }
        if (share == 0 && remaining > 1) {
            /* Two bits say how many more are zero; three of them say that another two bits follow. */
            unsigned zeroes = 0;
            while (shares[w + zeroes] == 0)
                zeroes++;
            w += zeroes;
            for (; zeroes >= 3; zeroes -= 3)
                bits_add(&bits, 3, 2);
            bits_add(&bits, zeroes, 2);
            bits_flush(&bits);
        }
    }
    return bits.next + (bits.count > 0);
}

size_t huffman_describe(const HuffmanCode *code, uint8_t *out)
{
    uint8_t weights[256];
    uint32_t counts[WEIGHTS] = {0};
    unsigned total = code->last; /* the last symbol's weight follows from the others' */
    unsigned distinct = 0;
    for (unsigned s = 0; s < total; s++) {
        unsigned length = code->code[s] >> 16;
        weights[s] = (uint8_t)(length ? code->longest + 1 - length : 0);
        distinct += counts[weights[s]]++ == 0;
    }
    size_t size = 0;
    if (total > 2 && distinct > 1) {
        int8_t shares[WEIGHTS];
        FseTable table;
        if (!normalise(counts, total, shares))
            return 0;
        BitWriter bits = {0, 0, describe_shares(shares, out + 1)};
        fse_build(&table, shares, WEIGHTS, WEIGHT_LOG);
        unsigned at = total, state[2];
        /* The states take turns, the first with the even symbols; the last two symbols are in the first states. */
        at--;
        state[at & 1] = fse_first(&table, weights[at]);
        at--;
        state[at & 1] = fse_first(&table, weights[at]);
        while (at-- > 0) {
            state[at & 1] = fse_step(&table, state[at & 1], weights[at], &bits);
            bits_flush(&bits);
            if (bits.next > out + 128)
                break;
        }
        fse_last(&table, state[1], &bits);
        fse_last(&table, state[0], &bits);
        size = (size_t)(bits_close(&bits) - out);
        if (at != (unsigned)-1 || size - 1 >= 128)
            size = 0;
        else
            out[0] = (uint8_t)(size - 1);
    }
    if (total <= 128 && (size == 0 || size > 1 + (total + 1) / 2)) {
        /* Half a byte each. */
        out[0] = (uint8_t)(127 + total);
        weights[total] = 0;
        for (unsigned s = 0; s < total; s += 2)
            out[1 + s / 2] = (uint8_t)(weights[s] << 4 | weights[s + 1]);
        size = 1 + (total + 1) / 2;
    }
    return size;
}
