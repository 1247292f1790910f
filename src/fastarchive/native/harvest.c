/*
 * The records of a pack dealt out to several readers by whose they are (docs/format.md, "Record"). The twin is in
 * index/harvest.py.
 */
#include "native.h"
#include "record.h"

#define LONGEST_DEALT 128

/* Which of `of` readers an instance's record falls to: by its Patient ID, or its study where it has none. */
static uint32_t dealt(const uint8_t *record, size_t metadata, uint32_t of)
{
    static const uint8_t PATIENT_ID[] = {0x10, 0, 0x20, 0, 'L', 'O'};
    const uint8_t *lengths = record + RECORD_LENGTHS, *end = record + metadata, *whose = end;
    size_t size = 0, at = RECORD_FIXED;
    for (int string = 0; string < RECORD_STRINGS; string++)
        at += lengths[string];
    for (; at + sizeof PATIENT_ID <= metadata; at++)
        if (!memcmp(record + at, PATIENT_ID, sizeof PATIENT_ID)) {
            if (at + 8 <= metadata) {
                whose = record + at + 8;
                size = load16(record + at + 6);
                if (size > (size_t)(end - whose))
                    size = (size_t)(end - whose);
            }
            break;
        }
    while (size && (*whose == ' ' || *whose == 0))
        whose++, size--;
    while (size && (whose[size - 1] == ' ' || whose[size - 1] == 0))
        size--;
    if (size > LONGEST_DEALT)
        return 0;
    for (size_t byte = 0; byte < size; byte++)
        if (whose[byte] & 0x80 || whose[byte] == 0x1b)
            return 0;
    if (!size) {
        size_t start = RECORD_FIXED + (size_t)lengths[0] + lengths[1];
        start = start < metadata ? start : metadata;
        whose = record + start;
        size = lengths[2] < metadata - start ? lengths[2] : metadata - start;
    }
    return crc_of(0, whose, size) % of;
}

typedef struct {
    uint32_t at;       /* from the start of the piece */
    uint32_t metadata; /* bytes */
    uint64_t total;    /* bytes of the whole record */
    uint32_t before;   /* records passed before it */
    uint32_t unused;
} Found;

typedef struct {
    uint64_t next;   /* where to read on, from the start of the piece */
    uint64_t needed; /* bytes that have to be there then */
    uint64_t last;   /* size of the last record passed */
    uint32_t passed; /* records */
    uint32_t ended;  /* whether what is there is no whole record, or goes beyond the end */
} Reached;

/*
 * The records in `piece` that fall to reader `number` of `of`, at most `most`; `left` bytes of records are left in the
 * pack from the start of the piece on. Deletions and the like fall to everyone. Checksums are verified of what falls to
 * others; the rest is for the caller. Returns how many were found.
 */
EXPORT uint32_t fastarchive_deal(const uint8_t *piece, size_t size, uint64_t left, uint32_t number, uint32_t of, Found *found,
                                 uint32_t most, Reached *reached)
{
    uint32_t count = 0;
    uint64_t at = 0;
    memset(reached, 0, sizeof *reached);
    while (at < left && count < most) {
        reached->needed = RECORD_FIXED;
        if (at > size || size - at < RECORD_FIXED) {
            reached->ended = left - at < RECORD_FIXED;
            break;
        }
        const uint8_t *record = piece + at;
        uint64_t metadata = (uint64_t)load32(record + 4) + 8, blocks = load32(record + 20), total = load64(record + 24);
        reached->ended = load32(record) != RECORD_FRAME || load32(record + 8) != RECORD_MAGIC ||
                         load16(record + 16) != RECORD_VERSION || metadata < RECORD_FIXED + RECORD_BLOCK * blocks || total < metadata ||
                         total > left - at;
        if (reached->ended)
            break;
        reached->needed = metadata;
        if (metadata > size - at)
            break;
        if (of == 1 || record[18] != INSTANCE || dealt(record, metadata, of) == number)
            found[count++] = (Found){(uint32_t)at, (uint32_t)metadata, total, reached->passed, 0};
        else if (!record_is_whole(record, metadata)) {
            reached->ended = 1;
            break;
        }
        reached->passed++;
        reached->last = total;
        at += total;
    }
    reached->next = at;
    return count;
}
