"""Pose and projection: a small articulated skeleton in three dimensions, seen by a camera.

Body frame, in body heights: x to the person's left, y up from the ground, z forward. Screen frame: x right, y down,
depth towards the camera. ``yaw`` 0 faces the camera, pi/2 walks to the right of the picture, pi shows the back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glimpse.people.wardrobe import Body

Float32 = NDArray[np.float32]

KEYPOINTS = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle",
)  # fmt: skip

SHOULDER_Y, HIP_Y, HEAD_Y = 0.786, 0.5, 0.925
UPPER_ARM, FOREARM, HAND = 0.168, 0.142, 0.05
THIGH, SHIN = 0.232, 0.226
ANKLE_Y = 0.042


@dataclass(frozen=True, slots=True)
class Pose:
    """One instant of a person: angles in radians."""

    yaw: float
    pitch: float
    phase: float
    stride: float
    lean: float
    head_turn: float
    arms: str  # swing, pockets, phone or folded
    spread: float
    roll: float


ARM_POSES = ("swing", "swing", "swing", "pockets", "phone", "folded")


def draw_pose(rng: np.random.Generator, pitch: float) -> Pose:
    """A pose of a walking or standing person, facing anywhere, front and back more often than in between."""
    base = float(rng.choice([0.0, math.pi / 2, math.pi, -math.pi / 2], p=[0.34, 0.17, 0.32, 0.17]))
    walking = rng.random() < 0.7
    return Pose(
        yaw=base + float(rng.normal(0.0, 0.38)),
        pitch=pitch,
        phase=float(rng.uniform(0.0, 2 * math.pi)),
        stride=float(rng.uniform(0.22, 0.5)) if walking else float(rng.uniform(0.0, 0.1)),
        lean=float(rng.normal(0.04, 0.05)),
        head_turn=float(rng.normal(0.0, 0.3)),
        arms=ARM_POSES[int(rng.integers(len(ARM_POSES)))],
        spread=float(rng.uniform(0.06, 0.2)),
        roll=float(rng.normal(0.0, 0.025)),
    )


class Skeleton:
    """Joints of a body in a pose, and their projection to the screen (body heights).

    ``joints`` maps a name to ``(3,)`` in the body frame; names are those of `KEYPOINTS` plus ``*_hand``, ``*_heel``,
    ``*_toe`` and ``head``.
    """

    def __init__(self, body: Body, pose: Pose) -> None:
        self.body, self.pose = body, pose
        self.cos, self.sin = math.cos(pose.yaw), math.sin(pose.yaw)
        self.tilt_cos, self.tilt_sin = math.cos(pose.pitch), math.sin(pose.pitch)
        self.joints = self._legs() | self._arms() | self._head()

    def lean_at(self, y: float) -> float:
        """How far forward the spine is at height y."""
        return max(0.0, y - HIP_Y) * math.tan(self.pose.lean)

    def sway_at(self, y: float) -> float:
        """How far sideways the spine is at height y."""
        return max(0.0, y - HIP_Y) * math.tan(self.pose.roll)

    def project(self, point: Float32) -> tuple[float, float, float]:
        """Body frame to (screen x, screen y, depth)."""
        x, y, z = float(point[0]), float(point[1]), float(point[2])
        depth = z * self.cos - x * self.sin
        return x * self.cos + z * self.sin, -y * self.tilt_cos + depth * self.tilt_sin, depth

    def depth(self, name: str) -> float:
        """How much nearer to the camera a joint is than the body's axis, in body heights."""
        return self.project(self.joints[name])[2]

    def _legs(self) -> dict[str, Float32]:
        pose = self.pose
        hip_x = 0.05 * self.body.hips * math.sqrt(self.body.build)
        thigh, shin = THIGH * self.body.legs, SHIN * self.body.legs
        joints: dict[str, NDArray[np.float64]] = {}
        for side, sign in (("left", 1.0), ("right", -1.0)):
            swing = pose.stride * sign * math.sin(pose.phase)
            moving_forward = sign * math.cos(pose.phase)
            flex = 0.06 + pose.stride * (1.5 * max(0.0, moving_forward) + 0.35 * max(0.0, -swing))
            hip = np.array([sign * hip_x, HIP_Y, 0.0])
            knee = hip + thigh * np.array([sign * 0.03, -math.cos(swing + 0.3 * flex), math.sin(swing + 0.3 * flex)])
            angle = swing - 0.7 * flex
            ankle = knee + shin * np.array([0.0, -math.cos(angle), math.sin(angle)])
            tip = 0.5 * angle if angle < 0 else 0.25 * angle
            forward = np.array([sign * 0.2, math.sin(tip), math.cos(tip)])
            heel = ankle + np.array([0.0, -0.018, -0.016])
            joints |= {f"{side}_hip": hip, f"{side}_knee": knee, f"{side}_ankle": ankle}
            joints |= {f"{side}_heel": heel, f"{side}_toe": heel + 0.098 * forward}
        drop = min(joints["left_ankle"][1], joints["right_ankle"][1]) - ANKLE_Y
        self.drop = float(drop)
        return {name: (joint - (0.0, drop, 0.0)).astype(np.float32) for name, joint in joints.items()}

    def _arms(self) -> dict[str, Float32]:
        pose = self.pose
        joints: dict[str, NDArray[np.float64]] = {}
        shoulder_x = 0.1 * self.body.shoulders * (0.4 + 0.6 * self.body.build)
        for side, sign in (("left", 1.0), ("right", -1.0)):
            swing = -pose.stride * sign * math.sin(pose.phase) * 0.9
            flex, spread, inward = 0.15 + 0.5 * max(0.0, swing), pose.spread, 0.25 * pose.spread
            if pose.arms == "pockets":
                swing, flex, spread, inward = -0.35, 0.75, 0.3, -0.45
            elif pose.arms == "phone" and sign < 0:
                swing, flex, inward = 0.45, 2.2, -0.25
            elif pose.arms == "folded":
                swing, flex, inward = 0.1, 1.75, -0.9
            shoulder = np.array([sign * shoulder_x + self.sway_at(SHOULDER_Y), SHOULDER_Y, self.lean_at(SHOULDER_Y)])
            elbow = shoulder + UPPER_ARM * _direction(sign * spread, swing)
            wrist = elbow + FOREARM * _direction(sign * inward, swing + flex)
            hand = wrist + HAND * _direction(sign * inward, swing + flex * 1.05)
            joints |= {
                f"{side}_shoulder": shoulder,
                f"{side}_elbow": elbow,
                f"{side}_wrist": wrist,
                f"{side}_hand": hand,
            }
        return {name: (joint - (0.0, self.drop, 0.0)).astype(np.float32) for name, joint in joints.items()}

    def _head(self) -> dict[str, Float32]:
        turn = self.pose.head_turn
        centre = np.array([self.sway_at(HEAD_Y), HEAD_Y - self.drop, self.lean_at(HEAD_Y) + 0.008])
        size = self.body.head
        offsets = {
            "head": (0.0, 0.0, 0.0),
            "nose": (0.0, -0.008, 0.058),
            "left_eye": (0.02, 0.008, 0.05),
            "right_eye": (-0.02, 0.008, 0.05),
            "left_ear": (0.048, 0.0, 0.0),
            "right_ear": (-0.048, 0.0, 0.0),
        }
        cos, sin = math.cos(turn), math.sin(turn)
        joints = {}
        for name, (x, y, z) in offsets.items():
            # A turn rotates the head about the vertical, in the same sense as yaw.
            offset = np.array([x * cos + z * sin, y, z * cos - x * sin]) * size
            joints[name] = (centre + offset).astype(np.float32)
        return joints


def _direction(outward: float, forward: float) -> NDArray[np.float64]:
    """Unit vector of a hanging limb that is raised outward and forward by these angles."""
    return np.array([math.sin(outward), -math.cos(outward) * math.cos(forward), math.cos(outward) * math.sin(forward)])
