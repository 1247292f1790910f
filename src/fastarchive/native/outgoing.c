/*
 * A stored instance as it is sent, in one stroke: its record (docs/format.md, "Record") read from the pack, verified and
 * decoded, and its data set laid out as P-DATA-TF PDUs (PS3.8 9.3.5). The plain case of store/blobs.py and upperlayer/pdu.py:
 * blocks that are as they came, of zstd alone, or 16-bit pixels; nothing to wait for. Everything else is left to them.
 */
#define _GNU_SOURCE /* preadv2() */
#include "blake3.h"
#include "native.h"
#include "record.h"
#include "unpack.h"

#include <sys/uio.h>

#define MOST (1u << 20)          /* bytes of a data set */
#define LONGEST_ROW (64u << 10)  /* bytes of a row of pixels */
#define TILE (16u << 10)         /* bytes of pixels that are restored, digested and copied while in the first-level cache */
#define TRANSFER_SYNTAX 4        /* of the strings */
#define MOVED 1                  /* a flag: 16 bytes say from where */
#define ORIGIN 16u

#define HEADERS 12u /* of a P-DATA-TF with one PDV */
#define P_DATA_TF 4
#define LAST_FRAGMENT 2

/* zstd's ZSTD_decompressDCtx(); fails with a size no block has. */
typedef size_t (*Decompress)(void *context, void *out, size_t room, const void *data, size_t size);

/* What one thread at a time works in. */
typedef struct {
    Decompress decompress;
    void *context;
    uint8_t record[2 * MOST];
    uint8_t content[MOST];                  /* of a block that zstd reads */
    uint8_t window[LONGEST_ROW + TILE + 8]; /* the row before, and pixels being restored */
    Blake3 hash;
    uint64_t work[];                        /* of unpack.c */
} Room;

/* The data set on its way into PDUs. */
typedef struct {
    Blake3 *hash;
    uint8_t *to;
    size_t left, room; /* bytes that are still to come, and of them in the fragment begun */
    size_t longest;    /* fragment */
    uint8_t context;
} Message;

EXPORT size_t fastarchive_outgoing_room(void)
{
    size_t whole = fastarchive_unpack_work(MOST), in_step = unpack_in_step_work();
    return sizeof(Room) + (whole > in_step ? whole : in_step);
}

static void *work_of(Room *room)
{
    return room->work;
}

/* Prepare a room, which is aligned to 64. */
EXPORT void fastarchive_outgoing_prepare(Room *room, Decompress decompress, void *context)
{
    room->decompress = decompress;
    room->context = context;
}

static uint8_t *put32_big(uint8_t *to, size_t value)
{
    uint32_t turned = __builtin_bswap32((uint32_t)value);
    memcpy(to, &turned, 4);
    return to + 4;
}

static void begin_fragment(Message *message)
{
    size_t length = message->left < message->longest ? message->left : message->longest;
    uint8_t *to = message->to;
    *to++ = P_DATA_TF;
    *to++ = 0;
    to = put32_big(to, length + 6);
    to = put32_big(to, length + 2);
    *to++ = message->context;
    *to++ = length == message->left ? LAST_FRAGMENT : 0;
    message->to = to;
    message->room = length;
}

/* The next `size` bytes of the data set, no more than are to come. */
static void put(Message *message, const uint8_t *data, size_t size)
{
    blake3_add(message->hash, data, size);
    while (size) {
        if (!message->room)
            begin_fragment(message);
        size_t some = size < message->room ? size : message->room;
        memcpy(message->to, data, some);
        message->to += some;
        message->room -= some;
        message->left -= some;
        data += some;
        size -= some;
    }
}

/* `words` words of pixels, from their differences in two planes on; `window` begins with the row before. */
static void put_words(Message *message, uint8_t *window, size_t row, const uint8_t *low, const uint8_t *high, size_t words)
{
    uint8_t *pixels = window + row;
    for (size_t done = 0; done < words;) {
        size_t some = words - done < TILE / 8 ? words - done : TILE / 8;
        restore_words(low + 4 * done, high + 4 * done, some, row / 8, pixels);
        put(message, pixels, 8 * some);
        memmove(window, pixels + 8 * some - row, row);
        done += some;
    }
}

/* Both planes of a block first, then the pixels. */
static int put_whole(Room *room, Message *message, const uint8_t *frame, size_t stored, size_t size, size_t row)
{
    size_t words = size / 8, samples = size / 2, length = 0;
    const uint8_t *low = unpack_planes(work_of(room), frame, stored, size), *high = low + samples;
    if (!low)
        return 0;
    put_words(message, room->window, row, low, high, words);
    uint8_t rest[8];
    for (size_t sample = 4 * words; sample < samples; sample++) { /* after the last whole word: as they are */
        rest[length++] = low[sample];
        rest[length++] = high[sample];
    }
    if (size & 1)
        rest[length++] = low[size - 1];
    put(message, rest, length);
    return 1;
}

/* A block of 16-bit pixels, `distance` 8-byte words a row. Returns whether it is right. */
static int put_rows(Room *room, Message *message, const uint8_t *frame, size_t stored, size_t size, size_t distance)
{
    const uint8_t *planes[2];
    size_t row = 8 * distance, left = size / 2, some;
    if (!distance || distance > LONGEST_ROW / 8)
        return 0;
    memset(room->window, 0, row); /* before the first row: as if it were nothing */
    InStep *work = work_of(room);
    if (!unpack_in_step_begin(work, frame, stored, size) || !(some = unpack_in_step(work, frame, stored, planes)))
        return put_whole(room, message, frame, stored, size, row);
    for (;;) {
        put_words(message, room->window, row, planes[0], planes[1], some / 4);
        left -= some;
        if (!left)
            return 1;
        some = unpack_in_step(work, frame, stored, planes);
        if (!some)
            return 0;
    }
}

/* A block of the data set, whose entry in the table of blocks is `entry`; whether it is right and plain. */
static int put_block(Room *room, Message *message, const uint8_t *entry, const uint8_t *stored)
{
    size_t size = load32(entry), raw = load32(entry + 4);
    uint8_t codec = entry[8], filter = entry[9], width = entry[10];
    if (raw > message->left)
        return 0;
    if (codec == RAW) {
        if (size != RAW_HEAD + raw)
            return 0;
        put(message, stored + RAW_HEAD, raw);
        return 1;
    }
    if (codec != ZSTD)
        return 0;
    if (filter == ROWS && width == 2)
        return put_rows(room, message, stored, size, raw, load32(entry + 12));
    if (filter != NONE || room->decompress(room->context, room->content, raw, stored, size) != raw)
        return 0;
    put(message, room->content, raw);
    return 1;
}

/* A record as it lies in memory. */
typedef struct {
    const uint8_t *blocks, *stored; /* the table of its blocks, and they */
    uint32_t count;
} Record;

/* Whether `size` bytes are a whole record of a data set of `length` bytes in that transfer syntax, its metadata undamaged. */
static int read_record(const Room *room, size_t size, size_t length, const uint8_t *syntax, size_t syntax_length, Record *record)
{
    const uint8_t *start = room->record, *lengths = start + RECORD_LENGTHS;
    uint64_t metadata = (uint64_t)load32(start + 4) + 8, count = load32(start + 20), strings = 0, before = 0;
    if (load32(start) != RECORD_FRAME || load32(start + 8) != RECORD_MAGIC || load16(start + 16) != RECORD_VERSION ||
        metadata < RECORD_FIXED || metadata > size || load64(start + 24) != size || load64(start + 40) != length ||
        !record_is_whole(start, metadata))
        return 0;
    for (int i = 0; i < RECORD_STRINGS; i++) {
        strings += lengths[i];
        before += i < TRANSFER_SYNTAX ? lengths[i] : 0;
    }
    uint8_t kind = start[18], flags = start[19];
    if ((kind != INSTANCE && kind != QUARANTINED) || (flags & ~MOVED) || start[80] != DIGEST_BLAKE3 ||
        RECORD_FIXED + strings + load32(start + 88) + (flags ? ORIGIN : 0) + RECORD_BLOCK * count != metadata ||
        lengths[TRANSFER_SYNTAX] != syntax_length || memcmp(start + RECORD_FIXED + before, syntax, syntax_length))
        return 0;
    record->stored = start + metadata;
    record->blocks = record->stored - RECORD_BLOCK * count;
    record->count = (uint32_t)count;
    uint64_t total = metadata;
    for (uint32_t i = 0; i < record->count; i++)
        total += load32(record->blocks + RECORD_BLOCK * i);
    return total == size;
}

/*
 * The data set of the record that lies at `offset` of the file `fd`, `size` bytes of it, into `out` as PDUs with one PDV each in
 * the presentation context `context`, fragments being of at most `longest` bytes. The index says that the data set is `length`
 * bytes in this transfer syntax. `out` has room for them and for the headers. Returns the bytes written; 0 when the record isn't
 * in memory, or not plain, or anything about it is wrong.
 */
EXPORT size_t fastarchive_outgoing(Room *room, int fd, int64_t offset, size_t size, size_t length, const uint8_t *syntax,
                                   size_t syntax_length, uint8_t context, size_t longest, uint8_t *out)
{
    Record record;
    struct iovec into = {room->record, size};
    if (size < RECORD_FIXED || size > sizeof room->record || !length || length > MOST || length & 1 || !longest ||
        preadv2(fd, &into, 1, offset, RWF_NOWAIT) != (ssize_t)size ||
        !read_record(room, size, length, syntax, syntax_length, &record))
        return 0;
    Message message = {&room->hash, out, length, 0, longest, context};
    blake3_begin(message.hash);
    for (uint32_t i = 0; i < record.count; i++, record.blocks += RECORD_BLOCK) {
        if (!put_block(room, &message, record.blocks, record.stored))
            return 0;
        record.stored += load32(record.blocks);
    }
    uint8_t digest[32];
    blake3_end(message.hash, digest);
    return message.left || memcmp(digest, room->record + RECORD_DIGEST, 32) ? 0 : (size_t)(message.to - out);
}
