"""Three hosts with addresses of their own, one of which is cut off at a moment that the commit decides.

Only with IFMDM_THREE_HOSTS=1, as its time on a quiet machine is not known yet. `make chaos` cuts all three kinds of
work.
"""

from __future__ import annotations

import os

import pytest

from tests.cluster.hosts.cuts import run_all
from tests.cluster.hosts.network import why_not
from tests.crash.reporting import seeds_of_this_commit

ASKED = os.environ.get("IFMDM_THREE_HOSTS") == "1"
UNABLE = why_not() if ASKED else "takes long: IFMDM_THREE_HOSTS=1 runs it"


@pytest.mark.skipif(UNABLE is not None, reason=str(UNABLE))
def test_with_one_of_three_hosts_cut_off_midway_and_healed_nothing_is_lost(
    capsys: pytest.CaptureFixture[str],
) -> None:
    seeds = seeds_of_this_commit(1)
    (report,) = run_all(seeds)
    with capsys.disabled():
        print(f"\nIFMDM_CRASH_SEED={seeds.start}: {report}")
