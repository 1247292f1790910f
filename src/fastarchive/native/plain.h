/* A whole record of a plain data set (plain.c). */
#ifndef FASTARCHIVE_PLAIN_H
#define FASTARCHIVE_PLAIN_H

#include <stddef.h>
#include <stdint.h>

/* What one thread at a time works in. */
typedef struct Room Room;

typedef struct {
    uint64_t digest_time; /* nanoseconds */
    uint64_t compress_time;
} Times;

/* A data set as it came. */
typedef struct {
    const uint8_t *const *pieces;
    const uint32_t *sizes;
    size_t count;
} Pieces;

/*
 * The size of a data set that begins with these bytes, if a record can be made of it here; 0 if not. It has `total` bytes, or,
 * if that is 0, as many as the length of its pixels says. The strings are those of find_parts().
 */
size_t fastarchive_plain_look(Room *room, const uint8_t *data, size_t size, size_t total, const uint8_t *strings,
                              const uint8_t lengths[5]);
/* Bytes there have to be for the record of a data set of `size` bytes. */
size_t fastarchive_plain_record_room(size_t size);
/*
 * The record of a data set of `size` bytes, no more than the room is for, received at `received`, made in `out`. Returns its size,
 * 0 when the data set is not plain, or should be refused.
 */
size_t fastarchive_plain_record(Room *room, uint8_t *out, const Pieces *data, size_t size, const uint8_t *strings,
                                const uint8_t lengths[5], int64_t received, Times *times);

/*
 * The same in steps, for a data set that is still coming: begin with its first piece, which must hold all of its header; feed every
 * piece, the first one, too; end when there are as many bytes as fastarchive_plain_look() told. The pieces and the strings must stay.
 */
int fastarchive_plain_begin(Room *room, const uint8_t *first, size_t size, size_t total, const uint8_t *strings,
                            const uint8_t lengths[5]);
void fastarchive_plain_feed(Room *room, const uint8_t *piece, size_t size);
size_t fastarchive_plain_end(Room *room, uint8_t *out, const Pieces *data, int64_t received, Times *times);

#endif
