"""The parity gate, the half that needs no torch: does this runtime rank as the trained model did?

>>> from glimpse.bundle import open_bundle
>>> from glimpse.runtime import open_session
>>> from glimpse.runtime.gate import judge
>>> verdict = judge(open_session(open_bundle("models/glimpse-lite"), precision="int8"))    # doctest: +SKIP
>>> verdict.passed                                                                         # doctest: +SKIP

The exporter runs the same gate with the checkpoint's features before it writes a bundle.
"""

from glimpse.runtime.gate.fixture import FILE, QUERIES, QUICK_QUERIES, Fixture, GateError, Reference
from glimpse.runtime.gate.verdict import Verdict, judge, measure, run_in_batches

__all__ = [
    "FILE",
    "QUERIES",
    "QUICK_QUERIES",
    "Fixture",
    "GateError",
    "Reference",
    "Verdict",
    "judge",
    "measure",
    "run_in_batches",
]
