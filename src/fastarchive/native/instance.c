/*
 * Whether a data set in Explicit VR Little Endian is a plain one with nothing to find fault with, and what it consists of:
 * the checks of store/intake.py and the plan of store/codec.py for 16-bit pixels in one block, or none.
 */
#include "instance.h"
#include "native.h"

#define LONGEST_ATTRIBUTE 4096u
#define LONGEST_UID 64u

#define SOP_CLASS 0x00080016u
#define SOP_INSTANCE 0x00080018u
#define STUDY 0x0020000Du
#define SERIES 0x0020000Eu

static const Found *find(const Finder *finder, const Scan *scan, uint32_t tag)
{
    for (uint32_t i = 0; i < scan->count; i++)
        if (finder->found[i].tag == tag)
            return &finder->found[i];
    return NULL;
}

static Text value_of(const Finder *finder, const Scan *scan, const uint8_t *data, uint32_t tag)
{
    const Found *found = find(finder, scan, tag);
    return found ? (Text){data + found->offset, found->length} : (Text){data, 0};
}

/* A number in 16 bits; 0 if there is none. */
static uint32_t number_of(const Finder *finder, const Scan *scan, const uint8_t *data, uint32_t tag)
{
    Text value = value_of(finder, scan, data, tag);
    return value.length < 2 ? 0 : load16(value.bytes);
}

static int is_padding(uint8_t byte)
{
    return byte == ' ' || byte == 0;
}

static int is_alphanumeric(uint8_t byte)
{
    return (byte >= '0' && byte <= '9') || (byte >= 'A' && byte <= 'Z') || (byte >= 'a' && byte <= 'z');
}

/* A UID without its padding, if it is one that means itself everywhere (store/intake.py); length 0 otherwise. */
static Text uid_of(const Finder *finder, const Scan *scan, const uint8_t *data, uint32_t tag)
{
    Text uid = value_of(finder, scan, data, tag), none = {data, 0};
    while (uid.length && is_padding(uid.bytes[uid.length - 1]))
        uid.length--;
    while (uid.length && is_padding(*uid.bytes))
        uid.bytes++, uid.length--;
    if (!uid.length || uid.length > LONGEST_UID || !is_alphanumeric(*uid.bytes))
        return none;
    for (size_t i = 1; i < uid.length; i++) {
        uint8_t byte = uid.bytes[i];
        if (byte < ' ' || byte > '~' || byte == '"' || byte == '*' || byte == '/' || byte == '?' || byte == '\\')
            return none;
    }
    return uid;
}

static int same(Text one, Text other)
{
    return one.length == other.length && !memcmp(one.bytes, other.bytes, one.length);
}

/*
 * The 8-byte words from a row of 16-bit pixels to the next; 0 if the header describes other pixels, rows too long, or pixels
 * of more than a block.
 */
static size_t distance_of(const Finder *finder, const Scan *scan, const uint8_t *data)
{
    uint32_t samples = number_of(finder, scan, data, 0x00280002), columns = number_of(finder, scan, data, 0x00280011);
    if (scan->pixel_tag != 0x7FE00010 || number_of(finder, scan, data, 0x00280100) != 16)
        return 0;
    if (!samples || number_of(finder, scan, data, 0x00280006) == 1) /* one, or colour by plane */
        samples = 1;
    uint64_t row = (uint64_t)columns * samples * 2;
    if (!row || row > BLOCK_SIZE || scan->pixel_length > BLOCK_SIZE / row * row)
        return 0;
    return row >= 16 ? row / 8 : 1;
}

size_t find_parts(Finder *finder, const uint8_t *data, size_t size, size_t total, const uint8_t *strings,
                  const uint8_t lengths[5], Parts *parts)
{
    Scan *scan = &parts->scan;
    parts->distance = 0;
    if (!size || !fastarchive_header(data, size, finder->wanted, finder->wanted_count, LONGEST_ATTRIBUTE, finder->found,
                                     finder->attributes, scan))
        return 0;
    if (scan->pixel_tag) {
        parts->distance = distance_of(finder, scan, data);
        size_t told = (size_t)scan->value_offset + scan->pixel_length;
        if (!parts->distance || !scan->pixel_length || told != (total ? total : told))
            return 0;
        total = told;
    } else if (size != total)
        return 0;
    Text affected[2] = {{strings, lengths[0]}, {strings + lengths[0], lengths[1]}};
    const uint8_t *others = strings + lengths[0] + lengths[1];
    Text *text = parts->text;
    text[0] = uid_of(finder, scan, data, SOP_CLASS);
    text[1] = uid_of(finder, scan, data, SOP_INSTANCE);
    text[2] = uid_of(finder, scan, data, STUDY);
    text[3] = uid_of(finder, scan, data, SERIES);
    text[4] = (Text){others, lengths[2]};
    text[5] = (Text){others + lengths[2], lengths[3]};
    text[6] = (Text){others + lengths[2] + lengths[3], lengths[4]};
    for (int i = 0; i < 4; i++)
        if (!text[i].length || (i < 2 && affected[i].length && !same(text[i], affected[i])))
            return 0;
    return total;
}
