/*
 * The way back from frames.c: zstd frames (RFC 8878) of literals and runs.
 *
 * What zstd itself wrote has other sequences than runs, and is left to it.
 */
#include "decoding.h"
#include "frames.h"
#include "native.h"
#include "runs.h"
#include "unpack.h"

enum { RAW_BLOCK, RLE_BLOCK, COMPRESSED_BLOCK };
enum { RAW_LITERALS, RLE_LITERALS, HUFFMAN_LITERALS, SAME_HUFFMAN_LITERALS };

typedef struct {
    HuffmanTable table;
    int has_table; /* `table` is of the last block with Huffman literals */
    FseReader literal_lengths, match_lengths;
    uint8_t literals[FRAME_BLOCK + 16];
} Decoder;

/* A literals section header: bytes of it, what it regenerates and what follows it; 0 for what isn't written here. */
static size_t read_literals_header(const uint8_t *in, size_t size, unsigned *type, size_t *count, size_t *stored)
{
    if (size < 5)
        return 0;
    unsigned format = in[0] >> 2 & 3;
    uint64_t header = (uint64_t)in[0] | (uint64_t)in[1] << 8 | (uint64_t)in[2] << 16 | (uint64_t)in[3] << 24 | (uint64_t)in[4] << 32;
    *type = in[0] & 3;
    if (*type == RAW_LITERALS) {
        *count = *stored = format == 3 ? header >> 4 & 0xFFFFF : format == 1 ? header >> 4 & 0xFFF : header >> 3 & 31;
        return format == 3 ? 3 : format == 1 ? 2 : 1;
    }
    if (*type == RLE_LITERALS || format != 3)
        return 0;
    *count = header >> 4 & 0x3FFFF;
    *stored = header >> 22 & 0x3FFFF;
    return 5;
}

/* `count` literals and `runs` of the sequences section at `in` into `out`, which has room for `room`; how much they are,
   0 if they are not right. */
static size_t unpack_runs(const Decoder *decoder, const uint8_t *in, size_t size, size_t runs, const uint8_t *literals,
                          size_t count, uint8_t *out, size_t room)
{
    /* Lengths by the predefined tables, offset codes all the same and 0: the byte before is repeated. */
    if (size < 3 || in[0] != 1 << 4 || in[1] != 0)
        return 0;
    BitReader bits;
    if (!bits_open(&bits, in + 2, size - 2))
        return 0;
    const FseReader *of_literals = &decoder->literal_lengths, *of_matches = &decoder->match_lengths;
    unsigned literal_state = bits_take(&bits, LENGTH_LOG), match_state = bits_take(&bits, LENGTH_LOG);
    size_t written = 0;
    while (runs--) {
        unsigned literal = of_literals->symbol[literal_state], match = of_matches->symbol[match_state];
        size_t length = MATCH_BASE[match] + bits_take(&bits, MATCH_BITS[match]);
        size_t before = LITERAL_BASE[literal] + bits_take(&bits, LITERAL_BITS[literal]);
        if (before == 0 || before > count || before + length > room - written)
            return 0; /* without a literal another offset would be meant */
        memcpy(out + written, literals, before);
        literals += before;
        count -= before;
        written += before;
        memset(out + written, literals[-1], length);
        written += length;
        if (runs) {
            literal_state = of_literals->base[literal_state] + bits_take(&bits, of_literals->bits[literal_state]);
            match_state = of_matches->base[match_state] + bits_take(&bits, of_matches->bits[match_state]);
        }
        if (bits.left < 0)
            return 0;
    }
    if (bits.left != 0 || count > room - written)
        return 0;
    memcpy(out + written, literals, count);
    return written + count;
}

/* A compressed block into `out`, which has room for `room`; its length, 0 if it is not one of ours. */
static size_t unpack_block(Decoder *decoder, const uint8_t *in, size_t size, uint8_t *out, size_t room)
{
    unsigned type;
    size_t count, stored, header = read_literals_header(in, size, &type, &count, &stored);
    if (!header || stored > size - header || count > FRAME_BLOCK)
        return 0;
    const uint8_t *content = in + header, *section = content + stored, *literals = content;
    size_t left = size - header - stored;
    if (!left)
        return 0;
    size_t runs = section[0], wide = runs < 128 ? 1 : runs < 255 ? 2 : 3;
    if (left < wide)
        return 0;
    if (wide == 2)
        runs = (runs - 128) << 8 | section[1];
    else if (wide == 3)
        runs = (section[1] | (size_t)section[2] << 8) + 0x7F00;
    if (type != RAW_LITERALS) {
        size_t described = 0;
        if (type == HUFFMAN_LITERALS) {
            described = huffman_read(&decoder->table, content, stored);
            decoder->has_table = described > 0;
        }
        if (!decoder->has_table || (!runs && count > room))
            return 0;
        uint8_t *into = runs ? decoder->literals : out; /* nothing between them: at once where they belong */
        if (!huffman_unpack(&decoder->table, content + described, stored - described, into, count))
            return 0;
        if (!runs)
            return left == 1 ? count : 0;
        literals = into;
    } else if (!runs) {
        if (left != 1 || count > room)
            return 0;
        memcpy(out, literals, count);
        return count;
    }
    return unpack_runs(decoder, section + wide, left - wide, runs, literals, count, out, room);
}

/* A frame of `size` bytes into `out`; whether it was one that frames.c writes. */
static int unpack_frame(Decoder *decoder, const uint8_t *frame, size_t stored, uint8_t *out, size_t size)
{
    static const uint8_t head[] = {0x28, 0xB5, 0x2F, 0xFD, 0xA0};
    uint32_t content;
    if (stored < 9 || memcmp(frame, head, 5))
        return 0;
    memcpy(&content, frame + 5, 4);
    if (content != size)
        return 0;
    fse_reader(&decoder->literal_lengths, LITERAL_SHARES, 36, LENGTH_LOG);
    fse_reader(&decoder->match_lengths, MATCH_SHARES, 53, LENGTH_LOG);
    decoder->has_table = 0;
    size_t at = 9, written = 0;
    for (int last = 0; !last;) {
        if (stored - at < 3)
            return 0;
        uint32_t header = frame[at] | (uint32_t)frame[at + 1] << 8 | (uint32_t)frame[at + 2] << 16;
        unsigned type = header >> 1 & 3;
        size_t length = header >> 3, takes = type == RLE_BLOCK ? 1 : length, room = size - written;
        last = header & 1;
        at += 3;
        if (takes > stored - at || room == 0 || (type != COMPRESSED_BLOCK && length > room))
            return 0;
        if (type == RAW_BLOCK)
            memcpy(out + written, frame + at, length);
        else if (type == RLE_BLOCK)
            memset(out + written, frame[at], length);
        else if (type == COMPRESSED_BLOCK)
            length = unpack_block(decoder, frame + at, takes, out + written, room);
        else
            return 0;
        if (!length)
            return 0;
        at += takes;
        written += length;
    }
    return at == stored && written == size;
}

/* Bytes of memory that fastarchive_unpack() works in for `size` bytes of pixels. */
EXPORT size_t fastarchive_unpack_work(size_t size)
{
    return sizeof(Decoder) + size;
}

const uint8_t *unpack_planes(void *work, const uint8_t *frame, size_t stored, size_t size)
{
    uint8_t *planes = (uint8_t *)work + sizeof(Decoder);
    return unpack_frame(work, frame, stored, planes, size) ? planes : NULL;
}

/*
 * What fastarchive_pixels() was given, `size` bytes, from its frame of `stored` bytes into `out`. `work` is
 * fastarchive_unpack_work(size) bytes, aligned to 8. Returns 0 if the frame is damaged or not one that it writes.
 */
EXPORT int fastarchive_unpack(const uint8_t *frame, size_t stored, size_t size, size_t distance, void *work, uint8_t *out)
{
    const uint8_t *planes = distance ? unpack_planes(work, frame, stored, size) : NULL;
    if (planes)
        fastarchive_restore_rows(planes, size, distance, out);
    return planes != NULL;
}
