"""python -m infra.docker.validate: Dockerfile and compose.yaml, as far as that can be told without Docker."""

from __future__ import annotations

import sys
from pathlib import Path

from infra.docker.compose import compose_faults
from infra.docker.images import image_faults

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]


def main() -> int:
    """One line a fault; 0 where there is none, else 1."""
    found = [*image_faults(FOLDER / "Dockerfile", ROOT), *compose_faults(FOLDER / "compose.yaml")]
    for fault in found:
        print(fault)
    print(f"{len(found)} faults" if found else "Dockerfile and compose.yaml: no fault")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
