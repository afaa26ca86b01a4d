"""Ending what was started, and nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from infra.stack.home import Home
from infra.stack.processes import end, find, kill_marked
from infra.stack.services import ray_lacks
from infra.stack.state import StackState

LEAVE_S = 3.0
"""For children to go on their own once their parent has ended."""
GRACE_S = {"serve": 60.0, "ray": 20.0, "mlflow": 10.0, "s3": 3.0}
"""That a service has to end by itself: renders under way, jobs that are given back."""
LOST_S = 3.0
"""The same for one whose Ray has gone, and which therefore waits for answers that will not come."""
NEEDED_BY_OTHERS = ("ray", "s3")
"""Ended after the others."""

Say = Callable[[str], None]


def end_stack(home: Home, state: StackState, say: Say = lambda _: None) -> int:
    """Ends all of a stack; its data stay. How many processes had to be killed that were left over.

    What the record does not know any more is found by its mark; what it names wrongly (a number that is another
    program's by now) is left alone.
    """
    names = list(state.services)
    end_services(home, state, [name for name in names if name not in NEEDED_BY_OTHERS], say)
    end_services(home, state, [name for name in names if name in NEEDED_BY_OTHERS], say)
    left = kill_marked(state.id)
    shutil.rmtree(state.temp, ignore_errors=True)
    home.forget()
    return left


def end_services(home: Home, state: StackState, names: Iterable[str], say: Say = lambda _: None) -> None:
    """Ends some services, those named here at the same time; the record forgets them."""
    ray = state.services.get("ray")
    lost = ray is None or bool(ray_lacks(ray))
    ending = list(names)
    with ThreadPoolExecutor(max(1, len(ending))) as threads:
        done = {name: threads.submit(_end, state, name, lost) for name in ending}
        for name, future in done.items():
            future.result()
            say(name)
            state.services.pop(name, None)
    home.write(state)


def _end(state: StackState, name: str, lost: bool) -> None:
    started = state.services.get(name)
    process = find(started) if started is not None else None
    if process is not None:
        end([process], LOST_S if lost and name == "serve" else GRACE_S[name])
    kill_marked(state.id, [name], LEAVE_S if process is not None else 0.0)
