"""Proof that the schedules see what they are for: known mistakes, put into the real code one by one, turn them red.

python -m tests.crash.jobs.mutations            # all of them, with the number of schedules that each takes
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[3]
MOST = 1500
"""Schedules that a mutation has to turn red."""
_WRONG = re.compile(r"Wrong: seed (\d+) \(\w+\): (.*)")


@dataclass(frozen=True)
class Mutation:
    """One mistake: pieces of a file of `jobs/` that are replaced by others."""

    name: str
    file: str
    old: str
    new: str
    old_too: str = ""
    new_too: str = ""


MUTATIONS = (
    Mutation(
        "verdict after the last entry, not after the claim",
        "attempt.py",
        "ref, seq = self.claim.ref, self.claim.seq + 1\n",
        "ref = self.claim.ref\n        seq = self._patiently(lambda: self.store.view(ref)).seq + 1\n",
    ),
    Mutation(
        "no nonce is read back: no answer counts as won",
        "store.py",
        "            except Unavailable:\n                pass\n            try:\n                return nonce",
        "            except Unavailable:\n                return True\n            try:\n                return nonce",
    ),
    Mutation(
        "no nonce is read back: no answer counts as lost",
        "store.py",
        "            except Unavailable:\n                pass\n            try:\n                return nonce",
        "            except Unavailable:\n                return False\n            try:\n                return nonce",
    ),
    Mutation(
        "no nonce is read back: no counts as lost",
        "store.py",
        "                    return True\n            except Unavailable:\n                pass\n",
        "                    return True\n                return False\n"
        "            except Unavailable:\n                pass\n",
    ),
    Mutation(
        "published before done",
        "attempt.py",
        "                video = self._keep(rendered)\n",
        "                video = self._keep(rendered)\n"
        "                policy = read_policy(self.store.storage, self.claim.record.tenant)\n"
        '                output, key = self.places.at(self.claim.record.job.output, policy.outputs, "output")\n'
        "                output.place(key, rendered.path, video.sha256)\n",
    ),
    Mutation(
        "no entry `published`",
        "publish.py",
        '    return after if store.append(ref, seq + 1, "published", after) else None\n',
        "    return after\n",
    ),
    Mutation(
        "markers are deleted without a look at their number",
        "scheduler.py",
        "    if not (view.final or marker.seq < view.seq):\n",
        "    if not (view.final or view.seq > 0):\n",
    ),
    Mutation(
        "ages by the sweeper's own clock",
        "sweeper.py",
        "        age = self.store.storage.age(heartbeat(worker))\n",
        "        item = self.store.storage.info(heartbeat(worker))\n"
        "        age = None if item is None else self.store.clock.now() - item.modified.timestamp()\n",
        "        newest = max(beats, key=lambda worker: beats[worker])\n",
        "        return self.store.clock.now()\n        newest = max(beats, key=lambda worker: beats[worker])\n",
    ),
    Mutation(
        "gc takes the epoch that is done and not published",
        "gc.py",
        "        if not view.state.terminal or",
        '        if view.state.state in ("queued", "running", "suspended") or',
    ),
    Mutation(
        "the precondition is ignored",
        "store.py",
        "                if self.storage.put_if_absent(key, data):\n",
        "                if self.storage.put(key, data) is None:\n",
    ),
    Mutation(
        "the running hint is put after the claim",
        "scheduler.py",
        '        store.storage.put(hint.key, b"")  # first: a claim always has its hint\n'
        "        state = entries.claimed(view.state, store.by, self.clock.now())\n"
        '        if not store.append(ref, seq, "claimed", state):\n',
        "        state = entries.claimed(view.state, store.by, self.clock.now())\n"
        '        won = store.append(ref, seq, "claimed", state)\n'
        '        store.storage.put(hint.key, b"")\n'
        "        if not won:\n",
    ),
    Mutation(
        "an epoch is used twice",
        "entries.py",
        "epoch=state.epoch + 1",
        "epoch=max(1, state.epoch)",
    ),
    Mutation(
        "the running hint goes before what follows",
        "settle.py",
        "    if not view.final:\n        follow(",
        "    if hint is not None:\n        store.storage.delete(hint.key)\n    if not view.final:\n        follow(",
    ),
    Mutation(
        "no look for `published` before the output is written",
        "publish.py",
        "                raise _Settled\n",
        "                pass\n",
    ),
    Mutation(
        "no look for a later job's right to publish",
        "publish.py",
        "            _require_right(store, record)\n",
        "",
    ),
    Mutation(
        "hints of claims that never came stay",
        "sweeper.py",
        "            view = self._taken(hint, view)\n",
        "",
    ),
    Mutation(
        "an unanswered request after the claim makes it forgotten",
        "scheduler.py",
        "        with contextlib.suppress(Unavailable):\n            if store.storage.info(ref.final)",
        "        with contextlib.nullcontext():\n            if store.storage.info(ref.final)",
    ),
    Mutation(
        "another's verdict is overwritten",
        "attempt.py",
        "        if self._patiently(lambda: self.store.append(ref, seq, kind, after)):\n",
        "        if not self._patiently(lambda: self.store.append(ref, seq, kind, after)):\n"
        "            self.store.storage.delete(ref.log(seq))\n"
        "        if self._patiently(lambda: self.store.append(ref, seq, kind, after)):\n",
    ),
    Mutation(
        "a wish to stop that its claim did not see is forgotten",
        "scheduler.py",
        '    fruitless = view.entry is not None and view.entry.kind in ("released", "lost", "failed")\n',
        "    fruitless = False\n",
    ),
    Mutation(
        "gc deletes the log before it writes final.json",
        "gc.py",
        "            self._make_record(view)\n",
        "            self._delete((i for i in storage.list(ref.folder) if i.key != ref.spec), freed)\n"
        "            self._make_record(view)\n",
    ),
)


@dataclass(frozen=True)
class Seen:
    """What the schedules said of a mutation."""

    name: str
    seeds: int
    """Schedules until the first red one; 0: none was."""
    what: str


@contextlib.contextmanager
def mutated(mutation: Mutation) -> Iterator[Path]:
    """A tree like this one, but for the mistake. Raises ValueError where its text is not there exactly once."""
    with tempfile.TemporaryDirectory(prefix="ifmdm-mutation-") as folder:
        tree = Path(folder)
        shutil.copytree(ROOT / "jobs", tree / "jobs", ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("ifmdm_core", "serve", "tests"):
            (tree / name).symlink_to(ROOT / name)
        path = tree / "jobs" / mutation.file
        text = path.read_text()
        edits = [(mutation.old, mutation.new)]
        if mutation.old_too:
            edits.append((mutation.old_too, mutation.new_too))
        for old, new in edits:
            if text.count(old) != 1:
                raise ValueError(f"{mutation.name}: {old!r} is {text.count(old)} times in {mutation.file}")
            text = text.replace(old, new)
        path.write_text(text)
        yield tree


def look(mutation: Mutation, first: int = 0, most: int = MOST) -> Seen:
    """Runs schedules from seed `first` on until one is red. Raises RuntimeError where they do not run at all."""
    with mutated(mutation) as tree:
        program = (
            "import sys, jobs; from tests.crash.jobs import schedules; "
            "assert jobs.__file__.startswith(sys.argv[1]), jobs.__file__; "
            "[None for _ in schedules.run_all(range(int(sys.argv[2]), int(sys.argv[3])), trace=1)]"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, str(tree), str(first), str(first + most)], cwd=tree,
            env={**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}, capture_output=True, text=True,
        )  # fmt: skip
    if done.returncode == 0:
        return Seen(mutation.name, 0, "")
    found = _WRONG.search(done.stderr)
    if found is None:
        raise RuntimeError(f"{mutation.name}: {done.stderr[-2000:]}")
    return Seen(mutation.name, int(found[1]) - first + 1, found[2])


def look_at_all(
    mutations: Sequence[Mutation] = MUTATIONS, first: int = 0, most: int = MOST
) -> Iterator[Seen]:
    """What the schedules say of each."""
    for mutation in mutations:
        yield look(mutation, first, most)


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Put known mistakes into the code; the schedules must see each."
    )
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--most", type=int, default=MOST, help="schedules that each mistake gets")
    parser.add_argument("--log", type=Path, help="write what was seen there as well")
    arguments = parser.parse_args()
    lines = []
    for seen in look_at_all(first=arguments.first, most=arguments.most):
        how = f"red at schedule {seen.seeds}: {seen.what}" if seen.seeds else "NOT SEEN"
        lines.append(f"{seen.name}: {how}")
        print(lines[-1], flush=True)
    if arguments.log:
        arguments.log.write_text("\n".join(lines) + "\n")
    sys.exit(any("NOT SEEN" in line for line in lines))


if __name__ == "__main__":
    main()
