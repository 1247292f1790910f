/*
 * Scan of the header of a data set in Explicit VR Little Endian (PS3.5 7.1.2), the plain case of dicom/headers.py: tags
 * ascend, values have 16-bit lengths or are skipped. Whatever is not plain is left to the Python code, which knows the
 * odd ways of writers; nothing is guessed here.
 */
#include "headers.h"
#include "native.h"

#define MOST_NESTING 64

#define VR(a, b) ((a) | (b) << 8)

/* 16 or 32: the bits of the length field (PS3.5 Tables 7.1-1 and 7.1-2); 0: not a VR of the standard. */
static int length_bits(uint16_t vr)
{
    switch (vr) {
    case VR('A', 'E'): case VR('A', 'S'): case VR('A', 'T'): case VR('C', 'S'): case VR('D', 'A'): case VR('D', 'S'):
    case VR('D', 'T'): case VR('F', 'L'): case VR('F', 'D'): case VR('I', 'S'): case VR('L', 'O'): case VR('L', 'T'):
    case VR('P', 'N'): case VR('S', 'H'): case VR('S', 'L'): case VR('S', 'S'): case VR('S', 'T'): case VR('T', 'M'):
    case VR('U', 'I'): case VR('U', 'L'): case VR('U', 'S'):
        return 16;
    case VR('O', 'B'): case VR('O', 'D'): case VR('O', 'F'): case VR('O', 'L'): case VR('O', 'V'): case VR('O', 'W'):
    case VR('S', 'Q'): case VR('S', 'V'): case VR('U', 'C'): case VR('U', 'N'): case VR('U', 'R'): case VR('U', 'T'):
    case VR('U', 'V'):
        return 32;
    }
    return 0;
}

/* The offset after a sequence of undefined length whose first item is at `at`; 0: not plain. */
static size_t skip_sequence(const uint8_t *data, size_t size, size_t at)
{
    int depth = 0; /* odd: within an item */
    for (;;) {
        if (at + 8 > size)
            return 0;
        uint32_t tag = tag_at(data + at), length = load32(data + at + 4);
        if (tag >> 16 == 0xFFFE) {
            int in_item = depth & 1;
            at += 8;
            if (tag == 0xFFFEE000 && !in_item) {
                if (length != UINT32_MAX)
                    at += length;
                else if (++depth >= MOST_NESTING)
                    return 0;
            } else if (tag == 0xFFFEE00D && in_item)
                depth--;
            else if (tag == 0xFFFEE0DD && !in_item) {
                if (depth == 0)
                    return at;
                depth--;
            } else
                return 0;
            continue;
        }
        if (!(depth & 1))
            return 0;
        uint16_t vr = load16(data + at + 4);
        int bits = length_bits(vr);
        if (bits == 16)
            at += 8 + load16(data + at + 6);
        else if (bits == 32 && at + 12 <= size) {
            length = load32(data + at + 8);
            at += 12;
            if (length != UINT32_MAX)
                at += length;
            else if (vr != VR('S', 'Q') || ++depth >= MOST_NESTING)
                return 0;
        } else
            return 0;
    }
}

/*
 * Find the `wanted` tags, which ascend, and the pixel data. `found` has room for them all; those at most `longest` bytes
 * long are also copied to `attributes`, header and value as they are, which has room for all of these.
 * Returns 1, or 0 when the data set is not plain or not complete.
 */
EXPORT int fastarchive_header(const uint8_t *data, size_t size, const uint32_t *wanted, uint32_t wanted_count,
                              uint32_t longest, Found *found, uint8_t *attributes, Scan *scan)
{
    size_t at = 0;
    uint32_t before = 0, next = 0;
    memset(scan, 0, sizeof *scan);
    if (size > UINT32_MAX)
        return 0;
    while (at < size) {
        if (at + 8 > size)
            return 0;
        uint32_t tag = tag_at(data + at);
        uint16_t vr = load16(data + at + 4);
        int bits = length_bits(vr);
        if (tag <= before || tag >> 16 == 0xFFFE || !bits)
            return 0;
        before = tag;
        size_t start = at;
        uint32_t length;
        if (bits == 16) {
            length = load16(data + at + 6);
            at += 8;
        } else {
            if (at + 12 > size)
                return 0;
            length = load32(data + at + 8);
            at += 12;
        }
        if (tag == 0x7FE00008 || tag == 0x7FE00009 || tag == 0x7FE00010) {
            scan->pixel_tag = tag;
            scan->pixel_vr = vr;
            scan->pixel_length = length;
            scan->header_offset = (uint32_t)start;
            scan->value_offset = (uint32_t)at;
            return 1;
        }
        while (next < wanted_count && wanted[next] < tag)
            next++;
        int is_wanted = next < wanted_count && wanted[next] == tag;
        if (bits == 32 && length == UINT32_MAX) {
            if (vr != VR('S', 'Q') || is_wanted)
                return 0;
            at = skip_sequence(data, size, at);
            if (!at)
                return 0;
            continue;
        }
        if (length > size - at || (is_wanted && (bits == 32 || length & 1)))
            return 0;
        if (is_wanted) {
            found[scan->count++] = (Found){tag, vr, 0, (uint32_t)at, length};
            if (length <= longest) {
                memcpy(attributes + scan->attributes, data + start, 8 + length);
                scan->attributes += 8 + length;
            }
        }
        at += length;
    }
    scan->value_offset = (uint32_t)size;
    return 1;
}
