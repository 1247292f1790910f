/*
 * The attributes of a record (Explicit VR Little Endian without sequences, PS3.5 7.1.2), split by the level they describe,
 * and compared with those of another instance of the series. The twins are in index/contributions.py.
 */
#include "kinds.h"

enum { OF_PATIENT, OF_STUDY, OF_SERIES, OF_IMAGE, OF_EVERY_LEVEL, OF_NONE };
#define KIND 7 /* what an attribute describes; beside it, whether it may differ within a series */
#define BELOW_SERIES 8

typedef struct {
    uint16_t kind;
    uint16_t text_vr; /* of text that is not plain ASCII, else 0 */
    uint32_t tag;
    uint32_t start; /* of the value */
    uint32_t end;
} Place;

typedef struct {
    uint32_t tag;
    uint16_t vr;
    size_t header;
    size_t start;
    size_t end;
} Element;

#define VR(a, b) ((a) | (b) << 8)

static int is_long(uint16_t vr)
{
    switch (vr) {
    case VR('O', 'B'): case VR('O', 'D'): case VR('O', 'F'): case VR('O', 'L'): case VR('O', 'V'): case VR('O', 'W'):
    case VR('S', 'Q'): case VR('S', 'V'): case VR('U', 'C'): case VR('U', 'N'): case VR('U', 'R'): case VR('U', 'T'):
    case VR('U', 'V'):
        return 1;
    }
    return 0;
}

static int is_text(uint16_t vr)
{
    switch (vr) {
    case VR('L', 'O'): case VR('L', 'T'): case VR('P', 'N'): case VR('S', 'H'): case VR('S', 'T'): case VR('U', 'C'):
    case VR('U', 'T'):
        return 1;
    }
    return 0;
}

static int is_binary(uint16_t vr)
{
    switch (vr) {
    case VR('A', 'T'): case VR('F', 'D'): case VR('F', 'L'): case VR('S', 'L'): case VR('S', 'S'): case VR('U', 'L'):
    case VR('U', 'S'):
        return 1;
    case VR('U', 'C'): case VR('U', 'R'): case VR('U', 'T'):
        return 0;
    }
    return is_long(vr);
}

/* The element at `at`; 0 at the end, or where there is none. */
static int element_at(const uint8_t *data, size_t size, size_t at, Element *element)
{
    if (size - at < 8)
        return 0;
    element->tag = (uint32_t)load16(data + at) << 16 | load16(data + at + 2);
    element->vr = load16(data + at + 4);
    element->header = at;
    element->start = at + 8;
    size_t length = load16(data + at + 6);
    if (is_long(element->vr)) {
        if (size - at < 12)
            return 0;
        length = load32(data + at + 8);
        element->start = at + 12;
    }
    if (length > size - element->start)
        return 0;
    element->end = element->start + length;
    return 1;
}

static int says_nothing(const uint8_t *value, size_t length)
{
    for (size_t at = 0; at < length; at++)
        switch (value[at]) {
        case ' ': case '\0': case '\\': case '^': case '=':
            continue;
        default:
            return 0;
        }
    return 1;
}

static int is_ascii(const uint8_t *value, size_t length)
{
    int other = 0;
    for (size_t at = 0; at < length; at++)
        other |= (value[at] & 0x80) | (value[at] == 0x1b); /* ESC begins another character set */
    return !other;
}

/*
 * The elements that say something, in their order, at most `most` of them; and those of the instance as UN elements in
 * `instance`, which has room for 2 × size. Returns their number, or -1 when tags don't ascend or there are more.
 */
EXPORT int32_t fastarchive_split(const uint8_t *data, size_t size, const Kinds *kinds, Place *places, size_t most,
                                 uint8_t *instance, uint32_t *instance_size)
{
    Element element;
    size_t count = 0, at = 0, written = 0;
    uint32_t before = 0;
    for (; element_at(data, size, at, &element); at = element.end) {
        if (at && element.tag <= before)
            return -1;
        before = element.tag;
        size_t length = element.end - element.start;
        if (!length || (!is_binary(element.vr) && says_nothing(data + element.start, length)))
            continue;
        uint8_t kind = kind_of(kinds, element.tag, OF_NONE) & KIND;
        if (kind == OF_NONE)
            continue;
        if (count == most)
            return -1;
        int other = is_text(element.vr) && !is_ascii(data + element.start, length);
        places[count++] = (Place){kind, other ? element.vr : 0, element.tag, (uint32_t)element.start, (uint32_t)element.end};
        if (kind == OF_IMAGE || kind == OF_EVERY_LEVEL) {
            uint8_t header[12] = {0, 0, 0, 0, 'U', 'N'};
            uint32_t value = (uint32_t)length;
            memcpy(header, data + element.header, 4);
            memcpy(header + 8, &value, 4);
            memcpy(instance + written, header, 12);
            memcpy(instance + written + 12, data + element.start, length);
            written += 12 + length;
        }
    }
    *instance_size = (uint32_t)written;
    return (int32_t)count;
}

/* The next element at or after `*at` that is the same in a whole series: 1; 0 if there is none, -1 if what differs is text
   or has a long value. The elements before it go to `out`, if that isn't NULL. */
static int next_of_series(const uint8_t *data, size_t size, size_t *at, const Kinds *kinds, Element *element, uint8_t *out,
                          size_t *written)
{
    while (element_at(data, size, *at, element)) {
        if (!(kind_of(kinds, element->tag, OF_NONE) & BELOW_SERIES))
            return 1;
        if (is_text(element->vr) || is_long(element->vr))
            return -1;
        if (out) {
            memcpy(out + *written, data + element->header, element->end - element->header);
            *written += element->end - element->header;
        }
        *at = element->end;
    }
    return 0;
}

/*
 * The elements of the instance that `data` tells of, if everything else is as in `first`; then those that every level has.
 * `out` has room for `size` bytes. Returns their size; -1 if anything else differs, or could need another character set.
 */
EXPORT int64_t fastarchive_instance_part(const uint8_t *first, size_t first_size, const uint8_t *data, size_t size,
                                         const Kinds *kinds, uint8_t *out)
{
    Element known, element;
    size_t known_at = 0, at = 0, written = 0;
    int common = 0;
    for (;;) {
        int more = next_of_series(first, first_size, &known_at, kinds, &known, NULL, NULL);
        int found = next_of_series(data, size, &at, kinds, &element, out, &written);
        if (more < 0 || found != more)
            return -1;
        if (!found)
            break;
        size_t length = element.end - at;
        if (known.end - known_at != length || memcmp(first + known_at, data + at, length))
            return -1;
        common |= (kind_of(kinds, element.tag, OF_NONE) & KIND) == OF_EVERY_LEVEL;
        known_at = known.end;
        at = element.end;
    }
    if (first_size - known_at != size - at || memcmp(first + known_at, data + at, size - at))
        return -1;
    for (size_t again = 0; common && element_at(data, size, again, &element); again = element.end)
        if ((kind_of(kinds, element.tag, OF_NONE) & (KIND | BELOW_SERIES)) == OF_EVERY_LEVEL) {
            memcpy(out + written, data + element.header, element.end - element.header);
            written += element.end - element.header;
        }
    return (int64_t)written;
}
