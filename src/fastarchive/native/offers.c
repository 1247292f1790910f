/*
 * How data sets come to a line: whole, or, when it has nothing else to do, while they are still arriving, so that most of a
 * record is made when the last piece is there. These are the calls of whoever receives; they never wait.
 */
#define _POSIX_C_SOURCE 200809L
#include "line.h"
#include "native.h"

#include <stdlib.h>

/* Pieces of a data set that is arriving. */
#define MOST_PIECES 512

/* A data set of `size` bytes, of whose pieces these are here, with room for `most`; the strings are copied. */
static Job *new_job(uint64_t token, const uint8_t *const *pieces, const uint32_t *sizes, size_t count, size_t most, size_t size,
                    const uint8_t *strings, const uint8_t lengths[5])
{
    size_t text = 0;
    for (int i = 0; i < 5; i++)
        text += lengths[i];
    Job *job = malloc(sizeof *job + most * (sizeof *pieces + sizeof *sizes) + text);
    if (!job)
        return NULL;
    *job = (Job){.token = token, .count = count, .size = size};
    job->pieces = (const uint8_t **)(job + 1);
    job->sizes = (uint32_t *)(job->pieces + most);
    job->strings = (uint8_t *)(job->sizes + most);
    memcpy(job->pieces, pieces, count * sizeof *pieces);
    memcpy(job->sizes, sizes, count * sizeof *sizes);
    memcpy((uint8_t *)job->strings, strings, text);
    memcpy(job->lengths, lengths, 5);
    return job;
}

static size_t sum(const uint32_t *sizes, size_t count)
{
    size_t size = 0;
    for (size_t i = 0; i < count; i++)
        size += sizes[i];
    return size;
}

/*
 * Take a data set on, if it is a plain one; it must stay where it is until it has landed. The strings are those of find_parts();
 * `looker` is a room for this call. Returns 0 when it isn't, or can't be taken on.
 */
EXPORT int fastarchive_line_offer(Line *line, Room *looker, uint64_t token, const uint8_t *const *pieces, const uint32_t *sizes,
                                  size_t count, const uint8_t *strings, const uint8_t lengths[5], int64_t received)
{
    size_t size = sum(sizes, count);
    if (!size || size > line->most || !fastarchive_plain_look(looker, pieces[0], sizes[0], size, strings, lengths))
        return 0;
    Job *job = new_job(token, pieces, sizes, count, count, size, strings, lengths);
    if (!job)
        return 0;
    job->received = received;
    pthread_mutex_lock(&line->mutex);
    int open = !line->closing;
    if (open) {
        put_last(&line->offered, job);
        ask(line);
        rouse(line);
    }
    unlock(line);
    if (!open)
        free(job);
    return open;
}

static int has_time(const Line *line)
{
    return !line->closing && !line->ahead && line->idle && !line->offered.first && has_hands(line) &&
           line->made.bytes + line->in_hand < MOST_MADE;
}

/*
 * As fastarchive_line_offer(), for a data set that has begun to arrive with these pieces, whose size its header tells. Returns that
 * size; 0 when it is not plain, or the line has other things to do. It lands in any case, with ECANCELED when it was dropped.
 */
EXPORT size_t fastarchive_line_begin(Line *line, Room *looker, uint64_t token, const uint8_t *const *pieces, const uint32_t *sizes,
                                     size_t count, const uint8_t *strings, const uint8_t lengths[5])
{
    pthread_mutex_lock(&line->mutex);
    int wanted = has_time(line);
    unlock(line);
    size_t size = wanted ? fastarchive_plain_look(looker, pieces[0], sizes[0], 0, strings, lengths) : 0, come = sum(sizes, count);
    if (!size || come > size || count > MOST_PIECES)
        return 0;
    Job *job = new_job(token, pieces, sizes, count, MOST_PIECES, size, strings, lengths);
    if (!job)
        return 0;
    job->come = come;
    pthread_mutex_lock(&line->mutex);
    line->ahead = job; /* nobody else begins one, nor closes the line meanwhile */
    ask(line);
    rouse(line);
    unlock(line);
    return size;
}

/* The data set of this token, if it is the one that is arriving. With the lock. */
static Job *ahead(const Line *line, uint64_t token)
{
    return line->ahead && line->ahead->token == token ? line->ahead : NULL;
}

/*
 * More pieces of it have come. The last ones come with the time, in nanoseconds, at which it was `received`; else that is 0. Returns 0
 * when this is not the size it should have, or there are too many: it is dropped.
 */
EXPORT int fastarchive_line_more(Line *line, uint64_t token, const uint8_t *const *pieces, const uint32_t *sizes, size_t count,
                                 int64_t received)
{
    size_t come = sum(sizes, count);
    pthread_mutex_lock(&line->mutex);
    Job *job = ahead(line, token);
    int good = job && !job->dropped && !job->ended && count <= MOST_PIECES - job->count && come <= job->size - job->come &&
               (!received || come == job->size - job->come);
    if (good) {
        memcpy(job->pieces + job->count, pieces, count * sizeof *pieces);
        memcpy(job->sizes + job->count, sizes, count * sizeof *sizes);
        job->count += count;
        job->come += come;
        job->received = received;
        job->ended = received != 0;
    } else if (job && !job->ended) {
        job->dropped = 1;
    }
    rouse(line);
    unlock(line);
    return good;
}

/* Nothing more comes of it. */
EXPORT void fastarchive_line_drop(Line *line, uint64_t token)
{
    pthread_mutex_lock(&line->mutex);
    Job *job = ahead(line, token);
    if (job && !job->ended)
        job->dropped = 1;
    rouse(line);
    unlock(line);
}
