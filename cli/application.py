"""The group of commands, loaded lazily, and what becomes of their errors."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys

import click

from cli import commands
from pagetables.errors import VtdError, near

__all__ = ["run", "vtd"]

WRONG = 2  # the input or the usage is wrong
BROKEN_PIPE = 141  # 128 + SIGPIPE: what a program reports that the reader of its output left early


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        names = (name.removesuffix(".py") for name in os.listdir(commands.__path__[0]) if name.endswith(".py"))
        return sorted(name.replace("_", "-") for name in names if not name.startswith("__"))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        module = importlib.import_module(f"cli.commands.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            ctx.fail(f"no command is called {args[0]!r}; {near(args[0], self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        widest = max(map(len, self.list_commands(ctx)))
        for title, group in commands.GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(widest), summary) for name, summary in group.items()])


def _show_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if not wanted:
        return
    from importlib import metadata

    try:
        version = metadata.version("vtd-emulator")
    except metadata.PackageNotFoundError:
        version = "(not installed)"
    click.echo(f"vtd {version}")
    ctx.exit()


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=_show_version, help="The version.")
def vtd() -> None:
    """Intel VT-d in user space: replay DMA traces on byte-accurate tables, read the tables of real machines.

    Exit status: 0 done, the answer is yes; 1 done, the answer is no (a fault, a difference, a finding);
    2 the input or the usage is wrong: one line on stderr says what and where.

    `vtd COMMAND --help` has examples. vtd-system-x86_64 stands in for QEMU where a program drives it.
    """


def run(arguments: list[str]) -> int:
    """Run the command line; returns the exit status."""
    try:
        status = _invoke(arguments)
        sys.stdout.flush()  # here, where a reader that left is no surprise
        return status
    except BrokenPipeError:
        _discard_output()
        return BROKEN_PIPE
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return WRONG
    except click.UsageError as error:
        return _wrong(f"{error.format_message().rstrip('.')}{_where_help_is(error)}")
    except click.ClickException as error:
        return _wrong(error.format_message())
    except VtdError as error:
        return _wrong(str(error))
    except OSError as error:
        return _wrong(_describe(error))
    except MemoryError:
        return _wrong("out of memory")
    except RecursionError:
        return _wrong("the input is nested too deeply")
    except click.Abort:
        raise KeyboardInterrupt from None


def _invoke(arguments: list[str]) -> int:
    if "_VTD_COMPLETE" in os.environ:
        from click.shell_completion import shell_complete

        return shell_complete(vtd, {}, "vtd", "_VTD_COMPLETE", os.environ["_VTD_COMPLETE"])
    try:
        with vtd.make_context("vtd", arguments) as context:
            return vtd.invoke(context) or 0
    except click.exceptions.Exit as leave:
        return leave.exit_code


def _wrong(message: str) -> int:
    # File names and input may hold any byte; a terminal must not obey it.
    told = " ".join(message.encode("utf-8", "backslashreplace").decode().split())
    printable = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in told)
    click.echo(f"vtd: {printable}", err=True)
    return WRONG


def _where_help_is(error: click.UsageError) -> str:
    return f" (see {error.ctx.command_path} --help)" if error.ctx else ""


def _describe(error: OSError) -> str:
    name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else None
    what = error.strerror or str(error) or type(error).__name__
    return f"{name}: {what}" if name else what


def _discard_output() -> None:
    # The interpreter flushes stdout once more when it ends; that must not fail again.
    with contextlib.suppress(OSError, ValueError):  # stdout may be no file, as under a test runner
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
