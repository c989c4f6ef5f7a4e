"""Why a GPU is not used, why it is slow, and whether it can be trusted.

A machine is captured as data, and the data is judged; so a machine that somebody else recorded is
judged like the live one::

    recording = capture()
    diagnosis = diagnose(recording)
    Path("machine.json").write_text(dump(recording, redacted=True))

`examine` does it for the process that calls it, as in a cell of a notebook.
"""

from __future__ import annotations

from devbench.doctor.bundle import BundleError as BundleError
from devbench.doctor.bundle import dump as dump
from devbench.doctor.bundle import load as load
from devbench.doctor.capture import capture as capture
from devbench.doctor.diagnose import diagnose as diagnose
from devbench.doctor.recording import Recording as Recording
from devbench.doctor.records import Diagnosis as Diagnosis
from devbench.doctor.records import Finding as Finding
from devbench.doctor.records import Fix as Fix


def examine() -> Diagnosis:
    """The machine, and this very process: whether its variables came too late for CUDA."""
    return diagnose(capture(process=True))
