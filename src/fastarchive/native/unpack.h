/* Frames of 16-bit pixels read back (unpack.c). */
#ifndef FASTARCHIVE_UNPACK_H
#define FASTARCHIVE_UNPACK_H

#include <stddef.h>
#include <stdint.h>

size_t fastarchive_unpack_work(size_t size);
/* The `size` bytes of both planes in a frame of `stored` bytes, somewhere in `work`, which is as fastarchive_unpack() has it;
   NULL if the frame is damaged or not one that rows.c writes. */
const uint8_t *unpack_planes(void *work, const uint8_t *frame, size_t stored, size_t size);

#endif
