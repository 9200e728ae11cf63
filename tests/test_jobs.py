"""A cluster that goes away in the middle ends in one sentence."""

import subprocess
import sys
import time

import pytest

from fmrilm.errors import InputError
from fmrilm.jobs import workers


@pytest.mark.timeout(120)
def test_a_dask_scheduler_that_is_lost_is_said_with_what_is_done(tmp_path):
    pytest.importorskip("distributed", reason="needs fmrilm[cluster]")
    code = (
        "import sys, time\nfrom distributed import LocalCluster\n"
        "c = LocalCluster(n_workers=1, threads_per_worker=1, processes=False, "
        "dashboard_address=None, protocol='tcp')\n"
        "print(c.scheduler_address, flush=True)\ntime.sleep(600)"
    )
    cluster = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert cluster.stdout is not None
        address = cluster.stdout.readline().strip()
        done = []
        with pytest.raises(InputError, match=r"lost the Dask scheduler.*of 60 done.*same command"):
            _all(address, done, cluster)
    finally:
        cluster.kill()
        cluster.wait()
    assert 3 <= len(done) < 60


def _all(address, done, cluster):
    with workers(1, address) as run:
        for result in run(time.sleep, [0.2] * 60):
            done.append(result)
            if len(done) == 3:
                cluster.kill()
