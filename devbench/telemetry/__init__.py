"""What disturbed a measurement, and what it cost in energy: GPU and host, watched from the parent.

A `Sampler` watches while a worker times a case and gives a `Summary`; `doubts` says what in it speaks
against the figure, and `energy` what a step took::

    with Sampler(gpus, worker_pid=pid) as sampler:
        sampler.start_window()
        ...
        summary = sampler.end_window()
    list(doubts(summary, threads=8))
"""

from devbench.telemetry.doubts import DOUBTS as DOUBTS
from devbench.telemetry.doubts import doubts as doubts
from devbench.telemetry.energy import energy as energy
from devbench.telemetry.records import GpuSummary as GpuSummary
from devbench.telemetry.records import HostSummary as HostSummary
from devbench.telemetry.records import Summary as Summary
from devbench.telemetry.sampler import Sampler as Sampler
