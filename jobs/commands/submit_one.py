"""One job: submitted, told, and waited for."""

from __future__ import annotations

import sys
from typing import Any

from ifmdm_core import errors
from ifmdm_core.errors import IfmdmError
from jobs.client import JobClient
from jobs.commands.options import print_json
from jobs.commands.times import span
from jobs.entries import Fault
from jobs.store import JobView
from jobs.submit import Submitted, enter


def submit_one(
    client: JobClient, fields: dict[str, Any], *, new: bool, probe: bool, dry_run: bool, wait: bool,
    timeout_s: float | None, as_json: bool,
) -> int:  # fmt: skip
    """Hands it in and says so; the exit code. Raises as `JobClient.submit`, Expired."""
    accepted = client.accept(fields, new=new, probe=probe, upload=not dry_run)
    if dry_run:
        if as_json:
            print_json(
                {"ok": True, "job": accepted.job.model_dump(mode="json"), "bundle": accepted.model.sha256}
            )
        else:
            print(
                f"the job can be submitted; its model is {accepted.job.model} ({accepted.model.sha256[:12]})"
            )
        return 0
    done = enter(client.store, accepted)
    if not wait:
        if as_json:
            print_json(as_values(done))
        else:
            print(_told(done))
        return 0
    if not as_json:
        print(_told(done), file=sys.stderr)
    view = client.wait(done.ref.id, timeout_s)
    fault = view.state.fault
    if as_json:
        told = fault.model_dump(mode="json") if fault is not None else None
        print_json({**as_values(done), "state": view.state.state, "error": told})
    elif view.state.state == "published":
        print(done.output)
    else:
        print(f"ifmdm: job {done.ref.id} is {view.state.state}{_why(fault)}", file=sys.stderr)
    return exit_code(view)


def as_values(done: Submitted) -> dict[str, Any]:
    """As JSON."""
    return {
        "tenant": done.ref.tenant, "id": done.ref.id, "created": done.created, "state": done.state,
        "age_s": round(done.age, 1), "bundle": done.bundle, "output": done.output,
    }  # fmt: skip


def exit_code(view: JobView) -> int:
    """What a process that waited for the job ends with: that of the job's fault, 0 for a published one."""
    state, fault = view.state.state, view.state.fault
    if state == "published":
        return 0
    if state == "cancelled":
        return errors.Cancelled.exit_code
    kind = getattr(errors, fault.kind, IfmdmError) if fault is not None else IfmdmError
    return int(kind.exit_code)


def _told(done: Submitted) -> str:
    if done.created:
        return f"job {done.ref.id} is queued; ifmdm jobs show {done.ref.id}"
    return f"job {done.ref.id} is there already: {done.state}, submitted {span(done.age)} ago"


def _why(fault: Fault | None) -> str:
    if fault is None:
        return ""
    return f": {fault.what}" + (f"; {fault.fix}" if fault.fix else "")
