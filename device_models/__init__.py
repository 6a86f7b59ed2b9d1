"""Things that do DMA, and the machine they sit in: typed devices, memory regions, PCI, interrupts, as QEMU has them."""
