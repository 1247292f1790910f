/*
 * A whole record (docs/format.md, "Record") of a data set in Explicit VR Little Endian, in one stroke: digest, header,
 * blocks, metadata. The plain case of store/intake.py: 16-bit pixels in one block, or none. Everything else is left to the
 * Python code.
 */
#define _POSIX_C_SOURCE 200809L /* clock.h */
#include "blake3.h"
#include "clock.h"
#include "instance.h"
#include "native.h"
#include "plain.h"
#include "record.h"
#include "rows.h"

#define CHECKSUM 8u
#define DRAWING 8u
#define WORTHWHILE 0.97 /* of its size that a block must go below to be worth it */

/* zstd's ZSTD_compress2(); fails with a size no block has. */
typedef size_t (*Compress)(void *context, void *out, size_t room, const void *data, size_t size);

/* Behind it in memory lies what the pointers point to. */
struct Room {
    size_t most; /* bytes of a data set */
    Compress compress;
    void *context;       /* of zstd, set to the level of headers */
    uint8_t *rows;       /* pixels being compressed: any that fit, in rows of any length */
    uint8_t *scratch;    /* prepared */
    uint8_t *data;       /* a data set that came in pieces */
    uint8_t *frame;      /* what zstd makes */
    size_t frame_room;
    Finder finder;
    Blake3 hash;
    /* Of the record that is being made: */
    Parts parts;
    size_t total;         /* bytes of its data set */
    size_t header;        /* of its first piece that are no pixels, until that was fed */
    uint64_t digest_time; /* nanoseconds */
    uint64_t time;        /* of all work at it */
};

typedef struct {
    size_t stored, raw;
    uint32_t distance;
    uint8_t codec, filter, width;
} Block;

static size_t round_up(size_t size)
{
    return (size + 63) & ~(size_t)63;
}

EXPORT size_t fastarchive_plain_record_room(size_t size)
{
    return 2 * size + 4096;
}

/* Give out the memory behind the room: how much there must be. */
static size_t lay_out(Room *room, uint8_t *memory, size_t most)
{
    size_t at = round_up(sizeof *room);
    uint8_t **parts[] = {&room->rows, &room->scratch, &room->data, &room->finder.attributes, &room->frame};
    size_t sizes[] = {fastarchive_rows_memory(most, most / 8), fastarchive_scratch(), most, most, most + (most >> 8) + 64};
    for (int i = 0; i < 5; i++) {
        if (memory)
            *parts[i] = memory + at;
        at += round_up(sizes[i]);
    }
    room->frame_room = sizes[4];
    return at;
}

/* Bytes of memory, aligned to 64, for data sets of at most `most` bytes, which is BLOCK_SIZE at most. */
EXPORT size_t fastarchive_plain_room(size_t most)
{
    Room room;
    return lay_out(&room, NULL, most);
}

/* Prepare that memory. `wanted`: the tags of a record's attributes, ascending. Returns 0 if there are too many. */
EXPORT int fastarchive_plain_prepare(Room *room, size_t most, Compress compress, void *context, const uint32_t *wanted,
                                     uint32_t wanted_count)
{
    if (wanted_count > MOST_WANTED)
        return 0;
    lay_out(room, (uint8_t *)room, most);
    fastarchive_scratch_prepare(room->scratch);
    room->most = most;
    room->compress = compress;
    room->context = context;
    room->finder.wanted_count = wanted_count;
    memcpy(room->finder.wanted, wanted, 4 * wanted_count);
    return 1;
}

/* The block is stored as it is. */
static uint8_t *keep_raw(Block *block, const uint8_t *data, uint8_t *out)
{
    uint32_t head[2] = {RAW_FRAME, (uint32_t)block->raw};
    memcpy(out, head, RAW_HEAD);
    memcpy(out + RAW_HEAD, data, block->raw);
    block->stored = RAW_HEAD + block->raw;
    return out + block->stored;
}

static uint8_t *keep_frame(Block *block, uint8_t filter, const uint8_t *frame, size_t size, uint8_t *out)
{
    memmove(out, frame, size);
    block->stored = size;
    block->codec = ZSTD;
    block->filter = filter;
    return out + size;
}

static int worthwhile(size_t stored, size_t raw)
{
    return (double)stored < (double)raw * WORTHWHILE;
}

static uint8_t *encode_plain(Room *room, Block *block, const uint8_t *data, uint8_t *out)
{
    size_t size = room->compress(room->context, room->frame, room->frame_room, data, block->raw);
    return worthwhile(size, block->raw) ? keep_frame(block, NONE, room->frame, size, out) : keep_raw(block, data, out);
}

/* All of it side by side. */
static const uint8_t *joined(Room *room, const Pieces *data)
{
    uint8_t *to = room->data;
    if (data->count == 1)
        return data->pieces[0];
    for (size_t i = 0; i < data->count; i++) {
        memcpy(to, data->pieces[i], data->sizes[i]);
        to += data->sizes[i];
    }
    return room->data;
}

/* The block of the pixels that this frame holds, or one of them as they are. */
static uint8_t *keep_rows(Room *room, Block *block, size_t distance, const uint8_t *frame, size_t size, const Pieces *data,
                          size_t header, uint8_t *out)
{
    if (size * DRAWING < block->raw) { /* no noise: its repetitions may be worth more than its differences */
        const uint8_t *pixels = joined(room, data) + header;
        size_t plain = room->compress(room->context, room->frame, room->frame_room, pixels, block->raw);
        if (plain < size)
            return worthwhile(plain, block->raw) ? keep_frame(block, NONE, room->frame, plain, out) : keep_raw(block, pixels, out);
    }
    if (!worthwhile(size, block->raw))
        return keep_raw(block, joined(room, data) + header, out);
    block->width = 2;
    block->distance = (uint32_t)distance;
    return keep_frame(block, ROWS, frame, size, out);
}

static uint8_t *put(uint8_t *out, const void *from, size_t size)
{
    memcpy(out, from, size);
    return out + size;
}

EXPORT size_t fastarchive_plain_look(Room *room, const uint8_t *data, size_t size, size_t total, const uint8_t *strings,
                                     const uint8_t lengths[5])
{
    Parts parts;
    total = find_parts(&room->finder, data, size < room->most ? size : room->most, total, strings, lengths, &parts);
    return total <= room->most ? total : 0;
}

int fastarchive_plain_begin(Room *room, const uint8_t *first, size_t size, size_t total, const uint8_t *strings,
                            const uint8_t lengths[5])
{
    uint64_t started = monotonic_time();
    room->total = find_parts(&room->finder, first, size, total, strings, lengths, &room->parts);
    if (!room->total || room->total > room->most)
        return 0;
    room->header = room->parts.scan.value_offset;
    blake3_begin(&room->hash);
    if (room->parts.distance)
        fastarchive_rows_begin(room->rows, room->parts.scan.pixel_length, room->parts.distance);
    room->digest_time = 0;
    room->time = monotonic_time() - started;
    return 1;
}

void fastarchive_plain_feed(Room *room, const uint8_t *piece, size_t size)
{
    uint64_t started = monotonic_time();
    blake3_add(&room->hash, piece, size);
    room->digest_time += monotonic_time() - started;
    if (room->parts.distance)
        fastarchive_rows_feed(room->rows, room->scratch, piece, room->header, size - room->header);
    room->header = 0;
    room->time += monotonic_time() - started;
}

size_t fastarchive_plain_end(Room *room, uint8_t *out, const Pieces *data, int64_t received, Times *times)
{
    uint64_t started = monotonic_time();
    const Scan scan = room->parts.scan;
    const Text *text = room->parts.text;
    size_t distance = room->parts.distance, size = room->total, frame_size = 0;
    uint8_t digest[32];
    blake3_end(&room->hash, digest);
    room->digest_time += monotonic_time() - started;
    const uint8_t *frame = distance ? room->rows + fastarchive_rows_end(room->rows, room->scratch, &frame_size) : NULL;
    Block blocks[2] = {{0}};
    uint32_t count = distance ? 2 : 1;
    size_t metadata = RECORD_FIXED + scan.attributes + RECORD_BLOCK * count;
    for (int i = 0; i < RECORD_STRINGS; i++)
        metadata += text[i].length;
    blocks[0].raw = scan.value_offset;
    uint8_t *at = encode_plain(room, &blocks[0], data->pieces[0], out + metadata);
    if (count == 2) {
        blocks[1].raw = scan.pixel_length;
        at = keep_rows(room, &blocks[1], distance, frame, frame_size, data, scan.value_offset, at);
    }
    size_t total = (size_t)(at - out);

    uint32_t start[4] = {RECORD_FRAME, (uint32_t)metadata - 8, RECORD_MAGIC, 0};
    uint16_t version = RECORD_VERSION;
    uint8_t kind[2] = {INSTANCE, 0};
    uint64_t sizes[3] = {total, (uint64_t)received, size};
    uint8_t *to = put(out, start, 16);
    to = put(to, &version, 2);
    to = put(to, kind, 2);
    to = put(to, &count, 4);
    to = put(to, sizes, 24);
    to = put(to, digest, 32);
    *to++ = DIGEST_BLAKE3;
    for (int i = 0; i < RECORD_STRINGS; i++)
        *to++ = (uint8_t)text[i].length;
    to = put(to, &scan.attributes, 4);
    for (int i = 0; i < RECORD_STRINGS; i++)
        to = put(to, text[i].bytes, text[i].length);
    to = put(to, room->finder.attributes, scan.attributes);
    const uint8_t *stored = out + metadata;
    for (uint32_t i = 0; i < count; i++) {
        const Block *block = &blocks[i];
        uint32_t both[2] = {(uint32_t)block->stored, (uint32_t)block->raw};
        uint8_t how[4] = {block->codec, block->filter, block->width, 0}, checksum[32];
        blake3(stored, block->stored, checksum);
        stored += block->stored;
        to = put(to, both, 8);
        to = put(to, how, 4);
        to = put(to, &block->distance, 4);
        to = put(to, checksum, CHECKSUM);
    }
    uint32_t crc = record_crc(out, metadata);
    memcpy(out + RECORD_CRC, &crc, 4);
    times->digest_time = room->digest_time;
    times->compress_time = room->time + (monotonic_time() - started) - room->digest_time;
    return total;
}

EXPORT size_t fastarchive_plain_record(Room *room, uint8_t *out, const Pieces *data, size_t size, const uint8_t *strings,
                                       const uint8_t lengths[5], int64_t received, Times *times)
{
    const uint8_t *whole = NULL;
    const Pieces one = {&whole, (uint32_t[]){(uint32_t)size}, 1};
    if (!fastarchive_plain_begin(room, data->pieces[0], data->sizes[0], size, strings, lengths)) {
        if (data->count == 1)
            return 0;
        whole = joined(room, data); /* its header may be in several pieces */
        data = &one;
        if (!fastarchive_plain_begin(room, whole, size, size, strings, lengths))
            return 0;
    }
    for (size_t i = 0; i < data->count; i++)
        fastarchive_plain_feed(room, data->pieces[i], data->sizes[i]);
    return fastarchive_plain_end(room, out, data, received, times);
}
