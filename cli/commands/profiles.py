"""`vtd profiles`: the units that can be emulated, and what each says of itself."""

from __future__ import annotations

import click

from cli.options import json_option
from cli.render import console, emit_json


@click.command("profiles")
@click.argument("name", required=False)
@json_option
def command(name: str | None, as_json: bool) -> int:
    """The units that can be emulated; with NAME one of them, register field by register field.

    A profile is what software reads from the unit (VER, CAP, ECAP), how large its caches are, and in what it behaves
    otherwise than the specification asks. Choose one with --set profile=NAME.

    \b
    Examples:
      vtd profiles
      vtd profiles sapphire-rapids
    """
    from cli.profile_report import profile_document, profile_outline, profile_table
    from emulator.profile import load_profile, profile_names

    profiles = [load_profile(each) for each in ([name] if name else profile_names())]
    if as_json:
        emit_json({"profiles": [profile_document(profile) for profile in profiles]})
    elif name:
        console().print(profile_outline(profiles[0]))
    else:
        console().print(profile_table(profiles))
    return 0
