"""`vtd devices`: the devices that a machine can have, and their properties."""

from __future__ import annotations

import click

from cli.options import json_option
from cli.render import console, emit_json


@click.command("devices")
@click.argument("type_name", metavar="[TYPE]", required=False)
@click.option("--profile", metavar="NAME", help="As a machine with this profile has them (qemu-7.2 ...).")
@json_option
def command(type_name: str | None, profile: str | None, as_json: bool) -> int:
    """The devices that a machine can have; with TYPE the properties of one, as QEMU's `-device TYPE,help` words them.

    Some are QEMU's, and answer as QEMU's do; others are ours, or of distributions that have the entry point
    `vtd.devices` (docs/devices.md). The options of intel-iommu differ between versions of QEMU: those of all profiles
    are shown, unless one is chosen.

    \b
    Examples:
      vtd devices
      vtd devices dma-engine
      vtd devices intel-iommu --profile qemu-7.2
    """
    from cli.device_report import device_document, device_outline, device_table
    from device_models.registry import device_types
    from emulator.profile import load_profile

    profiles = None if profile is None else [load_profile(profile).name]
    names = [type_name] if type_name else device_types()
    if as_json:
        emit_json({"devices": [device_document(name, profiles) for name in names]})
    elif type_name:
        console().print(device_outline(type_name, profiles))
    else:
        console().print(device_table(names))
    return 0
