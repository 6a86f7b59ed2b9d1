/* What the queue's two sides share. */
#ifndef VTD_QUEUE_H
#define VTD_QUEUE_H

#include "memory.h"

/* Granularities of descriptors 2 and 6. */
enum { GLOBAL = 1, DOMAIN = 2, SELECTIVE = 3 };

#endif
