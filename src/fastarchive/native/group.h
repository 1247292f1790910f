/* Records written behind one another to a pack (group.c). */
#ifndef FASTARCHIVE_GROUP_H
#define FASTARCHIVE_GROUP_H

#include "pack.h"

#include <stdint.h>
#include <sys/uio.h>

#define GROUP_MOST 256   /* records */

/* The operating system's files, or what stands for them. All return -errno when they fail. */
typedef struct {
    int64_t (*write)(int fd, const struct iovec *parts, int count, uint64_t offset); /* bytes, perhaps not all */
    int (*sync)(int fd);
    int64_t (*room)(int fd); /* bytes that may still be written */
} Files;

extern const Files SYSTEM_FILES;

/* An open pack. */
typedef struct {
    int fd; /* -1: none */
    uint64_t serial;
    uint64_t end;      /* everything before is durable */
    uint64_t reserved; /* up to where there is space set aside */
    uint64_t zeroed;   /* up to where zeroes were written ahead */
} Pack;

/* What writes groups, one at a time. */
typedef struct {
    Files files;
    uint64_t reserve; /* bytes that stay free on the disk */
    int64_t mean;     /* bytes of a group lately; at first too many for zeroes */
} Writer;

#define WRITER_MEAN (64 << 10)

/*
 * Write `count` records of `size` bytes together behind the end of a pack, sync them, and publish them: then the end is behind
 * them. Returns 0 or -errno, after which nothing more should be written to the pack, and its end tells whether they are to stay.
 * `*synced`: the nanoseconds that took. The parts are changed.
 */
int group_write(Writer *writer, Pack *pack, struct iovec *parts, int count, uint64_t size, uint64_t *synced);

#endif
