"""What is said where the machine has no room, or a package lacks."""

from __future__ import annotations

import pytest

from ifmdm_core.errors import BadInput, Unavailable
from infra.stack.room import free_memory_mb, require_memory
from infra.stack.settings import require_packages


def test_memory_is_compared_with_what_is_free() -> None:
    require_memory({"ray": 700}, free_mb=700)
    with pytest.raises(Unavailable) as refused:
        require_memory({"ray": 700, "mlflow": 500}, free_mb=900)
    assert "1.2 GB are needed (ray 0.7, mlflow 0.5), 0.9 GB are free" in str(refused.value)
    assert refused.value.exit_code == 75
    assert 0 < free_memory_mb() < 100_000_000


def test_a_missing_package_is_named_with_the_extra_that_has_it() -> None:
    require_packages(["json"])
    with pytest.raises(BadInput, match=r"no_such is not installed; pip install 'ifmdm\[render,cluster\]'"):
        require_packages(["json", "no_such"])
