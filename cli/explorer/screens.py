"""What opens over the tables: a question, the bytes of a page, the help."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Footer, Input, Static

from cli.explorer.hexdump import LINE, hex_lines, is_missing
from pagetables.address import GPA_LIMIT, PAGE_SIZE, parse_number
from pagetables.errors import InputError
from pagetables.memory import Memory

__all__ = ["HELP", "AskScreen", "HelpScreen", "HexScreen", "key_line", "parse_physical"]

LAST_PAGE = GPA_LIMIT - PAGE_SIZE

HELP = """\
Devices are on the left, the table of one level on the right, below it the
selected entry bit by bit. Tab goes from one to the next.

  Enter        open: the device, or the table that the entry leads to
  u            up, to the entry that leads to this table
  b  f         back and forward, through what was shown
  /  or  g     go to an address of the device, by its tables: to the page, or
               to the entry where a read of it faults
               also with a device before it: 00:05.0 0x10100000
               and with a PASID between them: 00:05.0 0x1 0x10100000
  x            the bytes of the page that the entry leads to
  p            the bytes at a physical address
  a            all entries, or only those that are present
  q            quit

Entries are counted in hexadecimal. With RESERVED BITS set, an entry faults.
Not in the image means that its page was not dumped: nobody knows what it held.

Esc or ? closes this help."""


def key_line() -> Footer:
    """The line of keys, as short as can be."""
    footer = Footer(show_command_palette=False)
    footer.compact = True  # not every version takes it as an argument
    return footer


class AskScreen(ModalScreen[str | None]):
    """One line of input; what was typed, or None. `wrong` says what was wrong with the answer before."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "Cancel")]

    def __init__(self, question: str, typed: str = "", wrong: str = "") -> None:
        super().__init__()
        self._question = question
        self._typed = typed
        self._wrong = wrong

    def compose(self) -> ComposeResult:
        """A question, a line to type in, and what was wrong with it."""
        with Vertical(id="ask"):
            yield Static(Text(self._question), id="question")
            yield Input(self._typed, id="answer", select_on_focus=False)
            yield Static(Text(self._wrong, style="red"), id="wrong")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Enter answers."""
        self.dismiss(event.value)


class HelpScreen(ModalScreen[None]):
    """What the keys do."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,question_mark,q", "dismiss(None)", "Close")]

    def compose(self) -> ComposeResult:
        """The text, which scrolls where it does not fit."""
        with VerticalScroll(id="help"):
            yield Static(Text(HELP))


class HexScreen(ModalScreen[None]):
    """The bytes of a page, with `address` in sight; pages that are missing are shown as missing."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,x,q", "dismiss(None)", "Close"),
        Binding("n", "step(1)", "Next page"),
        Binding("b", "step(-1)", "Page before"),
        Binding("p,g,slash", "ask", "Go to"),
    ]

    def __init__(self, memory: Memory, address: int, name: str) -> None:
        super().__init__()
        self._bytes = memory
        self._address = address
        self._space = name

    def compose(self) -> ComposeResult:
        """A title, 256 lines, the keys."""
        yield Static(id="where")
        with VerticalScroll(id="bytes"):
            yield Static(id="lines")
        yield key_line()

    def on_mount(self) -> None:
        """Reads the page."""
        self._show()
        self.query_one("#bytes").focus()

    def action_step(self, by: int) -> None:
        """The next page, or the one before."""
        page = self._address // PAGE_SIZE * PAGE_SIZE + by * PAGE_SIZE
        if 0 <= page <= LAST_PAGE:
            self._address = page
            self._show()

    def action_ask(self) -> None:
        """Asks for an address."""
        self._ask(f"{self._space} (now {self._address:#x}):", "", "")

    def _ask(self, question: str, typed: str, wrong: str) -> None:
        def answered(text: str | None) -> None:
            if not text:
                return
            try:
                self._address = parse_physical(text)
            except InputError as error:
                self._ask(question, text, str(error))
                return
            self._show()

        self.app.push_screen(AskScreen(question, typed, wrong), answered)

    def _show(self) -> None:
        page, line = self._address // PAGE_SIZE * PAGE_SIZE, self._address % PAGE_SIZE // LINE
        text = Text("\n").join(
            Text(content, style="reverse" if number == line and self._address != page else "")
            for number, content in enumerate(hex_lines(self._bytes, page))
        )
        if is_missing(self._bytes, page):
            text = Text(f"\nThe page at {page:#x} is not in the image.", style="bold red")
        self.query_one("#where", Static).update(Text(f"{self._space} {self._address:#x}, page {page:#x}"))
        self.query_one("#lines", Static).update(text)
        self.query_one("#bytes").scroll_to(y=max(0, line - 4) if self._address != page else 0, animate=False)


def parse_physical(text: str) -> int:
    """An address of 52 bits; InputError otherwise."""
    address = parse_number(text.strip())
    if not 0 <= address < GPA_LIMIT:
        raise InputError(f"{text} is no physical address: expected 0 to {GPA_LIMIT - 1:#x}")
    return address
