"""The commands of QMP by name: each takes the host and checked arguments, and returns what stands in `return`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from device_models.device import Device
from device_models.fronts.host import Host
from device_models.fronts.monitor import Monitor
from device_models.fronts.pci_inventory import pci_buses
from device_models.options import OptionError
from device_models.pci.function import PciFunction
from device_models.registry import device_types, find_device_type
from pagetables.errors import InputError

__all__ = ["COMMANDS", "QmpError"]

Arguments = Mapping[str, Any]
QmpCommand = Callable[[Host, Arguments], Any]
COMMANDS: dict[str, QmpCommand] = {}
_JSON_TYPES = {str: "string", bool: "boolean", int: "integer"}
_MOST_PROCESSORS = 288
_NO_SINGLE_STEP = 9  # the version that left it out of query-status


class QmpError(Exception):
    """What a client is told; `kind` is the error's class."""

    def __init__(self, text: str, kind: str = "GenericError") -> None:
        super().__init__(text)
        self.kind = kind


def _command(name: str, *required: str, **optional: type) -> Callable[[QmpCommand], QmpCommand]:
    # Arguments are strings unless `optional` gives another type; "..." takes whatever there is.
    def register(function: QmpCommand) -> QmpCommand:
        def checked(host: Host, arguments: Arguments) -> Any:
            if "..." not in required:
                _check(arguments, required, {key.replace("_", "-"): kind for key, kind in optional.items()})
            return function(host, arguments)

        COMMANDS[name] = checked
        return checked

    return register


def _check(arguments: Arguments, required: tuple[str, ...], optional: Mapping[str, type]) -> None:
    known = dict.fromkeys(required, str) | dict(optional)
    for name in required:
        if name not in arguments:
            raise QmpError(f"Parameter '{name}' is missing")
    for name, value in arguments.items():
        if name not in known:
            raise QmpError(f"Parameter '{name}' is unexpected")
        if not isinstance(value, known[name]):
            raise QmpError(f"Invalid parameter type for '{name}', expected: {_JSON_TYPES[known[name]]}")


# -- who is there -----------------------------------------------------------------------------------------------------


@_command("query-version")
def _query_version(host: Host, arguments: Arguments) -> Any:
    return host.version.json()


@_command("query-commands")
def _query_commands(host: Host, arguments: Arguments) -> Any:
    return [{"name": name} for name in (*COMMANDS, "qmp_capabilities")]


@_command("query-machines", compat_props=bool)
def _query_machines(host: Host, arguments: Arguments) -> Any:
    common = {"hotpluggable-cpus": False, "numa-mem-supported": False, "deprecated": False, "acpi": False}
    q35 = {"name": host.version.machine_type, "alias": "q35", "is-default": True, "cpu-max": _MOST_PROCESSORS}
    return [common | q35 | {"default-ram-id": "pc.ram"}, common | {"name": "none", "cpu-max": 1}]


@_command("query-name")
def _query_name(host: Host, arguments: Arguments) -> Any:
    return {"name": host.name} if host.name else {}


@_command("query-uuid")
def _query_uuid(host: Host, arguments: Arguments) -> Any:
    return {"UUID": "00000000-0000-0000-0000-000000000000"}


@_command("query-kvm")
def _query_kvm(host: Host, arguments: Arguments) -> Any:
    return {"enabled": False, "present": False}


@_command("query-cpus-fast")
def _query_cpus(host: Host, arguments: Arguments) -> Any:
    return [
        {
            "cpu-index": apic.apic_id,
            "qom-path": f"/machine/unattached/cpu[{apic.apic_id}]",
            "thread-id": 0,
            "props": {"socket-id": apic.apic_id, "core-id": 0, "thread-id": 0},
            "target": "x86_64",
        }
        for apic in host.machine.apics.apics
    ]


@_command("query-chardev")
def _query_chardev(host: Host, arguments: Arguments) -> Any:
    return [
        {"frontend-open": True, "filename": where, "label": label} for label, where in sorted(host.channels.items())
    ]


@_command("query-memory-size-summary")
def _query_memory(host: Host, arguments: Arguments) -> Any:
    return {"base-memory": sum(size for _, size in host.machine.memory.regions), "plugged-memory": 0}


@_command("query-target")
def _query_target(host: Host, arguments: Arguments) -> Any:
    return {"arch": "x86_64"}


@_command("query-block")
@_command("query-iothreads")
def _nothing(host: Host, arguments: Arguments) -> Any:
    return []


@_command("query-pci")
def _query_pci(host: Host, arguments: Arguments) -> Any:
    return pci_buses(host.machine.root_bus)


# -- run state --------------------------------------------------------------------------------------------------------


@_command("query-status")
def _query_status(host: Host, arguments: Arguments) -> Any:
    single_step = {"singlestep": False} if host.version.major < _NO_SINGLE_STEP else {}
    return {"status": "running" if host.running else "paused", "running": host.running} | single_step


@_command("stop")
def _stop(host: Host, arguments: Arguments) -> Any:
    host.run(False)
    return {}


@_command("cont")
def _continue(host: Host, arguments: Arguments) -> Any:
    host.run(True)
    return {}


@_command("system_reset")
def _system_reset(host: Host, arguments: Arguments) -> Any:
    host.reset()
    return {}


@_command("quit")
def _quit(host: Host, arguments: Arguments) -> Any:
    host.quit()
    return {}


@_command("human-monitor-command", "command-line", cpu_index=int)
def _human_monitor_command(host: Host, arguments: Arguments) -> Any:
    return Monitor(host).execute(arguments["command-line"]).replace("\n", "\r\n")


@_command("pmemsave", "filename", val=int, size=int)
def _pmemsave(host: Host, arguments: Arguments) -> Any:
    for name in ("val", "size"):
        if name not in arguments:
            raise QmpError(f"Parameter '{name}' is missing")
        if arguments[name] < 0:
            raise QmpError(f"Parameter '{name}' expects uint64")
    host.save_memory(arguments["val"], arguments["size"], arguments["filename"])
    return {}


# -- objects and devices ----------------------------------------------------------------------------------------------


@_command("qom-list", "path")
def _qom_list(host: Host, arguments: Arguments) -> Any:
    if arguments["path"] == "/":
        kind = host.machine.objects.get("/machine", "type")
        return [{"name": "type", "type": "string"}, {"name": "machine", "type": f"child<{kind}>"}]
    return [{"name": found.name, "type": found.type} for found in host.machine.objects.properties(arguments["path"])]


@_command("qom-get", "path", "property")
def _qom_get(host: Host, arguments: Arguments) -> Any:
    return host.machine.objects.get(arguments["path"], arguments["property"])


@_command("qom-set", "...")
def _qom_set(host: Host, arguments: Arguments) -> Any:
    for name in ("path", "property", "value"):
        if name not in arguments:
            raise QmpError(f"Parameter '{name}' is missing")
    device = host.machine.device(str(arguments["path"]))
    device.set_property(str(arguments["property"]), _option(arguments["value"]))
    return {}


@_command("qom-list-types", implements=str, abstract=bool)
def _qom_list_types(host: Host, arguments: Arguments) -> Any:
    wanted = arguments.get("implements", "device")
    found = [{"name": name, "parent": _parent(_type_called(host, name))} for name in device_types()]
    return [one for one in found if wanted in ("device", "object", one["parent"], one["name"])]


@_command("device-list-properties", "typename")
def _device_list_properties(host: Host, arguments: Arguments) -> Any:
    kind = _type_called(host, arguments["typename"])
    if kind is None:
        raise QmpError(f"Device '{arguments['typename']}' not found", "DeviceNotFound")
    return [
        {"name": name, "type": known.type_name}
        | ({"description": known.explains} if known.explains else {})
        | ({} if known.default is None else {"default-value": known.json(known.default)})
        for name, known in sorted(kind.properties.items())
    ]


@_command("device_add", "...")
def _device_add(host: Host, arguments: Arguments) -> Any:
    driver = arguments.get("driver")
    if not isinstance(driver, str):
        raise QmpError("Parameter 'driver' is missing")
    host.machine.device_add(_option_text(arguments))
    return {}


@_command("device_del", "id")
def _device_del(host: Host, arguments: Arguments) -> Any:
    host.remove(arguments["id"])
    return {}


def _type_called(host: Host, name: str) -> type[Device] | None:
    try:
        return find_device_type(name, host.machine.profile.name)
    except OptionError:
        return None
    except InputError:  # a plug-in that cannot be loaded
        return None


def _parent(kind: type[Device] | None) -> str:
    return "pci-device" if kind is not None and issubclass(kind, PciFunction) else "sys-bus-device"


def _option_text(arguments: Arguments) -> str:
    # In the words of the command line, where a comma within a value is written twice.
    first = str(arguments["driver"]).replace(",", ",,")
    more = (f"{name}={_option(value).replace(',', ',,')}" for name, value in arguments.items() if name != "driver")
    return ",".join((first, *more))


def _option(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)
