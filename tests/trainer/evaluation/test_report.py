"""The report: means over trials by hand, Markdown, JSON and plots that say what they show."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from glimpse.metrics import RankingMetrics, RetrievalMetrics
from glimpse.open_set import Searches
from trainer.evaluation import Report
from trainer.evaluation.markdown import to_markdown
from trainer.evaluation.open_set import open_set_of
from trainer.evaluation.plots import plot_open_set, plot_robustness
from trainer.evaluation.robustness import Robustness, RobustnessPoint
from trainer.evaluation.trials import mean_of


def figures(*ranks: list[int]) -> RetrievalMetrics:
    metrics = RankingMetrics()
    for one in ranks:
        metrics.add(np.array(one))
    return metrics.result()


REPORT = Report(
    "market1501",
    ("3,368 queries", "camera ids are no input of the model"),
    {"weighted": figures([1], [2]), "unweighted": figures([2], [4]), "0 of 2 parts visible": figures([2])},
    {"model": "mine 1.0", "seed": "3", "extra inputs": "none: images only"},
)


def curve() -> Robustness:
    points = [
        RobustnessPoint(ratio, {"weighted": figures([1], [rank]), "unweighted": figures([2], [rank])})
        for ratio, rank in ((0.0, 1), (0.7, 5))
    ]
    return Robustness(tuple(points), ("covered by hand",))


def open_set():
    random = np.random.default_rng(0)
    distance, joint = random.random((200, 40), np.float32), random.random((200, 40), np.float32)
    mate = random.integers(0, 40, 200)
    distance[np.arange(200), mate] *= 0.3
    return open_set_of(Searches(distance, joint, mate, np.arange(200)), sizes=(5, 10), trials=2)


def test_markdown_has_every_figure_with_the_facts_beneath() -> None:
    page = to_markdown(REPORT)
    lines = page.splitlines()
    assert lines[0] == "# market1501: mine 1.0"
    assert "| by visibility | 2 | 50.0 | 100.0 | 100.0 | 75.0 | 62.5 | 75.0 |" in lines
    assert "| 0 of 2 parts visible | 1 | 0.0 | 100.0 | 100.0 | 50.0 | 25.0 | 50.0 |" in lines
    for fact in (
        "- 3,368 queries",
        "- camera ids are no input of the model",
        "- seed: 3",
        "- extra inputs: none: images only",
    ):
        assert fact in lines
    assert "Robustness" not in page
    assert "Open set" not in page
    assert "Rank lists" not in page


def test_markdown_of_trials_shows_their_spread() -> None:
    mean = mean_of([REPORT, replace(REPORT, rows={"weighted": figures([1], [1])})])
    assert "| by visibility | 4 | 75.0 ± 35.4 |" in to_markdown(mean)


def test_markdown_shows_further_figures_where_there_are_any() -> None:
    whole = replace(REPORT, robustness=curve(), open_set={"weighted": open_set()})
    page = to_markdown(whole, ["robustness.png", "open-set.png", "rankings.png"])
    assert "![robustness](robustness.png)" in page
    assert "| 70% | 50.0 | 0.0 | 60.0 | 35.0 |" in page
    assert "- covered by hand" in page
    assert "| by visibility | 5 | 1% |" in page
    assert "By evidence" in page
    assert "![open-set](open-set.png)" in page
    assert "![rankings](rankings.png)" in page


def test_a_rate_that_could_not_be_told_is_a_dash_in_markdown_and_null_in_json(tmp_path: Path) -> None:
    whole = replace(REPORT, open_set={"weighted": open_set()})
    (row,) = [line for line in to_markdown(whole).splitlines() if line.startswith("| by visibility | 10 | 1% |")]
    assert row.endswith("| – | – |")  # the strangers of one half are too few for 1 %
    whole.write_json(tmp_path / "report.json")
    written = json.loads((tmp_path / "report.json").read_text())
    assert written["open_set"]["weighted"]["rows"][2]["held_out_fnir"] is None
    assert list(written) == ["data", "model", "protocol", "rows", "open_set"]


def test_plots_are_written_and_show_more_than_paper(tmp_path: Path) -> None:
    figures_of_both = {"weighted": open_set(), "unweighted": open_set()}
    plot_robustness(curve(), tmp_path / "robustness.png", "title")
    plot_open_set(figures_of_both, tmp_path / "open-set.png", "title")
    for name in ("robustness.png", "open-set.png"):
        image = cv2.imread(str(tmp_path / name))
        assert image.shape[1] > 1000  # two panels
        colours = {tuple(colour) for colour in image.reshape(-1, 3)[::7].tolist()}
        assert len(colours) > 20


def test_a_plot_without_evidence_has_one_panel(tmp_path: Path) -> None:
    plot_open_set({"weighted": replace(open_set(), evidence=())}, tmp_path / "open-set.png", "title")
    assert cv2.imread(str(tmp_path / "open-set.png")).shape[1] < 1000
