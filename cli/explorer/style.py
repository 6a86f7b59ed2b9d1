"""Where things are on the screen, and how they look."""

from __future__ import annotations

__all__ = ["CSS"]

CSS = """
#title, #where { height: 1; background: $primary; color: $text; }
#devices { width: 21; padding: 0; scrollbar-size-vertical: 1; scrollbar-size-horizontal: 1; }
#devices, #entries, #details { border: round $foreground 40%; }
#entries, #details { border-title-color: $foreground; border-subtitle-color: $foreground; }
#devices:focus, #entries:focus, #details:focus { border: round $accent; }
#right { width: 1fr; }
#entries { height: 1fr; min-height: 5; scrollbar-size-vertical: 1; scrollbar-size-horizontal: 1; }
#verdict { height: auto; max-height: 5; padding: 0 1; display: none; }
#details { height: 1fr; max-height: 20; scrollbar-size-vertical: 1; }
#bytes { height: 1fr; scrollbar-size-vertical: 1; }
HexScreen { background: $background; }
AskScreen, HelpScreen { align: center middle; }
#ask { width: 64; height: auto; border: round $accent; background: $surface; padding: 0 1; }
#answer { border: none; height: 1; padding: 0; background: $boost; }
#wrong { height: auto; }
#help { width: 80; max-width: 100%; height: auto; max-height: 100%; border: round $accent; background: $surface; }
"""
