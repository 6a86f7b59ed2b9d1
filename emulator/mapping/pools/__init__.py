"""The systems of page supply, one module each; `emulator.mapping.supply` chooses among them by name."""

__all__: list[str] = []
