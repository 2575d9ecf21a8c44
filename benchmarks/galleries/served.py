"""The same gallery behind gRPC: what a caller with features sees, alone and among 16 and 64."""

from __future__ import annotations

import asyncio
import os
import statistics
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.galleries.ours import GALLERY, prepared_folder
from benchmarks.galleries.problem import SearchProblem
from benchmarks.galleries.truth import recall, truth
from benchmarks.load import closed_loop, one_caller
from benchmarks.pinning import pinned_server
from protos.glimpse.v1 import features_pb2, search_pb2, search_pb2_grpc
from server.settings import default_model

MODES = {"fast": search_pb2.SearchRequest.FAST, "exact": search_pb2.SearchRequest.EXACT}
CALLERS = (16, 64)
CHECKED = 56
"""Queries whose answers are compared with the oracle's."""


def served(problem: SearchProblem, threads: int, cache: Path, rounds: int, seconds: float) -> dict[str, Any]:
    """Figures by mode, as JSON: seconds a search of one caller, searches a second of many, recall at 100.

    With one thread the server has one core and the callers another; with two, both share both.
    """
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise RuntimeError("this benchmark needs two cores")
    server, client = (set(cores[:-1]), {cores[-1]}) if threads == 1 else (set(cores), set(cores))
    folder = prepared_folder(problem, cache)
    told: dict[str, Any] = {}
    with pinned_server(folder, default_model(), server, client, ("--log-level", "warning")) as address:
        for name, mode in MODES.items():
            asked = [request(problem, row, mode, 10) for row in range(len(problem.queries))]
            one_caller(address, asked, 0.5)  # what is built at the first search is built now
            told[name] = {"one_caller": [], "rates": {str(callers): [] for callers in CALLERS}}
        for _ in range(rounds):
            for name, mode in MODES.items():
                asked = [request(problem, row, mode, 10) for row in range(len(problem.queries))]
                told[name]["one_caller"].append(one_caller(address, asked, seconds).p50)
                for callers in CALLERS:
                    rate = asyncio.run(closed_loop(address, asked, callers, seconds)).rate
                    told[name]["rates"][str(callers)].append(rate)
        for name, mode in MODES.items():
            told[name]["recall100"] = statistics.fmean(_recalls(problem, address, mode))
    return told


def request(problem: SearchProblem, row: int, mode: search_pb2.SearchRequest.Mode, top_k: int) -> Any:
    """A search for one query of the problem, by its features."""
    features = features_pb2.PartFeatures(
        vectors=problem.queries.vectors[row].astype("<f4").tobytes(),
        dtype=features_pb2.PartFeatures.FLOAT32,
        visibility=problem.queries.visibility[row],
    )
    return search_pb2.SearchRequest(gallery=GALLERY, features=features, top_k=top_k, mode=mode)


def _recalls(problem: SearchProblem, address: str, mode: search_pb2.SearchRequest.Mode) -> list[float]:
    import grpc

    rows = range(min(CHECKED, len(problem.queries)))
    with grpc.insecure_channel(address) as channel:
        search = search_pb2_grpc.SearchServiceStub(channel).Search
        answers = [search(request(problem, row, mode, 100)) for row in rows]
    found = [np.array([int(match.item_id) for match in answer.matches], np.int64) for answer in answers]
    return recall(found, truth(problem).rows[: len(found)], 100).tolist()
