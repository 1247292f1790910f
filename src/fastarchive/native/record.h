/* How a record lies in a pack (docs/format.md, "Record"). */
#ifndef FASTARCHIVE_RECORD_H
#define FASTARCHIVE_RECORD_H

#include "crc.h"
#include "native.h"

#define RECORD_FRAME 0x184D2A51u
#define RECORD_MAGIC 0x43455246u /* FREC */
#define RECORD_VERSION 1
#define RECORD_FIXED 92u /* bytes before the strings */
#define RECORD_STRINGS 7 /* SOP class, instance, study, series, transfer syntax, calling and called AE title */
#define RECORD_LENGTHS 81 /* where theirs are, a byte each */
#define RECORD_CRC 12    /* where that of the metadata is */
#define RECORD_DIGEST 48
#define RECORD_BLOCK 24u /* bytes of metadata a block */
#define RAW_FRAME 0x184D2A52u
#define RAW_HEAD 8u      /* bytes before a block that is as it came */
enum { INSTANCE = 1, QUARANTINED = 3 };
enum { DIGEST_BLAKE3 = 1 };
enum { RAW = 0, ZSTD = 1 };
enum { NONE = 0, ROWS = 2 };

/* The CRC of a record's `metadata` bytes of metadata, in which it stands itself. */
static inline uint32_t record_crc(const uint8_t *record, size_t metadata)
{
    return crc_of(crc_of(0, record, RECORD_CRC), record + RECORD_CRC + 4, metadata - RECORD_CRC - 4);
}

/* Whether they are what they were. */
static inline int record_is_whole(const uint8_t *record, size_t metadata)
{
    return record_crc(record, metadata) == load32(record + RECORD_CRC);
}

#endif
