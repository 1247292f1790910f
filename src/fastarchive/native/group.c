/*
 * Records written behind one another to a pack, made durable and published: store/log.py tells the reasons of the order, and
 * store/ahead.py when zeroes are written ahead.
 */
#define _GNU_SOURCE /* pwritev() */
#include "group.h"
#include "clock.h"

#include <errno.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define STRETCH (256u << 10)  /* zeroes at a time */
#define SMALL_GROUP (32 << 10)

static const uint8_t zeroes[STRETCH];

static int64_t write_file(int fd, const struct iovec *parts, int count, uint64_t offset)
{
    ssize_t written = pwritev(fd, parts, count, (off_t)offset);
    return written < 0 ? -errno : written;
}

static int sync_file(int fd)
{
    return fdatasync(fd) ? -errno : 0;
}

static int64_t room_of(int fd)
{
    struct statvfs status;
    return fstatvfs(fd, &status) ? -errno : (int64_t)(status.f_bavail * status.f_frsize);
}

const Files SYSTEM_FILES = {write_file, sync_file, room_of};

static int is_full(int64_t error)
{
    return error == -ENOSPC || error == -EDQUOT || error == -EFBIG;
}

/* Zeroes ahead of small groups, if that pays. Returns 0 or -errno. */
static int write_ahead(Writer *writer, Pack *pack, uint64_t size)
{
    writer->mean += ((int64_t)size - writer->mean) / 8;
    if (pack->end + size <= pack->zeroed || writer->mean > SMALL_GROUP || size > STRETCH)
        return 0;
    uint64_t start = pack->zeroed > pack->end ? pack->zeroed : pack->end;
    if (start >= pack->reserved)
        return 0;
    uint64_t length = pack->reserved - start < STRETCH ? pack->reserved - start : STRETCH;
    struct iovec part = {(void *)zeroes, length};
    int64_t written = writer->files.write(pack->fd, &part, 1, start);
    if (written == (int64_t)length)
        pack->zeroed = start + length;
    else if (written >= 0 || is_full(written))
        pack->reserved = 0; /* not done any more */
    else
        return (int)written;
    return 0;
}

/* All of the parts, whatever it takes. Returns 0 or -errno. */
static int write_all(const Files *files, int fd, struct iovec *parts, int count, uint64_t offset)
{
    while (count) {
        int64_t written = files->write(fd, parts, count, offset);
        if (written == -EINTR)
            continue;
        if (written <= 0)
            return written ? (int)written : -EIO;
        offset += (uint64_t)written;
        for (; count && (uint64_t)written >= parts->iov_len; parts++, count--)
            written -= (int64_t)parts->iov_len;
        if (count) {
            parts->iov_base = (uint8_t *)parts->iov_base + written;
            parts->iov_len -= (uint64_t)written;
        }
    }
    return 0;
}

int group_write(Writer *writer, Pack *pack, struct iovec *parts, int count, uint64_t size, uint64_t *synced)
{
    const Files *files = &writer->files;
    int error;
    if (writer->reserve) {
        int64_t room = files->room(pack->fd);
        if (room < (int64_t)(writer->reserve + size))
            return room < 0 ? (int)room : -ENOSPC;
    }
    if ((error = write_ahead(writer, pack, size)) || (error = write_all(files, pack->fd, parts, count, pack->end)))
        return error;
    uint64_t started = monotonic_time();
    if ((error = files->sync(pack->fd)))
        return error;
    *synced = monotonic_time() - started;
    /* From here on the group may be seen: should publishing fail, it is not acknowledged, but never cut off either. */
    pack->end += size;
    uint64_t state[2] = {pack->end, ~pack->end};
    struct iovec part = {state, sizeof state};
    return write_all(files, pack->fd, &part, 1, PACK_DURABLE);
}
