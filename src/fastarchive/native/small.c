/*
 * A whole record (docs/format.md, "Record") of a small data set in Explicit VR Little Endian, in one stroke: digest, header,
 * blocks, metadata. The plain case of store/intake.py: 16-bit pixels or none. Everything else is left to the Python code.
 */
#define _POSIX_C_SOURCE 200809L /* clock_gettime() */
#include "blake3.h"
#include "headers.h"
#include "native.h"
#include "rows.h"

#include <time.h>

#define MOST (64u << 10)         /* bytes of a data set */
#define MOST_WANTED 512u         /* tags */
#define LONGEST_ATTRIBUTE 4096u
#define STRINGS 7
#define LONGEST_STRING 255u
#define LONGEST_UID 64u
#define FIXED 92u
#define BLOCK_ENTRY 24u
#define RAW_HEAD 8u
#define CHECKSUM 8u
#define RECORD_FRAME 0x184D2A51u
#define RAW_FRAME 0x184D2A52u
#define RECORD_VERSION 1
#define INSTANCE 1
#define DIGEST_BLAKE3 1
#define DRAWING 8u
#define WORTHWHILE 0.97 /* of its size that a block must go below to be worth it */
enum { RAW = 0, ZSTD = 1 };
enum { NONE = 0, ROWS = 2 };

#define SOP_CLASS 0x00080016u
#define SOP_INSTANCE 0x00080018u
#define STUDY 0x0020000Du
#define SERIES 0x0020000Eu

/* zstd's ZSTD_compress2(); fails with a size no block has. */
typedef size_t (*Compress)(void *context, void *out, size_t room, const void *data, size_t size);

typedef struct {
    Compress compress;
    void *context;      /* of zstd, set to the level of headers */
    void *rows;         /* memory for MOST bytes of pixels in rows of at most MOST bytes */
    void *scratch;      /* prepared */
    const uint32_t *wanted;
    uint32_t wanted_count;
    uint32_t crc[8][256];
    uint8_t attributes[MOST];
    uint8_t frame[MOST + (MOST >> 8) + 64];
    Found found[MOST_WANTED];
} Room;

typedef struct {
    const uint8_t *bytes;
    size_t length;
} Text;

typedef struct {
    uint64_t digest_time; /* nanoseconds */
    uint64_t compress_time;
} Times;

typedef struct {
    size_t stored, raw;
    uint32_t distance;
    uint8_t codec, filter, width;
} Block;

static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

EXPORT size_t fastarchive_small_room(void)
{
    return sizeof(Room);
}

/* `rows` and `scratch`: memory as rows.c wants it, for MOST bytes in rows of up to MOST. Returns 0 if that can't be. */
EXPORT int fastarchive_small_prepare(Room *room, Compress compress, void *context, void *rows, void *scratch,
                                     const uint32_t *wanted, uint32_t wanted_count)
{
    if (wanted_count > MOST_WANTED)
        return 0;
    room->compress = compress;
    room->context = context;
    room->rows = rows;
    room->scratch = scratch;
    room->wanted = wanted;
    room->wanted_count = wanted_count;
    for (uint32_t i = 0; i < 256; i++) { /* the CRC-32 of zlib, eight bytes at a time */
        uint32_t value = i;
        for (int bit = 0; bit < 8; bit++)
            value = value >> 1 ^ (value & 1 ? 0xEDB88320u : 0);
        room->crc[0][i] = value;
    }
    for (uint32_t i = 0; i < 256; i++)
        for (int t = 1; t < 8; t++)
            room->crc[t][i] = room->crc[t - 1][i] >> 8 ^ room->crc[0][(uint8_t)room->crc[t - 1][i]];
    return 1;
}

static uint32_t crc_of(uint32_t (*table)[256], uint32_t value, const uint8_t *data, size_t size)
{
    value = ~value;
    for (; size >= 8; data += 8, size -= 8) {
        uint32_t low = load32(data) ^ value, high = load32(data + 4);
        value = table[7][(uint8_t)low] ^ table[6][(uint8_t)(low >> 8)] ^ table[5][(uint8_t)(low >> 16)] ^ table[4][low >> 24] ^
                table[3][(uint8_t)high] ^ table[2][(uint8_t)(high >> 8)] ^ table[1][(uint8_t)(high >> 16)] ^ table[0][high >> 24];
    }
    while (size--)
        value = value >> 8 ^ table[0][(uint8_t)(value ^ *data++)];
    return ~value;
}

static const Found *find(const Room *room, const Scan *scan, uint32_t tag)
{
    for (uint32_t i = 0; i < scan->count; i++)
        if (room->found[i].tag == tag)
            return &room->found[i];
    return NULL;
}

static Text value_of(const Room *room, const Scan *scan, const uint8_t *data, uint32_t tag)
{
    const Found *found = find(room, scan, tag);
    return found ? (Text){data + found->offset, found->length} : (Text){data, 0};
}

/* A number in 16 bits; 0 if there is none. */
static uint32_t number_of(const Room *room, const Scan *scan, const uint8_t *data, uint32_t tag)
{
    Text value = value_of(room, scan, data, tag);
    return value.length < 2 ? 0 : load16(value.bytes);
}

static int is_padding(uint8_t byte)
{
    return byte == ' ' || byte == 0;
}

static int is_alphanumeric(uint8_t byte)
{
    return (byte >= '0' && byte <= '9') || (byte >= 'A' && byte <= 'Z') || (byte >= 'a' && byte <= 'z');
}

/* A UID without its padding, if it is one that means itself everywhere (store/intake.py); length 0 otherwise. */
static Text uid_of(const Room *room, const Scan *scan, const uint8_t *data, uint32_t tag)
{
    Text uid = value_of(room, scan, data, tag), none = {data, 0};
    while (uid.length && is_padding(uid.bytes[uid.length - 1]))
        uid.length--;
    while (uid.length && is_padding(*uid.bytes))
        uid.bytes++, uid.length--;
    if (!uid.length || uid.length > LONGEST_UID || !is_alphanumeric(*uid.bytes))
        return none;
    for (size_t i = 1; i < uid.length; i++) {
        uint8_t byte = uid.bytes[i];
        if (byte < ' ' || byte > '~' || byte == '"' || byte == '*' || byte == '/' || byte == '?' || byte == '\\')
            return none;
    }
    return uid;
}

static int same(Text one, Text other)
{
    return one.length == other.length && !memcmp(one.bytes, other.bytes, one.length);
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
    size_t size = room->compress(room->context, room->frame, sizeof room->frame, data, block->raw);
    return worthwhile(size, block->raw) ? keep_frame(block, NONE, room->frame, size, out) : keep_raw(block, data, out);
}

static uint8_t *encode_rows(Room *room, Block *block, size_t distance, const uint8_t *data, uint8_t *out)
{
    size_t size;
    fastarchive_rows_begin(room->rows, block->raw, distance);
    fastarchive_rows_feed(room->rows, room->scratch, data, 0, block->raw);
    const uint8_t *frame = (const uint8_t *)room->rows + fastarchive_rows_end(room->rows, room->scratch, &size);
    if (size * DRAWING < block->raw) { /* no noise: its repetitions may be worth more than its differences */
        size_t plain = room->compress(room->context, room->frame, sizeof room->frame, data, block->raw);
        if (plain < size)
            return worthwhile(plain, block->raw) ? keep_frame(block, NONE, room->frame, plain, out) : keep_raw(block, data, out);
    }
    if (!worthwhile(size, block->raw))
        return keep_raw(block, data, out);
    block->width = 2;
    block->distance = (uint32_t)distance;
    return keep_frame(block, ROWS, frame, size, out);
}

/* The 8-byte words from a row of 16-bit pixels to the next; 0 if the header describes other pixels, or rows too long. */
static size_t distance_of(const Room *room, const Scan *scan, const uint8_t *data)
{
    uint32_t samples = number_of(room, scan, data, 0x00280002), columns = number_of(room, scan, data, 0x00280011);
    if (scan->pixel_tag != 0x7FE00010 || number_of(room, scan, data, 0x00280100) != 16)
        return 0;
    if (!samples || number_of(room, scan, data, 0x00280006) == 1) /* one, or colour by plane */
        samples = 1;
    uint64_t row = (uint64_t)columns * samples * 2;
    return row > MOST ? 0 : row >= 16 ? row / 8 : row > 0;
}

static uint8_t *put(uint8_t *out, const void *from, size_t size)
{
    memcpy(out, from, size);
    return out + size;
}

/*
 * The record of the data set, received at `received`, into `out`, which has room for 4 * MOST bytes. `strings`: the affected
 * SOP class and instance, the transfer syntax and the two AE titles, with these lengths. Returns its size; 0 when the data set
 * is not plain, or should be refused.
 */
EXPORT size_t fastarchive_small(Room *room, const uint8_t *data, size_t size, const uint8_t *strings, const uint8_t lengths[5],
                                int64_t received, uint8_t *out, Times *times)
{
    Scan scan;
    Block blocks[2] = {{0}};
    uint32_t count = 1;
    size_t distance = 0;
    if (!size || size > MOST ||
        !fastarchive_header(data, size, room->wanted, room->wanted_count, LONGEST_ATTRIBUTE, room->found, room->attributes, &scan))
        return 0;
    if (scan.pixel_tag) {
        distance = distance_of(room, &scan, data);
        if (!distance || !scan.pixel_length || scan.pixel_length != size - scan.value_offset)
            return 0;
        count = 2;
    }
    Text affected[2] = {{strings, lengths[0]}, {strings + lengths[0], lengths[1]}};
    const uint8_t *others = strings + lengths[0] + lengths[1];
    Text text[STRINGS] = {
        uid_of(room, &scan, data, SOP_CLASS),
        uid_of(room, &scan, data, SOP_INSTANCE),
        uid_of(room, &scan, data, STUDY),
        uid_of(room, &scan, data, SERIES),
        {others, lengths[2]},
        {others + lengths[2], lengths[3]},
        {others + lengths[2] + lengths[3], lengths[4]},
    };
    for (int i = 0; i < 4; i++)
        if (!text[i].length || (i < 2 && affected[i].length && !same(text[i], affected[i])))
            return 0;

    uint64_t started = now();
    uint8_t digest[32];
    blake3(data, size, digest);
    uint64_t digested = now();

    size_t metadata = FIXED + scan.attributes + BLOCK_ENTRY * count;
    for (int i = 0; i < STRINGS; i++)
        metadata += text[i].length;
    blocks[0].raw = scan.value_offset;
    uint8_t *at = encode_plain(room, &blocks[0], data, out + metadata);
    if (count == 2) {
        blocks[1].raw = scan.pixel_length;
        at = encode_rows(room, &blocks[1], distance, data + scan.value_offset, at);
    }
    size_t total = (size_t)(at - out);

    uint32_t start[4] = {RECORD_FRAME, (uint32_t)metadata - 8, 0x43455246u /* FREC */, 0};
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
    for (int i = 0; i < STRINGS; i++)
        *to++ = (uint8_t)text[i].length;
    to = put(to, &scan.attributes, 4);
    for (int i = 0; i < STRINGS; i++)
        to = put(to, text[i].bytes, text[i].length);
    to = put(to, room->attributes, scan.attributes);
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
    uint32_t crc = crc_of(room->crc, crc_of(room->crc, 0, out, 12), out + 16, metadata - 16);
    memcpy(out + 12, &crc, 4);
    times->digest_time = digested - started;
    times->compress_time = now() - digested;
    return total;
}
