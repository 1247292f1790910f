/*
 * Which instances a log has beyond what was read of it, in one stroke: the folder of packs looked at, of each pack how far it is
 * durable (docs/format.md, "Header page"), and of each new record that it is a plain one and of which instance. Of those a table
 * holds fingerprints, so that a record is looked at once. Nothing here waits for the disk; whatever isn't plain is left to
 * store/follow.py, which reads records as they are.
 */
#define _GNU_SOURCE /* preadv2() */
#include "native.h"
#include "pack.h"
#include "record.h"

#include <sys/stat.h>
#include <sys/uio.h>

#define MOST_PACKS 64
#define MOST_RECORDS 8192u
#define SLOTS (2 * MOST_RECORDS)
#define LONGEST (64u << 10)      /* bytes of a record's metadata */
#define AHEAD 4096u              /* bytes read of a first record */
#define MOST_BLOCKS 8
#define STATE (PACK_DURABLE + 16 - PACK_SEAL)

enum { PERHAPS, LACKS, FULL, CHANGED };

typedef struct {
    uint64_t position; /* up to where its records were looked at */
    int fd;            /* -1: to its sealed end */
} Pack;

/* What one thread at a time works in; zeroes at first. */
typedef struct {
    char folder[4096];
    char noted[64];       /* SOP class */
    int64_t changed;      /* when the folder had changed last, in nanoseconds */
    uint32_t packs, records;
    size_t ahead;
    Pack pack[MOST_PACKS];
    uint64_t table[SLOTS]; /* fingerprints of instances, 0 where there is none */
    uint8_t record[LONGEST];
} Scout;

EXPORT size_t fastarchive_scout_room(void)
{
    return sizeof(Scout);
}

/* To look into this folder, but leave records of the SOP class `noted` to the caller. Returns 0 when a name is too long. */
EXPORT int fastarchive_scout_prepare(Scout *scout, const char *folder, const char *noted)
{
    if (strlen(folder) >= sizeof scout->folder || strlen(noted) >= sizeof scout->noted)
        return 0;
    strcpy(scout->folder, folder);
    strcpy(scout->noted, noted);
    scout->ahead = AHEAD;
    return 1;
}

/* Forget all packs and instances. The packs to come are those of the folder when it had changed then. */
EXPORT void fastarchive_scout_begin(Scout *scout, int64_t changed)
{
    if (scout->records)
        memset(scout->table, 0, sizeof scout->table);
    scout->records = scout->packs = 0;
    scout->changed = changed;
}

/* A pack, open as `fd` and read up to `position`. Returns 0 when there are too many. */
EXPORT int fastarchive_scout_add(Scout *scout, int fd, uint64_t position)
{
    if (scout->packs == MOST_PACKS)
        return 0;
    scout->pack[scout->packs++] = (Pack){position, fd};
    return 1;
}

/* Whether all of that is in memory. */
static int read_at(int fd, uint8_t *to, size_t size, uint64_t offset)
{
    struct iovec into = {to, size};
    return preadv2(fd, &into, 1, (off_t)offset, RWF_NOWAIT) == (ssize_t)size;
}

static uint64_t mixed(uint64_t value)
{
    value *= 0x9E3779B97F4A7C15u;
    return value ^ value >> 32;
}

static uint64_t fingerprint(const uint8_t *text, size_t length)
{
    uint64_t value = mixed(length), rest = 0;
    for (; length >= 8; text += 8, length -= 8)
        value = mixed(value ^ load64(text));
    memcpy(&rest, text, length);
    value = mixed(mixed(value ^ rest));
    return value ? value : 1;
}

/* Where a fingerprint is, or would be. */
static uint64_t *slot_of(Scout *scout, uint64_t value)
{
    size_t slot = value % SLOTS;
    while (scout->table[slot] && scout->table[slot] != value)
        slot = (slot + 1) % SLOTS;
    return scout->table + slot;
}

/* Pass the next record of a pack that is durable up to `end`, if it is a plain one: as in store/glimpse.py. */
static int pass(Scout *scout, Pack *pack, uint64_t end)
{
    uint8_t *record = scout->record;
    const uint8_t *lengths = record + RECORD_LENGTHS, *text = record + RECORD_FIXED;
    uint64_t left = end - pack->position;
    size_t size = left < scout->ahead ? (size_t)left : scout->ahead, strings = 0;
    if (size < RECORD_FIXED || !read_at(pack->fd, record, size, pack->position))
        return 0;
    uint64_t metadata = (uint64_t)load32(record + 4) + 8, total = load64(record + 24), stored = 0;
    uint32_t blocks = load32(record + 20);
    for (int string = 0; string < RECORD_STRINGS; string++)
        strings += lengths[string];
    if (load32(record) != RECORD_FRAME || load32(record + 8) != RECORD_MAGIC || load16(record + 16) != RECORD_VERSION ||
        record[18] != INSTANCE || record[19] || record[80] != DIGEST_BLAKE3 || blocks > MOST_BLOCKS || metadata > LONGEST ||
        metadata != RECORD_FIXED + strings + (uint64_t)load32(record + 88) + RECORD_BLOCK * blocks || total < metadata || total > left)
        return 0;
    if (metadata > size && !read_at(pack->fd, record + size, (size_t)metadata - size, pack->position + size))
        return 0;
    if (!record_is_whole(record, metadata))
        return 0;
    uint8_t bits = 0;
    for (size_t byte = 0; byte < strings; byte++)
        bits |= text[byte];
    for (uint32_t block = 1; block <= blocks; block++)
        stored += load32(record + metadata - RECORD_BLOCK * block);
    if (bits & 0x80 || total != metadata + stored ||
        (lengths[0] == strlen(scout->noted) && !memcmp(text, scout->noted, lengths[0])))
        return 0;
    uint64_t value = fingerprint(text + lengths[0], lengths[1]);
    *slot_of(scout, value) = value;
    scout->records++;
    scout->ahead = metadata + 64 < AHEAD ? (size_t)metadata + 64 : AHEAD; /* the next one is often like it */
    pack->position += total;
    return 1;
}

/* The packs that were added since are those the folder had when it had changed last, which was then. */
EXPORT void fastarchive_scout_go_on(Scout *scout, int64_t changed)
{
    scout->changed = changed;
}

/* Up to where there are records to be looked at, by the page a pack begins with, and whether there will never be more; 0 if it can't be told. */
static uint64_t end_of(const uint8_t *page, int *is_sealed)
{
    const uint8_t *durable = page + PACK_DURABLE - PACK_SEAL;
    *is_sealed = load64(page) != 0;
    if (!*is_sealed)
        return load64(durable) == ~load64(durable + 8) ? load64(durable) : 0;
    int good = !memcmp(page, PACK_SEALED, 8) && crc_of(0, page, PACK_SEAL_SIZE) == load32(page + PACK_SEAL_SIZE);
    return good ? load64(page + 8) : 0;
}

/* How many records were looked at since the beginning. */
EXPORT uint32_t fastarchive_scout_records(const Scout *scout)
{
    return scout->records;
}

/*
 * Whether no durable record beyond what was read of the packs is of this instance, or could tell anything else of it. PERHAPS is
 * no answer: there may be one, or something that is not for here, or the next record is not in memory, or there are more than `most`
 * records to look at; then all packs have to be read, and added anew. So they have when the table is FULL, for another try. When the folder
 * has CHANGED, what is new in it has to be added; what has gone from it requires to begin anew.
 */
EXPORT int fastarchive_scout(Scout *scout, const uint8_t *instance, size_t length, uint32_t most)
{
    struct stat status;
    if (stat(scout->folder, &status) || (int64_t)status.st_mtim.tv_sec * 1000000000 + status.st_mtim.tv_nsec != scout->changed)
        return CHANGED;
    for (Pack *pack = scout->pack, *last = pack + scout->packs; pack < last; pack++) {
        uint8_t page[STATE];
        int is_sealed;
        if (pack->fd < 0)
            continue;
        uint64_t end = read_at(pack->fd, page, STATE, PACK_SEAL) ? end_of(page, &is_sealed) : 0;
        if (end < PACK_PAGE)
            return PERHAPS;
        while (pack->position < end) {
            if (scout->records == MOST_RECORDS)
                return FULL;
            if (!most-- || !pass(scout, pack, end))
                return PERHAPS;
        }
        if (is_sealed)
            pack->fd = -1;
    }
    return *slot_of(scout, fingerprint(instance, length)) ? PERHAPS : LACKS;
}
