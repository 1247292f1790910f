/*
 * Rows from the document store of a Tantivy segment (index/stored.py), many in one call. The store, version 2: blocks of
 * documents, each the size it has unpacked (32 bits) and an LZ4 block; an index of the blocks in layers, each of which
 * says where to look in the next; a footer. A block ends with where each of its documents begins and how many there are.
 * Numbers of variable length have seven bits a byte, the lowest first; the highest bit marks the last byte.
 */
#include "native.h"

enum { FOOTER_SIZE = 28, STORE_VERSION = 2, LZ4 = 1, BYTES = 4, MOST_LAYERS = 16 };

typedef struct {
    const uint8_t *at, *end;
} Input;

typedef struct {
    uint64_t first, documents, offset, size;
} Block;

static int number(Input *in, uint64_t *value)
{
    *value = 0;
    for (unsigned shift = 0; shift < 63 && in->at < in->end; shift += 7) {
        uint8_t byte = *in->at++;
        *value |= (uint64_t)(byte & 127) << shift;
        if (byte & 128)
            return 1;
    }
    return 0;
}

/* The block that has a document. */
static int seek(Input in, uint32_t document, Block *block)
{
    uint64_t layers, ends[MOST_LAYERS], begin = 0;
    if (!number(&in, &layers) || !layers || layers > MOST_LAYERS)
        return 0;
    for (uint64_t layer = 0; layer < layers; layer++)
        if (!number(&in, &ends[layer]))
            return 0;
    *block = (Block){0};
    for (uint64_t layer = 0; layer < layers; begin = ends[layer++]) {
        uint64_t entries;
        if (ends[layer] > (uint64_t)(in.end - in.at) || begin > ends[layer] || block->offset > ends[layer] - begin)
            return 0;
        Input list = {in.at + begin + block->offset, in.at + ends[layer]};
        if (!number(&list, &entries) || !number(&list, &block->first) || !number(&list, &block->offset))
            return 0;
        if (block->first > document)
            return 0;
        for (block->documents = block->size = 0;; entries--) {
            if (!entries || !number(&list, &block->documents) || !number(&list, &block->size))
                return 0;
            if (document - block->first < block->documents)
                break;
            block->first += block->documents;
            block->offset += block->size;
            if (block->first > document)
                return 0;
        }
    }
    return 1;
}

/* The rest of a length of which a token holds the first four bits. */
static int length(Input *in, size_t *size)
{
    if (*size != 15)
        return 1;
    uint8_t more;
    do {
        if (in->at == in->end)
            return 0;
        *size += more = *in->at++;
    } while (more == 255);
    return 1;
}

/* An LZ4 block that unpacks to exactly `size` bytes. */
static int unpack(Input in, uint8_t *out, size_t size)
{
    const uint8_t *begin = out, *end = out + size;
    while (in.at < in.end) {
        uint8_t token = *in.at++;
        size_t literals = token >> 4, match = token & 15, distance;
        if (!length(&in, &literals) || literals > (size_t)(in.end - in.at) || literals > (size_t)(end - out))
            return 0;
        if (literals <= 16 && in.end - in.at >= 16 && end - out >= 16)
            memcpy(out, in.at, 16);
        else
            memcpy(out, in.at, literals);
        in.at += literals;
        out += literals;
        if (in.at == in.end)
            return out == end;
        if (in.end - in.at < 2)
            return 0;
        distance = load16(in.at);
        in.at += 2;
        if (!length(&in, &match) || !distance || distance > (size_t)(out - begin))
            return 0;
        match += 4;
        if (match > (size_t)(end - out))
            return 0;
        const uint8_t *from = out - distance;
        uint8_t *stop = out + match;
        if (distance >= 16 && (size_t)(end - out) >= match + 16)
            for (; out < stop; out += 16, from += 16)
                memcpy(out, from, 16);
        else if (distance >= 8 && (size_t)(end - out) >= match + 8)
            for (; out < stop; out += 8, from += 8)
                memcpy(out, from, 8);
        else
            while (out < stop)
                *out++ = *from++;
        out = stop;
    }
    return 0;
}

/* The one value of a document, bytes. */
static int row_of(const uint8_t *block, size_t size, uint64_t place, Input *row)
{
    if (size < 4)
        return 0;
    uint64_t documents = load32(block + size - 4), fields, bytes;
    if (documents > (size - 4) / 4 || place >= documents)
        return 0;
    const uint8_t *starts = block + size - 4 - 4 * documents;
    uint64_t last = (uint64_t)(starts - block), start = load32(starts + 4 * place);
    uint64_t end = place + 1 < documents ? load32(starts + 4 * place + 4) : last;
    if (start > end || end > last)
        return 0;
    *row = (Input){block + start, block + end};
    if (!number(row, &fields) || fields != 1 || row->end - row->at < 5 || row->at[4] != BYTES)
        return 0;
    row->at += 5; /* the field, of which there is one, and the type */
    return number(row, &bytes) && bytes == (uint64_t)(row->end - row->at);
}

/* The rows of documents, in ascending order for speed, into `out`; ends[i] is where row i ends. `room` is for one
   unpacked block. Returns how many were read: fewer when the next has no room, or is not as it should be. */
EXPORT uint32_t fastarchive_stored(const uint8_t *store, size_t size, const uint32_t *documents, uint32_t count,
                                   uint8_t *room, size_t room_size, uint8_t *out, size_t capacity, uint32_t *ends)
{
    if (size < FOOTER_SIZE)
        return 0;
    const uint8_t *footer = store + size - FOOTER_SIZE;
    uint64_t blocks = load64(footer + 4);
    if (load32(footer) != STORE_VERSION || footer[12] != LZ4 || blocks > size - FOOTER_SIZE)
        return 0;
    Block block = {0};
    size_t unpacked = 0, used = 0;
    for (uint32_t at = 0; at < count; at++) {
        if (documents[at] < block.first || documents[at] - block.first >= block.documents) {
            if (!seek((Input){store + blocks, footer}, documents[at], &block))
                return at;
            if (block.offset > blocks || block.size > blocks - block.offset || block.size < 4)
                return at;
            const uint8_t *packed = store + block.offset;
            unpacked = load32(packed);
            if (unpacked > room_size || !unpack((Input){packed + 4, packed + block.size}, room, unpacked))
                return at;
        }
        Input row;
        if (!row_of(room, unpacked, documents[at] - block.first, &row))
            return at;
        size_t bytes = (size_t)(row.end - row.at);
        if (bytes > capacity - used)
            return at;
        memcpy(out + used, row.at, bytes);
        used += bytes;
        ends[at] = (uint32_t)used;
    }
    return count;
}
