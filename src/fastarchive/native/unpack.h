/* Frames of 16-bit pixels read back (unpack.c). */
#ifndef FASTARCHIVE_UNPACK_H
#define FASTARCHIVE_UNPACK_H

#include <stddef.h>
#include <stdint.h>

size_t fastarchive_unpack_work(size_t size);
/* The `size` bytes of both planes in a frame of `stored` bytes, somewhere in `work`, which is as fastarchive_unpack() has it;
   NULL if the frame is damaged or not one that rows.c writes. */
const uint8_t *unpack_planes(void *work, const uint8_t *frame, size_t stored, size_t size);

/*
 * Both planes in step, a block of each at a time, so that little is under way: first unpack_in_step_begin(), which returns
 * whether the frame of `size` bytes is laid out as rows.c does; then unpack_in_step() until all samples have come, which returns
 * how many there are in each of the planes now, 0 if the frame is damaged.
 */
typedef struct InStep InStep;
size_t unpack_in_step_work(void);
int unpack_in_step_begin(InStep *work, const uint8_t *frame, size_t stored, size_t size);
size_t unpack_in_step(InStep *work, const uint8_t *frame, size_t stored, const uint8_t *planes[2]);

#endif
