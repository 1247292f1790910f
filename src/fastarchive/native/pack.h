/* How a pack begins (docs/format.md, "Header page"). */
#ifndef FASTARCHIVE_PACK_H
#define FASTARCHIVE_PACK_H

#define PACK_PAGE 4096u    /* bytes of the header page */
#define PACK_SEAL 512u     /* where it is sealed */
#define PACK_DURABLE 1024u /* where it tells how far the pack is durable */

#endif
