"""Page tables of VT-d: how bytes mean a translation. Pure Python; needs no compiler.

Glossary (only these words are used afterwards):

unit          a remapping hardware unit: one register page, one set of caches
source-id     the 16-bit requester id the unit sees: bus 15:8, device 7:3, function 2:0
request       one access as it arrives from the root complex, with or without a PASID
IOVA          the address at the device's port; the walker calls it the input address
GPA           the address a translation yields (output address); also where tables lie
stage         first-stage tables use the x86-64 format, second-stage tables VT-d's own; nested is both
level         1 is the table of 4 KiB leaves (SS-PTE, FS-PTE), 5 the highest (PML5E), as in the AW encoding
              (generic_pt counts from 0)
entry         one 64-bit word of a table;   kind: EMPTY, TABLE or LEAF
leaf          an entry that maps a page of 4 KiB, 2 MiB or 1 GiB
space         the address space of a (source-id, PASID): its stage, tables and domain-id
source        what root, context and PASID entries say of a requester: the start of a walk
domain        the software's name for one set of tables; domain-id (DID) is the hardware's tag
interrupt     a dword that a device writes to FEExxxxxh; remapped, it is delivered as its entry (IRTE) says, or posted:
              a bit set in a descriptor in memory, of which a notification tells a processor
invalidate    remove from a cache;  *flush* is the write buffer's, and the flush queue's
start, end    half-open [start, end);   start, last   inclusive
shift         a bit position;   width   a number of bits;   size   a number of bytes
"""
