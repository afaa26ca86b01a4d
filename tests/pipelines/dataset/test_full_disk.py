"""A disk that fills up while a shard is written: one clear error, and nothing in the store."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path


def test_a_full_scratch_disk_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk."""
    (tmp_path / "scratch").mkdir()
    code = f"""
        import resource
        from pathlib import Path

        import numpy as np

        from ifmdm_core.errors import DiskFull
        from ifmdm_core.storage import open_storage
        from pipelines.dataset.shard_file import write_feature_shard

        here = Path({str(tmp_path)!r})
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        values = [np.zeros((1000, 20), np.float32)] * 20
        names = [str(k) for k in range(20)]
        try:
            write_feature_shard(
                open_storage(here / "set"), "motion/x", "00000", "motion", 20, names, values,
                inputs="i", clips_key="c", scratch=here / "scratch",
            )
        except DiskFull as error:
            print(error)
        """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=120
    )
    assert "no room left to write" in done.stdout, done.stderr
    assert "scratch" in done.stdout
    assert "free some space" in done.stdout
    assert [path.name for path in tmp_path.rglob("*")] == ["scratch"]
