"""Files are written whole or not at all."""

from __future__ import annotations

import os
import stat

import pytest

from pagetables.images.saving import replacing


def test_the_file_appears_when_the_block_ends(tmp_path):
    with replacing(tmp_path / "out") as file:
        file.write(b"whole")
        assert not (tmp_path / "out").exists()
    assert (tmp_path / "out").read_bytes() == b"whole"
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_failure_leaves_no_trace(tmp_path, failure):
    def write_half():
        with replacing(tmp_path / "out") as file:
            file.write(b"half")
            raise failure

    with pytest.raises(failure):
        write_half()
    assert os.listdir(tmp_path) == []


def test_the_mode_obeys_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        with replacing(tmp_path / "out"):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o640


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "target").write_bytes(b"old")
    (tmp_path / "link").symlink_to("target")
    with replacing(tmp_path / "link") as file:
        file.write(b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"new"


def test_what_is_no_regular_file_is_written_to_and_not_replaced(tmp_path):
    (tmp_path / "null").symlink_to("/dev/null")
    with replacing(tmp_path / "null") as file:
        file.write(b"gone")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    assert (tmp_path / "null").is_symlink()


def test_a_directory_is_refused(tmp_path):
    with pytest.raises(IsADirectoryError), replacing(tmp_path):
        pass


def test_a_missing_folder_is_named_as_the_user_named_it(tmp_path):
    asked = str(tmp_path / "missing" / "out")
    with pytest.raises(FileNotFoundError) as error, replacing(asked):
        pass
    assert error.value.filename == asked


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="NOT RUN: no /dev/full here")
def test_a_write_that_fails_names_the_file():
    with pytest.raises(OSError, match="No space") as error, replacing("/dev/full") as file:
        file.write(b"x" * 100_000)
    assert error.value.filename == "/dev/full"


def test_an_error_about_another_file_keeps_its_name(tmp_path):
    with pytest.raises(FileNotFoundError) as error, replacing(tmp_path / "out"):
        os.stat(tmp_path / "source")
    assert error.value.filename == str(tmp_path / "source")


def test_a_pipe_that_has_a_number_only_is_written_to():
    read, write = os.pipe()
    with replacing(f"/dev/fd/{write}") as file:
        file.write(b"whole")
    os.close(write)
    assert os.read(read, 10) == b"whole"
    os.close(read)
