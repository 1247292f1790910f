/* How a pack begins (docs/format.md, "Header page"). */
#ifndef FASTARCHIVE_PACK_H
#define FASTARCHIVE_PACK_H

#define PACK_PAGE 4096u    /* bytes of the header page */
#define PACK_SEAL 512u     /* where it is sealed */
#define PACK_SEALED "SEALED\0" /* what the seal begins with, with the zero behind it */
#define PACK_SEAL_SIZE 40u /* bytes of the seal, before its CRC; the end of the records is behind the first eight */
#define PACK_DURABLE 1024u /* where it tells how far the pack is durable */

#endif
