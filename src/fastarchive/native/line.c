/*
 * Plain data sets made into records and written to a pack by threads that need no interpreter: what goes in are the pieces of a
 * data set, what comes out is where its durable record is. The order of writes is that of store/log.py.
 *
 * Any thread does whatever is next. One at a time commits what is made; as many as there are rooms make records. Whoever has
 * made a record commits it himself if nobody is at it, while it still lies in his caches. How data sets come here is told by
 * offers.c.
 */
#define _POSIX_C_SOURCE 200809L
#include "clock.h"
#include "line.h"
#include "native.h"
#include "record.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>

/* What became of a data set. */
typedef struct {
    uint64_t token;
    uint64_t serial, offset, length;
    const uint8_t *record; /* until the next call */
    uint32_t metadata;
    int32_t error;
    uint64_t digest_time, compress_time, sync_time; /* nanoseconds */
} Landed;

/* What its owner has to do, and what has been done. */
typedef struct {
    uint32_t wants_pack; /* to be given, or denied; told once */
    uint32_t threads;    /* that have not ended */
    uint32_t is_news;    /* whether any of this has to be looked at */
    uint32_t has_more;   /* to be called again */
    uint64_t records, groups;
    uint64_t serial, end; /* of the pack in use, if any */
    Left left;            /* all that is in it has landed, and been told of before */
} Progress;

/* Memory for a record, with the lock. Only the pages that are written to take any. */
static uint8_t *buffer_for(Line *line, size_t size)
{
    if (size <= SMALL_DATA)
        return line->small_count ? line->small[--line->small_count] : malloc(fastarchive_plain_record_room(SMALL_DATA));
    return line->large_count ? line->large[--line->large_count] : malloc(fastarchive_plain_record_room(line->most));
}

static void forget(Line *line, Job *job)
{
    if (job->record && job->size <= SMALL_DATA && line->small_count < KEPT)
        line->small[line->small_count++] = job->record;
    else if (job->record && job->size > SMALL_DATA && line->large_count < KEPT)
        line->large[line->large_count++] = job->record;
    else
        free(job->record);
    free(job);
}

/* From here on with the lock, which some let go of for a while. */

static void land(Line *line, Job *job)
{
    put_last(&line->landed, job);
    ring(line);
}

static void leave_pack(Line *line, int error)
{
    line->left[line->left_count++] = (Left){line->pack.serial, line->pack.end, error, 1};
    line->pack.fd = -1;
    ring(line);
}

/* The record of a data set is made and has this length; 0: it isn't. */
static void is_made(Line *line, Job *job, size_t length)
{
    line->in_hand -= job->size;
    job->length = length;
    if (length) {
        put_last(&line->made, job);
        ask(line);
    } else { /* it was looked at before: not to be expected */
        job->error = job->record ? EINVAL : ENOMEM;
        land(line, job);
    }
}

/* Make the record of the data set that has waited longest. */
static void make_one(Line *line)
{
    Job *job = take_first(&line->offered);
    Room *room = line->rooms[--line->rooms_count]; /* the one used last: it may still be in a cache */
    job->record = buffer_for(line, job->size);
    line->in_hand += job->size;
    rouse(line);
    unlock(line);
    const Pieces pieces = {job->pieces, job->sizes, job->count};
    size_t length = 0;
    if (job->record)
        length = fastarchive_plain_record(room, job->record, &pieces, job->size, job->strings, job->lengths, job->received, &job->times);
    pthread_mutex_lock(&line->mutex);
    line->rooms[line->rooms_count++] = room;
    is_made(line, job, length);
}

/* Do what can be done for the data set that is arriving. */
static void go_on(Line *line)
{
    Job *job = line->ahead;
    Room *room = line->room_ahead;
    line->is_at_it = 1;
    if (!job->fed) {
        job->record = buffer_for(line, job->size);
        line->in_hand += job->size;
    }
    while (job->fed < job->count && !job->dropped) {
        size_t from = job->fed, to = job->count; /* those after that may be written to */
        unlock(line);
        int good = from || fastarchive_plain_begin(room, job->pieces[0], job->sizes[0], job->size, job->strings, job->lengths);
        for (; good && from < to; from++)
            fastarchive_plain_feed(room, job->pieces[from], job->sizes[from]);
        pthread_mutex_lock(&line->mutex);
        job->fed = to;
        if (!good) { /* it was looked at before: not to be expected */
            job->dropped = 1;
            job->error = EINVAL;
        }
    }
    if (job->ended && !job->dropped) {
        const Pieces pieces = {job->pieces, job->sizes, job->count};
        unlock(line);
        size_t length = job->record ? fastarchive_plain_end(room, job->record, &pieces, job->received, &job->times) : 0;
        pthread_mutex_lock(&line->mutex);
        line->ahead = NULL;
        is_made(line, job, length);
    } else if (job->dropped) {
        line->ahead = NULL;
        line->in_hand -= job->size;
        job->error = job->error ? job->error : ECANCELED;
        land(line, job);
    }
    line->is_at_it = 0;
}

static void fail_made(Line *line, int error)
{
    while (line->made.first) {
        Job *job = take_first(&line->made);
        job->error = error;
        land(line, job);
    }
}

/* Make what is made durable, as much of it as goes into the pack, or tell why that can't be done. */
static void commit(Line *line)
{
    if (!fits(line, &line->pack, line->made.first->length)) {
        if (line->pack.fd >= 0)
            leave_pack(line, 0);
        line->pack = line->next;
        line->next.fd = -1;
        if (line->pack.fd < 0) {
            fail_made(line, line->denied);
            return;
        }
    }
    Pack pack = line->pack;
    Jobs group = {NULL, &group.first, 0};
    struct iovec parts[GROUP_MOST];
    uint64_t synced = 0;
    int count = 0;
    do {
        Job *job = take_first(&line->made);
        job->serial = pack.serial;
        job->offset = pack.end + group.bytes;
        parts[count++] = (struct iovec){job->record, job->length};
        put_last(&group, job);
    } while (count < GROUP_MOST && line->made.first && pack.end + group.bytes + line->made.first->length <= line->seal_size);
    line->committing = 1;
    line->busy_since = monotonic_time();
    rouse(line);
    unlock(line);
    int error = group_write(&line->writer, &pack, parts, count, group.bytes, &synced);
    pthread_mutex_lock(&line->mutex);
    line->committing = 0;
    line->busy_since = 0;
    line->pack = pack;
    if (error)
        leave_pack(line, -error);
    else
        line->records += (uint64_t)count, line->groups++;
    while (group.first) {
        Job *job = take_first(&group);
        job->error = -error;
        job->synced = synced;
        land(line, job);
    }
    ask(line);
}

static void *work(void *argument)
{
    Line *line = argument;
    pthread_mutex_lock(&line->mutex);
    for (;;) {
        if (line->to_ring) {
            unlock(line);
            pthread_mutex_lock(&line->mutex);
        }
        if (can_commit(line)) {
            commit(line);
        } else if (can_go_on(line)) {
            go_on(line);
        } else if (can_make(line)) {
            make_one(line);
        } else if (line->closing && !line->offered.first && !line->made.first && !line->ahead) {
            break;
        } else {
            line->idle++;
            pthread_cond_wait(&line->work, &line->mutex);
            line->idle--;
        }
    }
    line->alive--;
    ring(line);
    pthread_cond_broadcast(&line->work); /* the others may end, too */
    unlock(line);
    return NULL;
}

/*
 * A line without threads. `rooms`: one more than records are made at a time, prepared for data sets of `most` bytes. Packs are left when they would become longer than
 * `seal_size`; `reserve` bytes stay free on the disk. `files` may be NULL. NULL when there is no memory.
 */
EXPORT Line *fastarchive_line(const Files *files, uint64_t seal_size, uint64_t reserve, int bell, uint32_t most,
                              Room *const *rooms, uint32_t rooms_count)
{
    Line *line = rooms_count > 1 && rooms_count <= MOST_THREADS ? calloc(1, sizeof *line) : NULL;
    if (!line)
        return NULL;
    Jobs *all[] = {&line->offered, &line->made, &line->landed, &line->told};
    for (int i = 0; i < 4; i++)
        all[i]->last = &all[i]->first;
    pthread_mutex_init(&line->mutex, NULL);
    pthread_cond_init(&line->work, NULL);
    line->writer = (Writer){files ? *files : SYSTEM_FILES, reserve, WRITER_MEAN};
    line->seal_size = seal_size;
    line->bell = bell;
    line->most = most;
    line->rooms_count = rooms_count - 1;
    line->room_ahead = rooms[rooms_count - 1];
    memcpy(line->rooms, rooms, line->rooms_count * sizeof *rooms);
    line->pack.fd = line->next.fd = -1;
    return line;
}

/* Let so many threads work at it: at least one. Returns how many do. */
EXPORT uint32_t fastarchive_line_start(Line *line, uint32_t threads)
{
    sigset_t all, before;
    sigfillset(&all); /* signals are for the threads of the interpreter */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_mutex_lock(&line->mutex);
    while (line->threads_count < threads && line->threads_count < MOST_THREADS &&
           !pthread_create(&line->threads[line->threads_count], NULL, work, line))
        line->threads_count++;
    line->alive = line->threads_count;
    unlock(line);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return line->threads_count;
}

/* A pack to go on with: open, locked, with `end` bytes in it and `reserved` set aside. */
EXPORT void fastarchive_line_give(Line *line, int fd, uint64_t serial, uint64_t end, uint64_t reserved)
{
    pthread_mutex_lock(&line->mutex);
    line->next = (Pack){fd, serial, end, reserved, 0};
    line->asked = CONTENT;
    line->denied = 0;
    rouse(line);
    unlock(line);
}

/* There is none to be had, for this reason, until one is given all the same: who waits for one is told. */
EXPORT void fastarchive_line_deny(Line *line, int error)
{
    pthread_mutex_lock(&line->mutex);
    line->asked = CONTENT;
    line->denied = error;
    rouse(line);
    unlock(line);
}

/* What has landed since the last call, up to `most`; how much that is. */
EXPORT uint32_t fastarchive_line_landed(Line *line, Landed *out, uint32_t most, Progress *progress)
{
    uint64_t rings;
    uint32_t count = 0;
    pthread_mutex_lock(&line->mutex);
    /* Whoever put something here before the lock was taken may only be about to ring: then it is heard once more. */
    while (read(line->bell, &rings, sizeof rings) < 0 && errno == EINTR)
        ;
    line->rung = 0;
    while (line->told.first)
        forget(line, take_first(&line->told));
    for (; line->landed.first && count < most; count++) {
        Job *job = take_first(&line->landed);
        out[count] = (Landed){.token = job->token, .serial = job->serial, .offset = job->offset, .length = job->length,
                              .record = job->record, .metadata = job->length ? 8 + load32(job->record + 4) : 0,
                              .error = job->error, .digest_time = job->times.digest_time,
                              .compress_time = job->times.compress_time, .sync_time = job->synced};
        put_last(&line->told, job);
    }
    *progress = (Progress){.wants_pack = line->asked == ASKING, .threads = line->alive, .records = line->records,
                           .groups = line->groups, .serial = line->pack.serial, .end = line->pack.fd < 0 ? 0 : line->pack.end,
                           .has_more = line->landed.first || line->left_count > 1};
    if (progress->wants_pack)
        line->asked = ASKED;
    if (!line->landed.first && line->left_count) {
        progress->left = line->left[0];
        memmove(line->left, line->left + 1, --line->left_count * sizeof *line->left);
        rouse(line);
    }
    progress->is_news = progress->wants_pack || progress->left.is_there || !line->alive;
    unlock(line);
    return count;
}

/* Take nothing on any more. The threads end when everything has landed, for which they may want packs. */
EXPORT void fastarchive_line_stop(Line *line)
{
    pthread_mutex_lock(&line->mutex);
    line->closing = 1;
    if (line->ahead && !line->ahead->ended)
        line->ahead->dropped = 1;
    ask(line);
    pthread_cond_broadcast(&line->work);
    unlock(line);
}

/* Give everything back, when the threads have ended; tells of the packs it has: their fds are its owner's. */
EXPORT void fastarchive_line_free(Line *line, Pack packs[2])
{
    for (uint32_t i = 0; i < line->threads_count; i++)
        pthread_join(line->threads[i], NULL);
    packs[0] = line->pack;
    packs[1] = line->next;
    while (line->told.first)
        forget(line, take_first(&line->told));
    while (line->small_count)
        free(line->small[--line->small_count]);
    while (line->large_count)
        free(line->large[--line->large_count]);
    pthread_cond_destroy(&line->work);
    pthread_mutex_destroy(&line->mutex);
    free(line);
}
