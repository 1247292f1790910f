/* The CRC-32 of zlib, which records carry (docs/format.md, "Record"). */
#ifndef FASTARCHIVE_CRC_H
#define FASTARCHIVE_CRC_H

#include <stddef.h>
#include <stdint.h>

/* Of `size` bytes more; `value` is that of the bytes before, 0 if there are none. */
uint32_t crc_of(uint32_t value, const uint8_t *data, size_t size);

#endif
