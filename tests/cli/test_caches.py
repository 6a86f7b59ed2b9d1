"""`vtd caches`: what a unit has cached, after a replay, in an image of ours, in a machine that a script drove."""

from __future__ import annotations

from pathlib import Path

import pytest

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
STALE, CLEAN = (FIXTURES / "misuse" / f"{name}.jsonl" for name in ("use-in-stale-window", "clean"))
ONE_UNIT, TWO_UNITS = (FIXTURES / "machines" / f"{name}.yaml" for name in ("one-unit", "two-units"))
BUS_MASTER, EDU = 6, 0xE000_0000
# Root, context and four levels of tables at 1 MiB that map 1000h of 00:02.0 to 5000h, by one write each; then DMA.
SCRIPT = f"""
# tables
writeq 0x100000 0x101001
writeq 0x101100 0x102001
writeq 0x101108 0x302
writeq 0x102000 0x103003
writeq 0x103000 0x104003
writeq 0x104000 0x105003
writeq 0x105008 0x5003
# the unit
writeq 0xfed90020 0x100000
writel 0xfed90018 0x40000000
writel 0xfed90018 0x80000000
# edu may send requests, and reads 16 bytes at 1000h
outl 0xcf8 0x80001004
outw 0xcfc {BUS_MASTER}
writeq {EDU + 0x80:#x} 0x1000
writeq {EDU + 0x88:#x} 0x40000
writeq {EDU + 0x90:#x} 16
writeq {EDU + 0x98:#x} 1
clock_step 200000000
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "script.txt"
    path.write_text(SCRIPT)
    return path


def test_a_stale_entry_after_a_replay_is_told_and_is_a_no(printed) -> None:
    (unit,) = printed("caches", "--trace", STALE, "--set", "flush=deferred", status=1)["units"]
    (entry,) = unit["caches"]["translations"]["entries"]
    assert entry["why"].startswith("now fault 06h")
    assert (entry["iova"], entry["gpa"], entry["page_size"], entry["source_id"]) == (
        "0x1000",
        "0x5000",
        4096,
        "00:03.0",
    )
    assert (entry["state"], entry["domain_id"], entry["stage"]) == ("stale", 5, "second-stage")
    assert (entry["access"], entry["execute"], entry["pasid"], entry["rid_pasid"]) == ("rw", True, None, 0)
    (context,) = unit["caches"]["contexts"]["entries"]
    assert (context["state"], context["why"], unit["stale"]) == ("same", "", 1)


def test_the_same_trace_under_strict_invalidation_leaves_nothing_stale(printed) -> None:
    (unit,) = printed("caches", "--trace", STALE, "--set", "flush=strict")["units"]
    assert unit["caches"]["translations"] == {"capacity": 8192, "entries": []}
    assert unit["stale"] == 0


def test_a_replay_can_stop_before_its_end(printed) -> None:
    (unit,) = printed("caches", "--trace", CLEAN, "--until", "1.9ms")["units"]
    (entry,) = unit["caches"]["translations"]["entries"]
    assert (entry["iova"], entry["state"]) == ("0x1000", "same")


def test_an_image_of_ours_holds_what_was_cached(printed, tmp_path: Path) -> None:
    path = tmp_path / "out.elf"
    printed("replay", STALE, "--set", "flush=deferred", "--dump", path, status=1)
    from_image = printed("caches", path, status=1)
    assert from_image == printed("caches", "--trace", STALE, "--set", "flush=deferred", status=1)


def test_other_images_have_no_caches(said) -> None:
    image = FIXTURES / "images" / "a-legacy-strict" / "image.elf.gz"
    assert "no caches in this ELF core: they are in the unit, not in memory" in said("caches", image)


def test_a_script_drives_a_machine_before_its_caches_are_shown(vtd, script: Path) -> None:
    done = vtd("caches", ONE_UNIT, "--script", script)
    assert done.returncode == 0, done.stderr
    assert "context cache: 1 of 64" in done.stdout
    assert "0x1000 -> 0x5000  4 KiB rwx  00:02.0 domain 3 second-stage" in done.stdout
    assert "level 2 of 0x0 -> table 0x105000" in done.stdout
    assert "clock_step 200000000: OK 200000000" in done.stderr
    assert "FAIL" not in done.stderr


def test_a_script_that_fails_is_a_mistake_with_its_line(said, tmp_path: Path) -> None:
    (tmp_path / "script").write_text("# a remark\nwrote 0x1000 8\nclock_step 1\n")
    line = said("caches", ONE_UNIT, "--script", tmp_path / "script")
    assert line == f"vtd: {tmp_path}/script, line 2: unknown command: 'wrote 0x1000 8'\n"


def test_a_machine_saved_by_run_has_its_caches_in_the_image(vtd, printed, script: Path, tmp_path: Path) -> None:
    path = tmp_path / "machine.elf"
    assert vtd("run", ONE_UNIT, "--script", script, "--dump", path).returncode == 0
    (unit,) = printed("caches", path)["units"]
    assert [entry["gpa"] for entry in unit["caches"]["translations"]["entries"]] == ["0x5000"]
    (found,) = printed("inspect", path)["units"]
    assert found["spaces"][0]["mappings"] == [{"iova": "0x1000", "gpa": "0x5000", "size": 4096, "access": "rw"}]


def test_every_unit_of_a_machine_is_shown(vtd, printed) -> None:
    assert [unit["register_base"] for unit in printed("caches", TWO_UNITS)["units"]] == ["0xfed90000", "0xfed91000"]
    lines = vtd("caches", TWO_UNITS).stdout.splitlines()
    assert [line for line in lines if line.startswith("unit")] == [
        "unit at 0xfed90000, profile spec: 0 cached",
        "unit at 0xfed91000, profile spec: 0 cached",
    ]
    assert max(map(len, lines)) <= 80


def test_the_stale_entry_is_told_to_people_too(vtd) -> None:
    done = vtd("caches", "--trace", STALE, "--set", "flush=deferred")
    assert done.returncode == 1
    assert "unit at 0xfed90000, profile default: 2 cached, 1 stale" in done.stdout
    assert "stale: now fault 06h" in done.stdout


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "a MACHINE, an IMAGE or --trace TRACE is needed"),
        (["fixtures/images/c-scalable/image.elf.gz", "--script", "-"], "--script drives a machine"),
        (["nowhere.elf"], "nowhere.elf: No such file"),
        (["nowhere.yaml"], "nowhere.yaml: No such file"),
        (["--trace", str(STALE), "--set", "flsh=strict"], "flsh"),
    ],
)
def test_wrong_input_is_one_line(said, arguments: list[str], message: str) -> None:
    assert message in said("caches", *arguments)


def test_the_dmar_table_of_a_machine_is_written(vtd, printed, tmp_path: Path) -> None:
    path = tmp_path / "dmar.bin"
    done = vtd("run", TWO_UNITS, "--dmar", path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    units = [one for one in printed("dmar", path)["structures"] if one["kind"] == "drhd"]
    assert [unit["base"] for unit in units] == ["0xfed90000", "0xfed91000"]


def test_a_machine_without_units_has_no_dmar_table_and_writes_none(said, tmp_path: Path) -> None:
    machine, path = tmp_path / "machine.yaml", tmp_path / "dmar.bin"
    machine.write_text("ram: 16M\nengine: python\n")
    assert "no remapping unit" in said("run", machine, "--dmar", path)
    assert not path.exists()


def test_info_iommu_tells_what_each_unit_serves(vtd, tmp_path: Path) -> None:
    script = tmp_path / "look.txt"
    script.write_text("info iommu\n")
    out = vtd("run", TWO_UNITS, "--script", script).stdout
    assert "  serves endpoint 00:02.0\n" in out
    assert "  serves IOAPIC 2 at f0:1f.0, HPET 0 at f0:0f.0, all other devices\n" in out
    assert '02:04.0 edu "old0", requests as 02:00.0' in out
    assert max(map(len, out.splitlines())) <= 80


def test_a_trace_without_accesses_says_why_nothing_is_cached(vtd, tmp_path: Path) -> None:
    trace = tmp_path / "quiet.jsonl"
    trace.write_text('{"event": "map", "device": "00:03.0", "iova": "0x1000", "gpa": "0x5000", "size": 4096}\n')
    done = vtd("caches", "--trace", trace)
    assert done.returncode == 0
    assert "--accesses" in done.stderr
    assert "IOTLB: 0 of" in done.stdout


@pytest.mark.parametrize(
    "variant, mode", [("a-legacy-strict", "legacy"), pytest.param("c-scalable", "scalable", marks=pytest.mark.slow)]
)
def test_a_real_boot_under_strict_invalidation_leaves_nothing_stale(
    printed, corpus: Path, variant: str, mode: str
) -> None:
    trace, log = FIXTURES / "traces" / f"{variant}.txt.xz", corpus / variant / "qemu-vtd.log.gz"
    (unit,) = printed("caches", "--trace", trace, "--accesses", log, "--set", f"mode={mode}")["units"]
    assert unit["stale"] == 0
    assert len(unit["caches"]["translations"]["entries"]) > 80
    assert len(unit["caches"]["contexts"]["entries"]) >= 7
