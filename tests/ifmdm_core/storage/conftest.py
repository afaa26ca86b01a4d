"""The two kinds of store."""

from __future__ import annotations

from pathlib import Path

import pytest

from ifmdm_core.storage import Storage, open_storage


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "folder":
        return open_storage(tmp_path / "store")
    return open_storage(f"s3://renders/{tmp_path.name}", request.getfixturevalue("s3_config"))
