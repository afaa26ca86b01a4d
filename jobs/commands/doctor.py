"""`ifmdm jobs doctor`: is the store fit for jobs, are the tenants' policies sound, does anybody work?"""

from __future__ import annotations

from dataclasses import asdict

from jobs.checkup import check_store
from jobs.commands.options import (
    EndpointOption,
    JsonOption,
    ProfileOption,
    RoleOption,
    RootOption,
    command_app,
    named_root,
    print_json,
    s3_config,
)

app = command_app()


@app.command()
def doctor(
    as_json: JsonOption = False,
    root: RootOption = None,
    endpoint: EndpointOption = None,
    profile: ProfileOption = None,
    role: RoleOption = None,
) -> int:
    """Check the store, with a fix per fault. Exit code 0 when nothing failed, 3 otherwise."""
    findings = check_store(named_root(root), s3_config(endpoint, profile, role))
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        width = max(len(finding.name) for finding in findings)
        for finding in findings:
            fix = f"  -> {finding.fix}" if finding.fix else ""
            print(f"{finding.status:<4}  {finding.name:<{width}}  {finding.found}{fix}")
    return 3 if any(finding.status == "fail" for finding in findings) else 0
