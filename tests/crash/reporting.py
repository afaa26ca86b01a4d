"""What both kinds of schedules share: seeds, and a report of what was seen."""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
from collections.abc import Iterable
from pathlib import Path


def seeds_of_this_commit(count: int) -> range:
    """So many consecutive seeds, others for each commit. IFMDM_CRASH_SEED repeats a run."""
    given = os.environ.get("IFMDM_CRASH_SEED")
    if given is None:
        given = str(int(commit()[:6] or "0", 16))
    return range(int(given), int(given) + count)


def commit() -> str:
    """The commit of this checkout; empty outside one."""
    done = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent
    )
    return done.stdout.strip() if done.returncode == 0 else ""


def arguments_of(parser: argparse.ArgumentParser, seeds: str) -> tuple[argparse.Namespace, range]:
    """The command line with --seeds (default `seeds`) and --log, and the seeds."""
    parser.add_argument("--seeds", default=seeds, help="first:last, the last not included")
    parser.add_argument("--log", type=Path, help="write the report there as well")
    arguments = parser.parse_args()
    first, last = map(int, arguments.seeds.split(":"))
    return arguments, range(first, last)


def report(seeds: range, reports: Iterable[dict[str, object]], verdict: str, log: Path | None) -> None:
    """Print a line for each schedule when it is over, and the verdict when none failed; write all of it to `log`."""
    lines = [
        f"seeds {seeds.start}:{seeds.stop}, commit {commit()}, {platform.platform()}, {os.cpu_count()} cores"
    ]
    print(lines[0], flush=True)
    for seen in reports:
        lines.append(" ".join(f"{name}={str(value).replace(' ', '-')}" for name, value in seen.items()))
        print(lines[-1], flush=True)
    lines.append(f"{len(seeds)} schedules, all ended with {verdict}")
    print(lines[-1])
    if log:
        log.write_text("\n".join(lines) + "\n")
