from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from ifmdm_core.errors import BadInput, IfmdmError, NotFound, Unavailable
from ifmdm_core.media.files import input_file, published


def test_a_published_file_appears_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    with published(path) as temporary:
        temporary.write_text("whole")
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".txt"
        assert not path.exists()
    assert path.read_text() == "whole"
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()
    assert list(tmp_path.iterdir()) == [path]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_failure_publishes_nothing(tmp_path: Path, failure: type[BaseException]) -> None:
    def fail() -> None:
        with published(tmp_path / "out.txt") as temporary:
            temporary.write_text("half")
            raise failure

    with pytest.raises(failure):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_said_so(tmp_path: Path) -> None:
    def fail() -> None:
        with published(tmp_path / "out.txt"):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(Unavailable, match=r"out\.txt: no space left"):
        fail()


def test_unwritable_targets_are_named(tmp_path: Path) -> None:
    for target in (tmp_path, tmp_path / "no" / "x.mp4", Path("/dev/null"), tmp_path / ("x" * 300)):
        with pytest.raises(IfmdmError, match=target.name[:20]), published(target):
            pass
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="folder does not exist"), published(tmp_path / "file" / "x.mp4"):
        pass


def test_input_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    assert input_file(tmp_path / "a", "audio") == tmp_path / "a"
    with pytest.raises(NotFound, match="no such audio file"):
        input_file(tmp_path / "b", "audio")
