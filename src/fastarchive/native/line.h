/* The state of a line, and what is next in it: all of this with the lock. */
#ifndef FASTARCHIVE_LINE_H
#define FASTARCHIVE_LINE_H

#include "group.h"
#include "jobs.h"

#include <errno.h>
#include <pthread.h>
#include <unistd.h>

#define MOST_THREADS 64
#define MOST_MADE (32u << 20)   /* bytes of records that wait for the disk; until then no more are made */
#define KEPT 16                 /* buffers of each kind for records to come */
#define SMALL_DATA (64u << 10)  /* bytes of a data set, of the first kind; the others are of any size */
#define MOST_LEFT 4

/* A pack nothing more is written to. */
typedef struct {
    uint64_t serial, end;
    int32_t error; /* why; 0: there is no more room in it */
    uint32_t is_there;
} Left;

typedef struct {
    volatile uint64_t busy_since; /* CLOCK_MONOTONIC, nanoseconds, of the group that is being written; 0: none */
    pthread_mutex_t mutex;
    pthread_cond_t work;
    Writer writer;
    uint64_t seal_size;
    int bell; /* an eventfd, rung when something has landed */
    int rung, to_ring, to_rouse, closing, committing;
    uint32_t idle, alive, threads_count, rooms_count;
    Room *rooms[MOST_THREADS]; /* that nobody works in */
    Room *room_ahead;
    Job *ahead;   /* of which a record is made while it arrives: one at a time, begun when there is nothing else to do */
    int is_at_it; /* whether a thread is */
    pthread_t threads[MOST_THREADS];
    Jobs offered, made, landed, told;
    size_t in_hand; /* bytes of records being made */
    Pack pack, next;
    enum { CONTENT, ASKING, ASKED } asked; /* for a pack */
    int denied;                            /* why there is none to be had */
    Left left[MOST_LEFT];
    uint32_t left_count;
    uint64_t records, groups;
    uint8_t *small[KEPT], *large[KEPT];
    uint32_t small_count, large_count;
    uint32_t most;
} Line;

/* Whom to wake is written down, and done without the lock: whoever wakes wants it. */
static inline void ring(Line *line)
{
    line->to_ring = !line->rung;
}

static inline void unlock(Line *line)
{
    static const uint64_t ONE = 1;
    int rings = line->to_ring, rouses = line->to_rouse;
    line->rung |= rings;
    line->to_ring = line->to_rouse = 0;
    pthread_mutex_unlock(&line->mutex);
    if (rouses)
        pthread_cond_signal(&line->work);
    while (rings && write(line->bell, &ONE, sizeof ONE) < 0 && errno == EINTR)
        ;
}

static inline int fits(const Line *line, const Pack *pack, uint64_t size)
{
    return pack->fd >= 0 && (pack->end == PACK_PAGE || pack->end + size <= line->seal_size);
}

/* Whether one more thread may make records. */
static inline int has_hands(const Line *line)
{
    return line->rooms_count > (uint32_t)line->is_at_it;
}

static inline int can_make(const Line *line)
{
    return line->offered.first && has_hands(line) && line->made.bytes + line->in_hand < MOST_MADE;
}

/* Whether there is something to do for the data set that is arriving. */
static inline int can_go_on(const Line *line)
{
    const Job *job = line->ahead;
    return job && !line->is_at_it && has_hands(line) && (job->fed < job->count || job->ended || job->dropped);
}

/* Whether there is something to write, and a pack for it, which may be left for another and that one for an error; or none to be had. */
static inline int can_commit(const Line *line)
{
    return line->made.first && !line->committing && line->left_count + 2 <= MOST_LEFT &&
           (fits(line, &line->pack, line->made.first->length) || line->next.fd >= 0 || line->denied);
}

static inline void rouse(Line *line)
{
    if (line->idle && (can_commit(line) || can_go_on(line) || can_make(line)))
        line->to_rouse = 1;
}

/* Ask for a pack in good time: to create one takes longer than to write many records. */
static inline void ask(Line *line)
{
    int is_short = line->pack.fd < 0 || line->pack.end > line->seal_size - line->seal_size / 4 ||
                   (line->made.first && !fits(line, &line->pack, line->made.first->length));
    if (is_short && line->next.fd < 0 && !line->denied && line->asked == CONTENT) {
        line->asked = ASKING;
        ring(line);
    }
}

#endif
