"""Things that do DMA, QEMU-style."""
