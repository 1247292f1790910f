/*
 * The way back from frames.c: zstd frames (RFC 8878) of literals and runs.
 *
 * What zstd itself wrote has other sequences than runs, and is left to it.
 */
#include "decoding.h"
#include "frames.h"
#include "native.h"
#include "rows.h"
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

/* The start of a frame of `size` bytes of content; whether it is one that frames.c writes. */
static int is_ours(const uint8_t *frame, size_t stored, size_t size)
{
    static const uint8_t head[] = {0x28, 0xB5, 0x2F, 0xFD, 0xA0};
    return stored >= FRAME_HEAD && !memcmp(frame, head, 5) && load32(frame + 5) == size;
}

static void begin(Decoder *decoder)
{
    fse_reader(&decoder->literal_lengths, LITERAL_SHARES, 36, LENGTH_LOG);
    fse_reader(&decoder->match_lengths, MATCH_SHARES, 53, LENGTH_LOG);
    decoder->has_table = 0;
}

/* What the head of a block says. */
typedef struct {
    unsigned type, last;
    size_t length; /* of its content, or of the block if it is compressed */
    size_t takes;  /* bytes after the head */
} BlockHead;

/* The head at `at`, which it moves behind it; whether there is one, and all of the block. */
static int read_head(const uint8_t *frame, size_t stored, size_t *at, BlockHead *head)
{
    if (stored - *at < FRAME_BLOCK_HEAD)
        return 0;
    uint32_t bits = frame[*at] | (uint32_t)frame[*at + 1] << 8 | (uint32_t)frame[*at + 2] << 16;
    *at += FRAME_BLOCK_HEAD;
    *head = (BlockHead){bits >> 1 & 3, bits & 1, bits >> 3, (bits >> 1 & 3) == RLE_BLOCK ? 1 : bits >> 3};
    return head->takes <= stored - *at;
}

/* A block into `out`, which has room for `room`; its length, 0 if it is none of ours. */
static size_t unpack_any(Decoder *decoder, const BlockHead *head, const uint8_t *in, uint8_t *out, size_t room)
{
    if (!room || (head->type != COMPRESSED_BLOCK && head->length > room))
        return 0;
    if (head->type == RAW_BLOCK)
        memcpy(out, in, head->length);
    else if (head->type == RLE_BLOCK)
        memset(out, *in, head->length);
    else
        return head->type == COMPRESSED_BLOCK ? unpack_block(decoder, in, head->takes, out, room) : 0;
    return head->length;
}

/* A frame of `size` bytes into `out`; whether it was one that frames.c writes. */
static int unpack_frame(Decoder *decoder, const uint8_t *frame, size_t stored, uint8_t *out, size_t size)
{
    BlockHead head = {0};
    if (!is_ours(frame, stored, size))
        return 0;
    begin(decoder);
    size_t at = FRAME_HEAD, written = 0;
    while (!head.last) {
        size_t length = read_head(frame, stored, &at, &head) ? unpack_any(decoder, &head, frame + at, out + written, size - written) : 0;
        if (!length)
            return 0;
        at += head.takes;
        written += length;
    }
    return at == stored && written == size;
}

/* Both planes of a frame, block by block. */
struct InStep {
    Decoder decoders[2];
    size_t at[2]; /* of the next block of each plane */
    size_t each;  /* bytes of a plane in a block */
    size_t left;  /* and in all blocks that are to come */
    uint8_t planes[2][FRAME_BLOCK + 64];
};

size_t unpack_in_step_work(void)
{
    return sizeof(struct InStep);
}

int unpack_in_step_begin(InStep *work, const uint8_t *frame, size_t stored, size_t size)
{
    if (!size || size % 8 || !is_ours(frame, stored, size))
        return 0;
    work->each = rows_each(size);
    work->left = size / 2;
    size_t blocks = (work->left + work->each - 1) / work->each, at = FRAME_HEAD;
    work->at[0] = at;
    BlockHead head = {0};
    for (size_t block = 0; block < 2 * blocks; block++) {
        if (head.last || !read_head(frame, stored, &at, &head))
            return 0;
        at += head.takes;
        if (block + 1 == blocks)
            work->at[1] = at;
    }
    begin(&work->decoders[0]);
    begin(&work->decoders[1]);
    return head.last && at == stored;
}

size_t unpack_in_step(InStep *work, const uint8_t *frame, size_t stored, const uint8_t *planes[2])
{
    size_t some = work->left < work->each ? work->left : work->each;
    for (int p = 0; p < 2; p++) {
        BlockHead head;
        if (!read_head(frame, stored, &work->at[p], &head) ||
            unpack_any(&work->decoders[p], &head, frame + work->at[p], work->planes[p], some) != some)
            return 0;
        work->at[p] += head.takes;
        planes[p] = work->planes[p];
    }
    work->left -= some;
    return some;
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
