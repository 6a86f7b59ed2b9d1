"""The address allocators, one module each; `emulator.mapping.iova.allocator` chooses among them by name."""

__all__: list[str] = []
