"""The gRPC server: services, batching, galleries and their engines, telemetry.

A program, not a library: `server.application.serve` runs it, `server.settings.ServerSettings` configures it.
"""

import os

# Must happen before NumPy loads its BLAS, hence here, in the first module of the room that is imported. The server
# multiplies matrices in several threads while the model has its own pool; a BLAS and an OpenMP pool of one thread
# per core on top of that make them fight for the same cores. A user's own setting wins.
for _variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")
