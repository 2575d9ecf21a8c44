"""A made-up calibration for tests of what carries one."""

from __future__ import annotations

from typing import Any

from glimpse.bundle import utc_now
from glimpse.calibration import Calibration
from glimpse.parts import PartSchema


def calibration_fields(schema: PartSchema, model_sha256: str) -> dict[str, Any]:
    """As in a manifest."""
    return {
        "model_sha256": model_sha256,
        "parts": {part.name: part.weight for part in schema.parts},
        "distance_prior": schema.prior,
        "kind": "isotonic",
        "distance": (0.1, 0.5, 1.0),
        "joint_visibility": (0.2, 0.8),
        "log_likelihood_ratio": ((3.0, 0.5, -1.0), (6.0, 1.0, -5.0)),
        "prior": 0.01,
        "source": {"data": "none", "command": "tests", "seed": 0, "created_at": utc_now().isoformat()},
    }


def calibration_of(schema: PartSchema, model_sha256: str, **changes: Any) -> Calibration:
    """The same, checked, with some fields changed."""
    return Calibration.model_validate({**calibration_fields(schema, model_sha256), **changes})
