/*
 * What a patient, study or series is found by, as Tantivy's binding takes it: JSON made of the stored row. Values in plain
 * ASCII only, as nearly all are; the others are named for the caller. The twin is in index/terms.py.
 */
#include "kinds.h"

#define EXACT 1  /* has terms of its values as a whole */
#define GRAMS 2  /* has a field of texts to be cut into grams */
#define DATE 4   /* has a field of dates */
#define TIME 8   /* has a field of times */
#define NUMBER 16
#define NAME 32
#define FIELD (GRAMS | DATE | TIME)
#define LONGEST 400 /* characters of a text */

static const char HEX[] = "0123456789abcdef";

static uint8_t *put(uint8_t *out, const char *text, size_t size)
{
    memcpy(out, text, size);
    return out + size;
}
#define PUT(out, text) put(out, text, sizeof(text) - 1)

static uint8_t *put_tag(uint8_t *out, uint32_t tag)
{
    for (int shift = 28; shift >= 0; shift -= 4)
        *out++ = (uint8_t)HEX[tag >> shift & 15];
    return out;
}

/* Printable ASCII without a backslash. */
static uint8_t *put_text(uint8_t *out, const uint8_t *text, size_t size)
{
    for (size_t at = 0; at < size; at++) {
        if (text[at] == '"')
            *out++ = '\\';
        *out++ = text[at];
    }
    return out;
}

static uint8_t *put_number(uint8_t *out, uint32_t number)
{
    uint8_t digits[10];
    int count = 0;
    do
        digits[count++] = (uint8_t)('0' + number % 10);
    while (number /= 10);
    while (count)
        *out++ = digits[--count];
    return out;
}

static uint8_t *put_base64(uint8_t *out, const uint8_t *data, size_t size)
{
    static const char LETTERS[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t at = 0;
    for (; at + 3 <= size; at += 3) {
        uint32_t three = (uint32_t)data[at] << 16 | (uint32_t)data[at + 1] << 8 | data[at + 2];
        *out++ = (uint8_t)LETTERS[three >> 18];
        *out++ = (uint8_t)LETTERS[three >> 12 & 63];
        *out++ = (uint8_t)LETTERS[three >> 6 & 63];
        *out++ = (uint8_t)LETTERS[three & 63];
    }
    if (at < size) {
        uint32_t last = (uint32_t)data[at] << 16 | (at + 1 < size ? (uint32_t)data[at + 1] << 8 : 0);
        *out++ = (uint8_t)LETTERS[last >> 18];
        *out++ = (uint8_t)LETTERS[last >> 12 & 63];
        *out++ = at + 1 < size ? (uint8_t)LETTERS[last >> 6 & 63] : '=';
        *out++ = '=';
    }
    return out;
}

static int is_space(uint8_t letter)
{
    return letter == ' ' || letter == 0;
}

static int are_digits(const uint8_t *text, size_t size)
{
    for (size_t at = 0; at < size; at++)
        if (text[at] < '0' || text[at] > '9')
            return 0;
    return 1;
}

static uint32_t number_of(const uint8_t *text, size_t size)
{
    uint32_t number = 0;
    for (size_t at = 0; at < size; at++)
        number = 10 * number + (uint32_t)(text[at] - '0');
    return number;
}

/* A date as yyyymmdd, or a time as minutes since midnight; 0 if it is written in any but the usual way. */
static int point_of(const uint8_t *text, size_t size, uint8_t recipe, uint32_t *point)
{
    if (recipe & DATE) {
        if (size != 8 || !are_digits(text, 8))
            return 0;
        uint32_t month = number_of(text + 4, 2), day = number_of(text + 6, 2);
        *point = number_of(text, 8);
        return 1 <= month && month <= 12 && 1 <= day && day <= 31;
    }
    if (size < 6 || !are_digits(text, 6))
        return 0;
    if (size > 6 && (size < 8 || size > 13 || text[6] != '.' || !are_digits(text + 7, size - 7)))
        return 0;
    uint32_t hour = number_of(text, 2), minute = number_of(text + 2, 2);
    *point = 60 * hour + minute;
    return hour < 24 && minute < 60 && number_of(text + 4, 2) < 60;
}

/* A text as it is cut into grams, in lower case and for names without spaces around carets; its size. */
static size_t fold(const uint8_t *text, size_t size, uint8_t recipe, uint8_t *folded)
{
    size_t written = 0;
    for (size_t at = 0; at < size; at++) {
        uint8_t letter = text[at];
        if (recipe & NAME) {
            if (letter == '^')
                while (written && folded[written - 1] == ' ')
                    written--;
            else if (letter == ' ' && written && folded[written - 1] == '^')
                continue;
        }
        folded[written++] = letter >= 'A' && letter <= 'Z' ? letter | 0x20 : letter;
    }
    return written;
}

static uint8_t *put_grams(uint8_t *out, uint32_t tag, const uint8_t *text, size_t size, uint8_t recipe)
{
    uint8_t room[LONGEST], *folded = room;
    size = fold(text, size, recipe, folded);
    while (size && (folded[0] == ' ' || (recipe & NAME && folded[0] == '^')))
        folded++, size--;
    while (size && (folded[size - 1] == ' ' || (recipe & NAME && folded[size - 1] == '^')))
        size--;
    if (!size)
        return out;
    out = PUT(put_tag(PUT(out, ",\"g"), tag), "\":\"\\u0002");
    return PUT(put_text(out, folded, size), "\\u0003\"");
}

/* Its term of field `exact`, after a comma. */
static uint8_t *put_exact(uint8_t *out, uint32_t tag, const uint8_t *text, size_t size, uint8_t recipe)
{
    out = PUT(put_tag(PUT(out, ",\""), tag), "=");
    if (!(recipe & NUMBER))
        return PUT(put_text(out, text, size), "\"");
    while (size > 1 && *text == '0')
        text++, size--;
    return PUT(put(out, (const char *)text, size), ".0\"");
}

/* The value without its padding: 1, or 0 for one that is not plain. */
static int is_plain(const uint8_t **value, size_t *length, uint8_t recipe)
{
    const uint8_t *text = *value;
    size_t size = *length;
    while (size && is_space(*text))
        text++, size--;
    while (size && is_space(text[size - 1]))
        size--;
    *value = text;
    *length = size;
    if (size > LONGEST)
        return 0;
    if (recipe & NUMBER)
        return size <= 15 && are_digits(text, size);
    int plain = 1;
    for (size_t at = 0; at < size; at++)
        plain &= text[at] >= ' ' && text[at] <= '~' && text[at] != '\\' && text[at] != '=';
    return plain;
}

typedef struct {
    const uint8_t *tags, *ends, *values;
    size_t count, size; /* of the values in bytes */
} Table;

/* The table of elements at `at` of a row (index/table.py); 0 if it isn't whole. */
static int table_at(const uint8_t *row, size_t size, size_t at, Table *table)
{
    if (at > size || size - at < 8)
        return 0;
    size_t records = load32(row + at), count = load32(row + at + 4), left = size - at - 8;
    if (records > left / 24 || count > (left - 24 * records) / 12)
        return 0;
    table->tags = row + at + 8 + 24 * records;
    table->ends = table->tags + 4 * count;
    table->values = table->ends + 8 * count;
    table->count = count;
    table->size = (size_t)(row + size - table->values);
    return 1;
}

/*
 * The fields `row` and those of attributes, then the beginning of field `exact`: `"row":"…","g00100010":"…","exact":["…"`.
 * The elements whose terms are not in it are named in `careful` by their number, at most `most`, how many in `*found`; in
 * `*several` whether there are terms in `exact` already.
 *
 * Returns the bytes written; -1 if they could be more than `room`, or the row isn't whole, or more elements are left.
 */
EXPORT int64_t fastarchive_terms(const uint8_t *row, size_t size, size_t at, const Kinds *recipes, uint8_t *out, size_t room,
                                 uint32_t *careful, size_t most, uint32_t *found, uint32_t *several)
{
    Table table;
    if (!table_at(row, size, at, &table) || room < 64 + 6 * size + 64 * table.count)
        return -1;
    uint8_t *begin = out, *const end_of_exact = out + room;
    out = PUT(put_base64(PUT(out, "\"row\":\""), row, size), "\"");
    /* Exact terms are gathered at the end of the room meanwhile. */
    uint8_t *exact = end_of_exact - (16 + 2 * table.size + 16 * table.count), *const first = exact;
    size_t start = 0;
    *found = 0;
    for (size_t number = 0; number < table.count; number++) {
        uint32_t tag = load32(table.tags + 4 * number);
        size_t end = load32(table.ends + 4 * number);
        if (end < start || end > table.size)
            return -1;
        const uint8_t *value = table.values + start;
        size_t length = end - start;
        start = end;
        uint8_t recipe = kind_of(recipes, tag, 0);
        uint32_t point = 0;
        if (!recipe)
            continue;
        if (!is_plain(&value, &length, recipe) ||
            (length && recipe & (DATE | TIME) && !point_of(value, length, recipe, &point))) {
            if (*found == most)
                return -1;
            careful[(*found)++] = (uint32_t)number;
            continue;
        }
        if (!length)
            continue;
        if (recipe & GRAMS)
            out = put_grams(out, tag, value, length, recipe);
        else if (recipe & FIELD)
            out = put_number(PUT(put_tag(PUT(out, ",\"d"), tag), "\":"), point);
        if (recipe & EXACT)
            exact = put_exact(exact, tag, value, length, recipe);
    }
    *several = exact > first;
    out = PUT(out, ",\"exact\":[");
    if (exact > first) {
        memmove(out, first + 1, (size_t)(exact - first) - 1);
        out += exact - first - 1;
    }
    return out - begin;
}
