"""The systems of bounce buffers, one module each; `emulator.mapping.bounce.bouncer` chooses among them by name."""

__all__: list[str] = []
