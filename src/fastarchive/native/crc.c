/* The CRC-32 of zlib, eight bytes at a time. */
#include "crc.h"
#include "native.h"

static uint32_t table[8][256];

__attribute__((constructor)) static void fill_table(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t value = i;
        for (int bit = 0; bit < 8; bit++)
            value = value >> 1 ^ (value & 1 ? 0xEDB88320u : 0);
        table[0][i] = value;
    }
    for (uint32_t i = 0; i < 256; i++)
        for (int t = 1; t < 8; t++)
            table[t][i] = table[t - 1][i] >> 8 ^ table[0][(uint8_t)table[t - 1][i]];
}

uint32_t crc_of(uint32_t value, const uint8_t *data, size_t size)
{
    value = ~value;
    for (; size >= 8; data += 8, size -= 8) {
        uint32_t low = load32(data) ^ value, high = load32(data + 4);
        value = table[7][(uint8_t)low] ^ table[6][(uint8_t)(low >> 8)] ^ table[5][(uint8_t)(low >> 16)] ^ table[4][low >> 24] ^
                table[3][(uint8_t)high] ^ table[2][(uint8_t)(high >> 8)] ^ table[1][(uint8_t)(high >> 16)] ^ table[0][high >> 24];
    }
    while (size--)
        value = value >> 8 ^ table[0][(uint8_t)(value ^ *data++)];
    return ~value;
}
