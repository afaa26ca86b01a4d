"""Runs a function in several processes that form a gloo group, as training workers do."""

from __future__ import annotations

import multiprocessing
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any


def together(function: Callable[..., Any], size: int, folder: Path, *arguments: Any) -> list[Any]:
    """`function(*arguments)` in each of `size` processes; what they return (plain data), by rank.

    `function` is one of an importable module; the processes find each other through a file in `folder`. Raises
    RuntimeError with the trace of the first process that failed.
    """
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="meet-", dir=folder) as meeting:
        group = f"file://{Path(meeting).resolve() / 'group'}"
        workers = [
            context.Process(
                target=_worker, args=(answers, group, rank, size, function, arguments), daemon=True
            )
            for rank in range(size)
        ]
        for worker in workers:
            worker.start()
        results: dict[int, Any] = {}
        try:
            for _ in workers:
                rank, result, trace = answers.get(timeout=540)
                if trace:
                    raise RuntimeError(f"process {rank} failed:\n{trace}")
                results[rank] = result
        finally:
            for worker in workers:
                worker.join(20 if len(results) == size else 1)
                if worker.is_alive():
                    worker.kill()
    return [results[rank] for rank in range(size)]


def _worker(
    answers: Any, group: str, rank: int, size: int, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    import torch
    from torch import distributed

    torch.set_num_threads(1)
    try:
        distributed.init_process_group("gloo", init_method=group, rank=rank, world_size=size)
        result = function(*arguments)
        answers.put((rank, result, ""))
        distributed.barrier()
        distributed.destroy_process_group()
    except BaseException:
        answers.put((rank, None, traceback.format_exc()))
