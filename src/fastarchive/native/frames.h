/* zstd frames (RFC 8878) block by block. */
#ifndef FASTARCHIVE_FRAMES_H
#define FASTARCHIVE_FRAMES_H

#include "entropy.h"

#define FRAME_BLOCK (128u << 10) /* bytes a block stands for at most */
#define FRAME_HEAD 9
#define FRAME_BLOCK_HEAD 3
#define FRAME_TRIAL(size) (2 * (size) + 256) /* bytes a block may take while it is not known that it does not shrink */

/* What is known between two blocks that are decoded one after the other. All zero: nothing yet. */
typedef struct {
    HuffmanCode code;
    int has_code; /* `code` is the one the last block with Huffman literals described */
} Coder;

/* Bytes of memory that frame_block() works in, aligned to 8, and what has to be done to it once. */
size_t frame_scratch(void);
void frame_prepare(void *scratch);
/* The start of a frame of `content` bytes, which is below 4 GiB. Returns FRAME_HEAD. */
size_t frame_head(uint8_t *out, size_t content);
/* Write a block of at most FRAME_BLOCK bytes into `out`, which takes at most FRAME_BLOCK_HEAD more; there is room for
   FRAME_TRIAL(size) behind the head. Returns how many were written. */
size_t frame_block(void *scratch, Coder *coder, const uint8_t *data, size_t size, int last, uint8_t *out);

#endif
