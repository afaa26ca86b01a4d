"""python -m infra.grafana [--runbooks URL]: writes dashboard.json and alerts.yaml, from the figures in the code."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import yaml

from infra.grafana.alerts import RUNBOOKS, rules
from infra.grafana.dashboard import dashboard

FOLDER = Path(__file__).parent
HEADER = "# Made by python -m infra.grafana; what each alert asks for is in docs/runbooks.md.\n"


def files(runbooks: str = RUNBOOKS) -> dict[Path, str]:
    """What is written where."""
    return {
        FOLDER / "dashboard.json": json.dumps(dashboard(), indent=1) + "\n",
        FOLDER / "alerts.yaml": HEADER + yaml.safe_dump(rules(runbooks), sort_keys=False, width=110),
    }


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m infra.grafana", description=__doc__)
    parser.add_argument(
        "--runbooks", metavar="URL", default=RUNBOOKS, help="where docs/runbooks.md can be read"
    )
    for path, text in files(parser.parse_args().runbooks).items():
        path.write_text(text)
        print(path)


if __name__ == "__main__":
    main()
