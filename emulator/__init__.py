"""The remapping hardware, the software that drives it, and what is replayed on both."""
