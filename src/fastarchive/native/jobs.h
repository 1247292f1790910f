/* Data sets on their way to a pack, in queues. */
#ifndef FASTARCHIVE_JOBS_H
#define FASTARCHIVE_JOBS_H

#include "plain.h"

typedef struct Job {
    struct Job *next;
    uint64_t token;
    const uint8_t **pieces;
    uint32_t *sizes;
    size_t count, size; /* pieces, and bytes of all of them */
    const uint8_t *strings;
    uint8_t lengths[5];
    int64_t received;
    uint8_t *record; /* made */
    size_t length;
    uint64_t serial, offset; /* of the pack, and in it */
    uint64_t synced;
    int error;
    Times times;
    size_t fed, come;  /* of one that is still arriving: pieces that were worked on, and bytes that are here */
    int ended, dropped; /* whether all of it is here, or it is not wanted any more */
} Job;

typedef struct {
    Job *first, **last;
    size_t bytes; /* of their records */
} Jobs;

static inline void put_last(Jobs *jobs, Job *job)
{
    job->next = NULL;
    *jobs->last = job;
    jobs->last = &job->next;
    jobs->bytes += job->length;
}

static inline Job *take_first(Jobs *jobs)
{
    Job *job = jobs->first;
    jobs->first = job->next;
    jobs->bytes -= job->length;
    if (!jobs->first)
        jobs->last = &jobs->first;
    return job;
}

#endif
