/* What the native functions share. */
#ifndef FASTARCHIVE_NATIVE_H
#define FASTARCHIVE_NATIVE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "written for little endian machines; the archive works without this library, too"
#endif

#define EXPORT __attribute__((visibility("default")))

/* The widest vectors the machine has are chosen when the library is loaded. */
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__)
#define VECTORISED __attribute__((target_clones("arch=skylake-avx512", "arch=haswell", "default")))
#else
#define VECTORISED
#endif

static inline uint16_t load16(const uint8_t *from)
{
    uint16_t value;
    memcpy(&value, from, 2);
    return value;
}

static inline uint32_t load32(const uint8_t *from)
{
    uint32_t value;
    memcpy(&value, from, 4);
    return value;
}

/* The tag of an element in little endian. */
static inline uint32_t tag_at(const uint8_t *from)
{
    return (uint32_t)load16(from) << 16 | load16(from + 2);
}

static inline uint64_t load64(const uint8_t *from)
{
    uint64_t value;
    memcpy(&value, from, 8);
    return value;
}

/* What the filter ROWS for 16-bit samples made of `size` bytes, `distance` 8-byte words a row, undone into `out`. */
void fastarchive_restore_rows(const uint8_t *planes, size_t size, size_t distance, uint8_t *out);
/* `count` words of it, from these differences in two planes on, into `out`, which the row before precedes. */
void restore_words(const uint8_t *low, const uint8_t *high, size_t count, size_t distance, uint8_t *out);

#endif
