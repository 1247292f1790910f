/*
 * Pending C-FIND responses from stored rows (index/rows.py, index/table.py, index/encoded.py): each the framed command
 * set, then one P-DATA-TF with the identifier (PS3.8 9.3.5). A list of steps, made once for a query, says which elements
 * an identifier has and where each value comes from. A row that is not as it should be, or whose answer takes more than
 * this knows, gets no answer here and is left to the Python code.
 */
#include "native.h"

#define MOST_STEPS 128

enum { SOURCE_NONE, SOURCE_ELEMENT, SOURCE_ABOVE, SOURCE_STUDIES, SOURCE_SERIES, SOURCE_INSTANCES, SOURCE_MODALITIES,
       SOURCE_SOP_CLASSES };

typedef struct {
    uint32_t source;
    uint32_t argument;      /* tag of an element, number of a value from above */
    uint32_t header_offset; /* in the literals: what comes before the length */
    uint16_t header_size;
    uint8_t length_size;    /* 2 or 4 */
    uint8_t is_text;
    uint8_t padding;
    uint8_t unused[3];
} Step;

typedef struct {
    const uint8_t *data;
    uint32_t size;
} Value;

typedef struct {
    const Step *steps;
    uint32_t count;
    uint32_t character_set_size; /* the first of the literals: the element that names UTF-8; 0: answers are not in it */
    const uint8_t *literals;
    uint32_t trailer_offset; /* in the literals: what comes after the last value */
    uint32_t trailer_size;
} Template;

static inline void store32_big(uint8_t *to, uint32_t value)
{
    value = __builtin_bswap32(value);
    memcpy(to, &value, 4);
}

static int is_ascii(Value value)
{
    uint32_t at = 0;
    uint64_t high = 0;
    for (; at + 8 <= value.size; at += 8)
        high |= load64(value.data + at);
    for (; at < value.size; at++)
        high |= (uint64_t)value.data[at];
    return !(high & 0x8080808080808080u);
}

/* Whether a value has nothing but what says nothing (encoded.PADDING). */
static int is_padding(const uint8_t *data, uint32_t size)
{
    for (uint32_t at = 0; at < size; at++)
        switch (data[at]) {
        case ' ': case 0: case '\\': case '^': case '=':
            break;
        default:
            return 0;
        }
    return 1;
}

#define VR(a, b) ((a) | (b) << 8)

static int has_long_length(uint16_t vr) /* encoded.LONG_VRS */
{
    switch (vr) {
    case VR('O', 'B'): case VR('O', 'D'): case VR('O', 'F'): case VR('O', 'L'): case VR('O', 'V'): case VR('O', 'W'):
    case VR('S', 'Q'): case VR('S', 'V'): case VR('U', 'C'): case VR('U', 'N'): case VR('U', 'R'): case VR('U', 'T'):
    case VR('U', 'V'):
        return 1;
    }
    return 0;
}

static int is_binary(uint16_t vr) /* encoded.BINARY_VRS */
{
    switch (vr) {
    case VR('U', 'C'): case VR('U', 'R'): case VR('U', 'T'):
        return 0;
    case VR('A', 'T'): case VR('F', 'D'): case VR('F', 'L'): case VR('S', 'L'): case VR('S', 'S'): case VR('U', 'L'):
    case VR('U', 'S'):
        return 1;
    }
    return has_long_length(vr);
}

/* The elements of an instance, Explicit VR Little Endian; stops at anything malformed, as the Python code does. */
static void pick_encoded(const uint8_t *row, uint32_t at, uint32_t size, const Template *template, Value *values)
{
    while (size - at >= 8) {
        uint32_t tag = tag_at(row + at), length = load16(row + at + 6);
        uint16_t vr = load16(row + at + 4);
        at += 8;
        if (has_long_length(vr)) {
            if (size - at < 4)
                return;
            length = load32(row + at);
            at += 4;
        }
        if (length > size - at)
            return;
        for (uint32_t number = 0; number < template->count; number++) {
            const Step *step = template->steps + number;
            if (step->source == SOURCE_ELEMENT && step->argument == tag) {
                int told = is_binary(vr) || !is_padding(row + at, length);
                values[number] = (Value){row + at, told ? length : 0};
                break;
            }
        }
        at += length;
    }
}

/* The elements of a patient, study or series; 0: not a table. */
static int pick_table(const uint8_t *row, uint32_t at, uint32_t size, const Template *template, Value *values)
{
    if (size - at < 8)
        return 0;
    uint64_t origins = (uint64_t)load32(row + at) * 24, count = load32(row + at + 4);
    at += 8;
    if (origins + count * 12 > size - at)
        return 0;
    const uint8_t *tags = row + at + origins, *ends = tags + count * 4, *data = ends + count * 8;
    uint32_t room = (uint32_t)(row + size - data);
    for (uint32_t number = 0; number < template->count; number++) {
        const Step *step = template->steps + number;
        if (step->source != SOURCE_ELEMENT)
            continue;
        for (uint32_t place = 0; place < count; place++)
            if (load32(tags + place * 4) == step->argument) {
                uint32_t start = place ? load32(ends + place * 4 - 4) : 0, end = load32(ends + place * 4);
                if (start > end || end > room)
                    return 0;
                values[number] = (Value){data + start, end - start};
                break;
            }
    }
    return 1;
}

static Value decimal(uint32_t number, uint8_t *digits)
{
    uint8_t *end = digits + 10, *at = end;
    do
        *--at = '0' + number % 10;
    while (number /= 10);
    return (Value){at, (uint32_t)(end - at)};
}

/* The values of all steps that come from the row; 0 when it is none. */
static int pick(const uint8_t *row, uint32_t size, const Template *template, Value *values, uint8_t (*digits)[10])
{
    enum { INSTANCE = 3, INSTANCE_SIZE = 109, INSTANCE_TEXTS = 6, ENTITY_SIZE = 31, ENTITY_TEXTS = 5 };
    if (!size || row[0] > INSTANCE)
        return 0;
    uint32_t fixed = row[0] == INSTANCE ? INSTANCE_SIZE : ENTITY_SIZE;
    uint32_t texts = row[0] == INSTANCE ? INSTANCE_TEXTS : ENTITY_TEXTS, at = fixed, lengths[INSTANCE_TEXTS];
    if (size < fixed)
        return 0;
    for (uint32_t text = 0; text < texts; text++) {
        lengths[text] = load16(row + fixed - 2 * (texts - text));
        at += lengths[text];
    }
    if (at > size)
        return 0;
    if (row[0] == INSTANCE) {
        pick_encoded(row, at, size, template, values);
        return 1;
    }
    for (uint32_t number = 0; number < template->count; number++)
        switch (template->steps[number].source) {
        case SOURCE_STUDIES:
            values[number] = decimal(load32(row + 9), digits[number]);
            break;
        case SOURCE_SERIES:
            values[number] = decimal(load32(row + 13), digits[number]);
            break;
        case SOURCE_INSTANCES:
            values[number] = decimal(load32(row + 17), digits[number]);
            break;
        case SOURCE_MODALITIES:
            values[number] = (Value){row + at - lengths[4] - lengths[3], lengths[3]};
            break;
        case SOURCE_SOP_CLASSES:
            values[number] = (Value){row + at - lengths[4], lengths[4]};
            break;
        }
    return pick_table(row, at, size, template, values);
}

static uint8_t *put(uint8_t *out, const uint8_t *data, size_t size)
{
    memcpy(out, data, size);
    return out + size;
}

/* From rows that lie one after the other. Identifiers of at most `longest` bytes. Returns how many bytes were written; ends[i] is where answer i ends, or where
   the one before it ends if there is none. */
EXPORT size_t fastarchive_answers(const uint8_t *rows, const uint32_t *sizes, uint32_t count,
                                  const Template *template, const uint8_t *const *above, const uint32_t *above_sizes,
                                  const uint8_t *command, uint32_t command_size, uint32_t context, uint32_t longest,
                                  uint8_t *out, size_t capacity, uint32_t *ends)
{
    uint8_t digits[MOST_STEPS][10];
    Value values[MOST_STEPS];
    uint8_t *const begin = out;
    if (template->count > MOST_STEPS)
        return 0;
    for (uint32_t at = 0; at < count; at++) {
        ends[at] = (uint32_t)(out - begin);
        for (uint32_t number = 0; number < template->count; number++) {
            const Step *step = template->steps + number;
            values[number] = (Value){(const uint8_t *)"", 0};
            if (step->source == SOURCE_ABOVE)
                values[number] = (Value){above[step->argument], above_sizes[step->argument]};
        }
        const uint8_t *row = rows;
        rows += sizes[at];
        if (!pick(row, sizes[at], template, values, digits))
            continue;
        uint64_t size = template->trailer_size;
        int plain = 1, fits = 1;
        for (uint32_t number = 0; number < template->count; number++) {
            const Step *step = template->steps + number;
            uint64_t length = (uint64_t)values[number].size + (values[number].size & 1);
            fits &= step->length_size == 4 || length <= 0xFFFE;
            plain &= !step->is_text || is_ascii(values[number]);
            size += step->header_size + step->length_size + length;
        }
        if (!plain)
            size += template->character_set_size;
        if (!fits || (!plain && !template->character_set_size) || size > longest
            || size + command_size + 12 > capacity - (size_t)(out - begin))
            continue;
        out = put(out, command, command_size);
        out[0] = 4;
        out[1] = 0;
        store32_big(out + 2, (uint32_t)size + 6);
        store32_big(out + 6, (uint32_t)size + 2);
        out[10] = (uint8_t)context;
        out[11] = 2;
        out += 12;
        if (!plain)
            out = put(out, template->literals, template->character_set_size);
        for (uint32_t number = 0; number < template->count; number++) {
            const Step *step = template->steps + number;
            uint32_t length = values[number].size + (values[number].size & 1);
            out = put(out, template->literals + step->header_offset, step->header_size);
            out = put(out, (const uint8_t *)&length, step->length_size);
            out = put(out, values[number].data, values[number].size);
            if (values[number].size & 1)
                *out++ = step->padding;
        }
        out = put(out, template->literals + template->trailer_offset, template->trailer_size);
        ends[at] = (uint32_t)(out - begin);
    }
    return (size_t)(out - begin);
}
