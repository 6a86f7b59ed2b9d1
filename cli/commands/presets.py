"""`vtd presets`: the systems of the mailing-list threads and of kernels since."""

from __future__ import annotations

import click

from cli.options import json_option
from cli.render import console, emit_json


@click.command("presets")
@click.argument("name", required=False)
@json_option
def command(name: str | None, as_json: bool) -> int:
    """The systems of the seeds and of kernels since, each in a sentence; with NAME one of them, all its settings.

    A preset chooses on five axes: where table pages come from (pool), addresses (iova), bounce buffers, when unmapped
    ranges are invalidated (flush), and what a driver does when a map fails (reaction). Run a trace on one with
    `vtd replay --preset NAME`; --set, --pool, --iova and --flush go over it.

    \b
    Examples:
      vtd presets
      vtd presets linux-2.6.24
      vtd replay fixtures/traces/a-legacy-strict.txt.xz --preset gart-lazy
    """
    from cli.preset_report import preset_outline, preset_table
    from emulator.presets import find_preset, load_presets

    presets = [find_preset(name)] if name else list(load_presets())
    if as_json:
        emit_json({"presets": [preset.as_dict() for preset in presets]})
    elif name:
        console().print(preset_outline(presets[0]))
    else:
        console().print(preset_table(presets))
    return 0
