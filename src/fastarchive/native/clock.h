/* The clock of time.perf_counter(). Needs POSIX of 2008. */
#ifndef FASTARCHIVE_CLOCK_H
#define FASTARCHIVE_CLOCK_H

#include <stdint.h>
#include <time.h>

/* Nanoseconds. */
static inline uint64_t monotonic_time(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

#endif
