"""`vtd presets`: the systems of the mailing-list threads and of kernels since."""

from __future__ import annotations

import click

from cli.options import json_option
from cli.render import console, emit_json

WIDTH = 80


@click.command("presets")
@click.argument("name", required=False)
@click.option(
    "--options", "listed", is_flag=True, help="Every choice on each axis, its options, defaults; other settings."
)
@json_option
def command(name: str | None, listed: bool, as_json: bool) -> int:
    """The systems of the seeds and of kernels since, each in a sentence; with NAME one of them, all its settings.

    A preset chooses on five axes: where table pages come from (pool), addresses (iova), bounce buffers, when unmapped
    ranges are invalidated (flush), and what a driver does when a map fails (reaction). Run a trace on one with
    `vtd replay --preset NAME`; --set, --pool, --iova and --flush go over it.

    \b
    Examples:
      vtd presets
      vtd presets linux-2.6.24
      vtd presets --options
      vtd replay fixtures/traces/a-legacy-strict.txt.xz --preset gart-lazy
    """
    from cli.preset_report import option_table, preset_outline, preset_table, setting_table
    from emulator.axes import choices, effective, options
    from emulator.presets import AXES, find_preset, load_presets
    from emulator.settings import KEYS, WHAT_IF

    out = console()
    out.width = min(out.width, WIDTH)
    if listed:
        known = {axis: {choice: options(axis, choice) for choice in choices(axis)} for axis in AXES}
        others = {key: KEYS[key].about for key in WHAT_IF}
        if as_json:
            emit_json({"axes": known, "settings": others})
        else:
            out.print(option_table(known))
            out.print()
            out.print(setting_table(others))
        return 0
    presets = [find_preset(name)] if name else list(load_presets())
    if as_json:
        emit_json({"presets": [preset.as_dict() | {"options": effective(preset)} for preset in presets]})
    elif name:
        out.print(preset_outline(presets[0], effective(presets[0])))
    else:
        out.print(preset_table(presets))
    return 0
