"""QMP on a machine held by the test. Errors and answers beside each command are those of QEMU 10.0.2."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from device_models.fronts.host import Host
from device_models.fronts.json_stream import BadJson, JsonStream
from device_models.fronts.qmp import QmpSession
from device_models.machine import SystemMachine


class Client:
    """A session that has negotiated, and what it heard."""

    def __init__(self, negotiate: bool = True) -> None:
        self.machine = SystemMachine("qemu-10.0", 64 << 20, engine="python")
        self.machine.add_device("intel-iommu")
        self.machine.add_device("edu,id=e0")
        self.machine.add_device("pcie-root-port,id=rp,chassis=1")
        self.host = Host(self.machine)
        self.session = QmpSession(self.host)
        self.events: list[dict[str, Any]] = []
        if negotiate:
            assert self.ask({"execute": "qmp_capabilities"}) == {"return": {}}

    def messages(self, data: bytes) -> list[Any]:
        return [json.loads(line) for line in self.session.feed(data).splitlines()]

    def ask(self, message: Any) -> Any:
        *events, answer = self.messages(json.dumps(message).encode() + b"\n")
        self.events += events
        return answer

    def get(self, name: str, **arguments: Any) -> Any:
        return self.ask({"execute": name, "arguments": arguments})["return"]

    def error(self, name: str, **arguments: Any) -> tuple[str, str]:
        error = self.ask({"execute": name, "arguments": arguments})["error"]
        return error["class"], error["desc"]


@pytest.fixture
def client() -> Client:
    return Client()


def test_the_greeting_names_the_version_that_the_profile_stands_for(client: Client) -> None:
    greeting = json.loads(client.session.greeting())
    assert greeting["QMP"]["version"]["qemu"] == {"micro": 2, "minor": 0, "major": 10}
    assert client.get("query-version") == greeting["QMP"]["version"]


def test_nothing_is_answered_before_negotiation_and_no_event_comes() -> None:
    client = Client(negotiate=False)
    client.machine.reset()
    assert client.session.take() == b""
    assert client.error("query-status") == (
        "CommandNotFound",
        "Expecting capabilities negotiation with 'qmp_capabilities'",
    )
    assert client.error("qmp_capabilities", enable=["oob"])[1] == "Capabilities not available: ['oob']"
    assert client.get("qmp_capabilities") == {}
    assert client.error("qmp_capabilities") == (
        "CommandNotFound",
        "Capabilities negotiation is already complete, command ignored",
    )


@pytest.mark.parametrize(
    "line, message",
    [
        ("3", "QMP input must be a JSON object"),
        ("[]", "QMP input must be a JSON object"),
        ("{}", "QMP input lacks member 'execute'"),
        ('{"execute": 3}', "QMP input member 'execute' must be a string"),
        ('{"exec": "a"}', "QMP input member 'exec' is unexpected"),
        ('{"execute": "query-status", "arguments": 3}', "QMP input member 'arguments' must be an object"),
        ("{foo}", "JSON parse error"),
        ('{"a" "b"}', "JSON parse error"),
        ('{"execute": "a\nb"}', "JSON parse error, stray"),
        ("}", "JSON parse error"),
        ("foo", "JSON parse error"),
        ("{\udcff}", "JSON parse error"),
        ("[" * 501, "JSON nesting depth limit exceeded"),
        ("{]", None),
    ],
)
def test_what_is_no_command_is_an_error_and_the_next_one_is_answered(
    client: Client, line: str, message: str | None
) -> None:
    answers = client.messages(line.encode("utf-8", "replace") + b'\n\xff{"execute": "query-status", "id": 1}\n')
    assert answers[-1] == {"return": {"status": "running", "running": True}, "id": 1}
    if message is not None:
        assert message in answers[0]["error"]["desc"]
        assert answers[0]["error"]["class"] == "GenericError"


def test_an_id_comes_back_with_the_answer_and_with_the_error(client: Client) -> None:
    assert client.ask({"execute": "query-name", "id": {"a": 1}}) == {"return": {}, "id": {"a": 1}}
    assert client.ask({"execute": "nope", "id": 7}) == {
        "id": 7,
        "error": {"class": "CommandNotFound", "desc": "The command nope has not been found"},
    }


@pytest.mark.parametrize(
    "name, arguments, kind, message",
    [
        ("qom-get", {"path": "/machine/peripheral/e0", "property": "nope"}, "GenericError", "Property 'edu.nope' not"),
        ("qom-get", {"path": "/nope", "property": "x"}, "DeviceNotFound", "Device '/nope' not found"),
        ("qom-get", {"path": "/machine/peripheral/e0"}, "GenericError", "Parameter 'property' is missing"),
        (
            "qom-get",
            {"path": 3, "property": "x"},
            "GenericError",
            "Invalid parameter type for 'path', expected: string",
        ),
        ("qom-list", {}, "GenericError", "Parameter 'path' is missing"),
        ("qom-list", {"path": "/", "foo": 1}, "GenericError", "Parameter 'foo' is unexpected"),
        ("device_add", {}, "GenericError", "Parameter 'driver' is missing"),
        ("device_add", {"driver": "edu"}, "GenericError", "Bus 'pcie.0' does not support hotplugging"),
        ("device_add", {"driver": "edo"}, "GenericError", "'edo' is not a valid device model name"),
        ("device_add", {"driver": "edu", "bus": "nope"}, "GenericError", "Bus 'nope' not found"),
        ("device_del", {"id": "nope"}, "DeviceNotFound", "Device 'nope' not found"),
        ("device_del", {"id": "e0"}, "GenericError", "Bus 'pcie.0' does not support hotplugging"),
        ("human-monitor-command", {}, "GenericError", "Parameter 'command-line' is missing"),
        ("device-list-properties", {"typename": "nope"}, "DeviceNotFound", "Device 'nope' not found"),
        ("qom-set", {"path": "/machine/peripheral/e0"}, "GenericError", "Parameter 'property' is missing"),
        (
            "qom-set",
            {"path": "e0", "property": "multifunction", "value": True},
            "GenericError",
            "Attempt to set property 'multifunction'",
        ),
    ],
)
def test_errors_have_qemus_class_and_words(
    client: Client, name: str, arguments: dict[str, Any], kind: str, message: str
) -> None:
    assert client.error(name, **arguments)[0] == kind
    assert client.error(name, **arguments)[1].startswith(message)


def test_objects_can_be_listed_read_and_changed(client: Client) -> None:
    assert client.get("qom-list", path="/")[1] == {"name": "machine", "type": "child<pc-q35-machine>"}
    assert client.get("qom-list", path="/machine/peripheral") == [
        {"name": "type", "type": "string"},
        {"name": "e0", "type": "child<edu>"},
        {"name": "rp", "type": "child<pcie-root-port>"},
    ]
    assert client.get("qom-get", path="/machine/peripheral/e0", property="addr") == 8
    assert client.get("qom-set", path="e0", property="dma_mask", value=255) == {}
    assert client.get("qom-get", path="e0", property="dma_mask") == 255


def test_types_and_their_properties_are_known(client: Client) -> None:
    types = {one["name"]: one["parent"] for one in client.get("qom-list-types", implements="device", abstract=False)}
    assert (types["edu"], types["intel-iommu"]) == ("pci-device", "sys-bus-device")
    assert {one["name"] for one in client.get("qom-list-types", implements="sys-bus-device")} == {"intel-iommu"}
    properties = {one["name"]: one for one in client.get("device-list-properties", typename="intel-iommu")}
    assert properties["x-flts"] == {"name": "x-flts", "type": "bool", "default-value": False}


def test_devices_come_and_go_on_buses_that_take_them(client: Client) -> None:
    assert client.get("device_add", driver="edu", bus="rp", id="x", multifunction=False) == {}
    assert client.machine.device("x").get_property("multifunction") is False
    assert client.get("device_del", id="x") == {}
    assert client.events[-1]["event"] == "DEVICE_DELETED"
    assert client.events[-1]["data"] == {"device": "x", "path": "/machine/peripheral/x"}
    assert client.error("device_del", id="x")[0] == "DeviceNotFound"


def test_a_reset_is_told_with_who_asked(client: Client) -> None:
    client.get("system_reset")
    client.machine.ports.write_number(0xCF9, 1, 6)
    client.events += [json.loads(line) for line in client.session.take().splitlines()]
    assert [(event["event"], event["data"]) for event in client.events] == [
        ("RESET", {"guest": False, "reason": "host-qmp-system-reset"}),
        ("RESET", {"guest": True, "reason": "guest-reset"}),
    ]
    assert set(client.events[0]["timestamp"]) == {"seconds", "microseconds"}


def test_a_machine_can_be_stopped_continued_and_left(client: Client) -> None:
    client.get("cont")
    client.get("stop")
    assert client.get("query-status") == {"status": "paused", "running": False}
    client.get("cont")
    client.get("quit")
    assert [event["event"] for event in client.events] == ["STOP", "RESUME", "SHUTDOWN"]
    assert client.host.leaving


def test_a_client_that_left_hears_nothing(client: Client) -> None:
    client.session.close()
    client.session.close()
    client.machine.reset()
    assert client.session.take() == b""


def test_inventories_answer(client: Client) -> None:
    assert client.get("query-memory-size-summary") == {"base-memory": 64 << 20, "plugged-memory": 0}
    assert [one["cpu-index"] for one in client.get("query-cpus-fast")] == [0]
    assert client.get("query-kvm") == {"enabled": False, "present": False}
    assert client.get("query-uuid") == {"UUID": "00000000-0000-0000-0000-000000000000"}
    client.host.channels["qtest"] = "unix:x"
    assert client.get("query-chardev") == [{"frontend-open": True, "filename": "unix:x", "label": "qtest"}]
    assert {"name": "query-pci"} in client.get("query-commands")
    assert client.get("query-machines")[0]["name"] == "pc-q35-10.0"
    client.host.name = "it"
    assert client.get("query-name") == {"name": "it"}


def test_pci_functions_are_told_as_qemu_tells_them(client: Client) -> None:
    client.machine.host.config_write(0, 8, 0x10, 4, 0xE000_0000)
    client.machine.host.config_write(0, 8, 4, 2, 6)
    (bus,) = client.get("query-pci")
    devices = {(one["slot"], one["function"]): one for one in bus["devices"]}
    assert devices[1, 0] == {
        "irq_pin": 1,
        "bus": 0,
        "qdev_id": "e0",
        "irq": 0,
        "slot": 1,
        "class_info": {"class": 255},
        "id": {"device": 4584, "subsystem-vendor": 6900, "vendor": 4660, "subsystem": 4352},
        "function": 0,
        "regions": [
            {
                "prefetch": False,
                "mem_type_64": False,
                "bar": 0,
                "size": 1048576,
                "address": 3758096384,
                "type": "memory",
            }
        ],
    }
    closed = {"limit": 0xFFFFF, "base": 0xFFF0_0000}
    assert devices[2, 0]["pci_bridge"] == {
        "bus": {
            "prefetchable_range": closed,
            "memory_range": closed,
            "secondary": 0,
            "io_range": {"limit": 4095, "base": 61440},
            "number": 0,
            "subordinate": 0,
        }
    }
    assert "irq" not in devices[0, 0]
    assert devices[31, 2]["regions"][0] == {"bar": 4, "size": 32, "address": -1, "type": "io"}


def test_monitor_commands_answer_with_carriage_returns(client: Client) -> None:
    assert client.get("human-monitor-command", **{"command-line": "info status"}) == "VM status: running\r\n"
    assert client.get("human-monitor-command", **{"command-line": "info foo"}) == "unknown command: 'info foo'\r\n"


def test_values_are_cut_out_of_a_stream_wherever_its_pieces_end() -> None:
    text = b'{"a": [1, {"b": "}\\""}]} 17 "x y"\n[]\n\xff{"half": \xff{"c": null}\n'
    wanted = [{"a": [1, {"b": '}"'}]}, 17, "x y", [], {"c": None}]
    for size in (1, 2, 7, len(text)):
        stream = JsonStream()
        found = [value for at in range(0, len(text), size) for value in stream.feed(text[at : at + size])]
        assert found == wanted


def test_a_value_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("device_models.fronts.json_stream._LONGEST", 100)
    stream = JsonStream()
    assert list(stream.feed(b'{"a": "' + b"x" * 200)) == [BadJson("JSON token size limit exceeded")]
    assert list(stream.feed(b"{} ")) == [{}]


@pytest.mark.parametrize(
    "text, value",
    [
        (b"{'execute': 'stop'}", {"execute": "stop"}),
        (b"{'a': 'say \"hi\" to \\'her\\' \\\\ \\u0041'}", {"a": "say \"hi\" to 'her' \\ A"}),
        (b'{"a": "it\'s"}', {"a": "it's"}),
    ],
)
def test_strings_may_stand_in_apostrophes(text: bytes, value: object) -> None:
    for size in (1, len(text)):
        stream = JsonStream()
        assert [found for at in range(0, len(text), size) for found in stream.feed(text[at : at + size])] == [value]


@pytest.mark.parametrize("stray", [b"\x00", b"\xfe", b"True ", b"#", b"'open\n"])
def test_what_is_no_json_closes_what_was_open(client: Client, stray: bytes) -> None:
    assert client.messages(b'{"execute": {') == []
    (answer,) = client.messages(stray)
    assert answer["error"]["desc"].startswith("JSON parse error, stray")
    assert client.get("query-status")["running"] is True


def test_memory_is_saved_raw_as_a_processor_reads_it(client: Client, tmp_path: Path) -> None:
    client.machine.memory.write(0x1234, b"twelve bytes")
    target = tmp_path / "memory.raw"
    assert client.get("pmemsave", val=0x1000, size=0x1000, filename=str(target)) == {}
    assert target.read_bytes() == bytes(0x234) + b"twelve bytes" + bytes(0x1000 - 0x234 - 12)
    register = tmp_path / "version"
    line = f"pmemsave 0xfed90000 4 {register}"
    assert client.get("human-monitor-command", **{"command-line": line}) == ""
    assert register.read_bytes() == bytes([0x10, 0, 0, 0])
    assert client.error("pmemsave", val=1, size=1 << 60, filename=str(target))[1] == (
        "0x1000000000000000 bytes at 0x1: memory and registers end at 0x100000000"
    )
    nowhere = str(tmp_path / "no" / "folder")
    assert client.error("pmemsave", val=0, size=1, filename=nowhere) == (
        "GenericError",
        f"could not write '{nowhere}': No such file or directory",
    )
    assert client.error("pmemsave", size=1, filename="x")[1] == "Parameter 'val' is missing"
    assert client.error("pmemsave", val=-1, size=1, filename="x")[1] == "Parameter 'val' expects uint64"
    assert client.error("pmemsave", val="0", size=1, filename="x")[1].startswith("Invalid parameter type for 'val'")
    assert "expected ADDRESS SIZE FILE" in client.get("human-monitor-command", **{"command-line": "pmemsave 0 1"})


def test_there_are_no_disks_and_no_threads(client: Client) -> None:
    assert client.get("query-block") == client.get("query-iothreads") == []
    assert client.get("query-target") == {"arch": "x86_64"}


def test_older_versions_say_that_they_do_not_step() -> None:
    assert "singlestep" not in Client().get("query-status")
    old = QmpSession(Host(SystemMachine("qemu-7.2", 4 << 20, engine="python")))
    old.feed(b'{"execute": "qmp_capabilities"}')
    assert json.loads(old.feed(b'{"execute": "query-status"}'))["return"]["singlestep"] is False
