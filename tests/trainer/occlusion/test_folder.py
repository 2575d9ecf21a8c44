"""`glimpse occlude`: a copy of a folder, its labels and its manifest."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from glimpse.images import decode_image
from trainer.occlusion import SIMULATORS
from trainer.occlusion.coverage import stripe_coverage

Run = Callable[..., Result]


@pytest.fixture
def glimpse(monkeypatch: pytest.MonkeyPatch) -> Run:
    from glimpse.cli import main

    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("TERM", "dumb")
    return lambda *arguments: CliRunner().invoke(main, ["occlude", *map(str, arguments)])


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """Eight images of four people in two folders, in every format; each of a colour of its own."""
    suffixes = (".jpg", ".png", ".bmp", ".webp")
    for i in range(8):
        path = tmp_path / "people" / ("query" if i % 2 else "gallery") / f"{i // 2:04d}_c{i % 2 + 1}{suffixes[i // 2]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full((64, 32, 3), 20 + 30 * i, np.uint8))
    (tmp_path / "people" / "notes.txt").write_text("no image")
    (tmp_path / "people" / ".hidden").mkdir()
    (tmp_path / "people" / ".hidden" / "x.png").write_bytes(b"")
    return tmp_path / "people"


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "labels.jsonl").read_text().splitlines()]


def test_the_copy_has_the_same_tree_and_tells_what_is_hidden(glimpse: Run, people: Path, tmp_path: Path) -> None:
    out, masks = tmp_path / "out", tmp_path / "masks"
    result = glimpse(people, out, "--masks", masks, "--set", "ratio=0.25,0.5", "--seed", "3")
    assert result.exit_code == 0, result.output
    assert "8 images" in result.stdout
    written = {name for name in files(out) if "/" in name}
    assert written == {row["file"] for row in rows(out)}
    assert {name.rpartition(".")[0] for name in written} == {
        name.rpartition(".")[0] for name in files(people) if "_c" in name
    }
    for row in rows(out):
        image, before = (decode_image(path.read_bytes()) for path in (out / row["file"], people / row["source"]))
        mask = cv2.imread(str((masks / row["file"]).with_suffix(".png")), cv2.IMREAD_UNCHANGED)
        covered = mask > 127
        assert set(np.unique(mask)) == {0, 255}
        assert image.shape == before.shape
        assert row["covered"] == pytest.approx(covered.mean(), abs=1e-4)
        assert 0.23 < row["covered"] < 0.53
        assert row["place"] in ("bottom", "top", "left", "right")
        for stripes in (4, 6):
            np.testing.assert_allclose(row[f"stripes{stripes}"], stripe_coverage(covered, stripes), atol=1e-4)
        # Away from the edge, where JPEG rings, the seen part is as it was and the covered part is the donor's.
        donor = decode_image((people / row["other"]).read_bytes())
        kernel = np.ones((17, 17), np.uint8)
        seen, hidden = (cv2.erode(part.astype(np.uint8), kernel).astype(bool) for part in (~covered, covered))
        assert np.abs(image[seen].astype(int) - before[0, 0]).max(initial=0) <= 2
        assert np.abs(image[hidden].astype(int) - donor[0, 0]).max(initial=0) <= 2
        assert Path(row["other"]).name[:4] != Path(row["source"]).name[:4]  # of another person


def test_the_table_says_what_the_lines_say(glimpse: Run, people: Path, tmp_path: Path) -> None:
    glimpse(people, tmp_path / "out")
    with (tmp_path / "out" / "labels.csv").open(newline="") as stream:
        table = list(csv.DictReader(stream))
    assert len(table) == 8
    for line, row in zip(rows(tmp_path / "out"), table, strict=True):
        assert (row["file"], row["source"], row["other"], row["place"]) == (
            line["file"],
            line["source"],
            line["other"],
            line["place"],
        )
        assert [int(row[key]) for key in ("x", "y", "width", "height")] == line["box"]
        assert [float(row[f"stripe6_{i}"]) for i in range(1, 7)] == line["stripes6"]
        assert float(row["covered"]) == line["covered"]


def test_the_same_command_writes_the_same_bytes_and_another_seed_does_not(
    glimpse: Run, people: Path, tmp_path: Path
) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert glimpse(people, tmp_path / name, "--seed", seed).exit_code == 0
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert files(tmp_path / "a")["labels.csv"] != files(tmp_path / "c")["labels.csv"]


def test_an_image_is_hidden_alike_in_a_part_of_the_folder(glimpse: Run, people: Path, tmp_path: Path) -> None:
    glimpse(people, tmp_path / "all", "--simulator", "erasing", "--set", "fill=noise")
    (people / "query" / "0001_c2.png").unlink()
    glimpse(people, tmp_path / "part", "--simulator", "erasing", "--set", "fill=noise")
    whole, part = files(tmp_path / "all"), files(tmp_path / "part")
    images = [name for name in part if "/" in name]
    assert len(images) == 7
    assert all(whole[name] == part[name] for name in images)


def test_the_manifest_tells_how_to_do_it_again(glimpse: Run, people: Path, tmp_path: Path) -> None:
    glimpse(people, tmp_path / "out", "--simulator", "background", "--set", "area=0.1,0.2", "--seed", "5")
    manifest = json.loads((tmp_path / "out" / "occlusion.json").read_text())
    assert (manifest["simulator"], manifest["seed"], manifest["share"]) == ("background", 5, 1.0)
    assert manifest["options"]["area"] == [0.1, 0.2]
    assert manifest["options"]["aspect"] == [0.3, 3.3]  # defaults are written down too
    assert (manifest["images"], manifest["occluded"], manifest["refused"]) == (8, 8, [])
    assert manifest["versions"]["numpy"] == np.__version__
    assert str(tmp_path) not in json.dumps(manifest)


def test_a_share_of_none_copies_every_image_as_it_is(glimpse: Run, people: Path, tmp_path: Path) -> None:
    assert glimpse(people, tmp_path / "out", "--share", "0").exit_code == 0
    before, after = files(people), files(tmp_path / "out")
    for name in ("gallery/0000_c1.jpg", "query/0001_c2.png"):
        assert after[name] == before[name]
    for name in ("gallery/0002_c1", "query/0003_c2"):  # BMP and WebP become PNG, without a loss
        (source,) = (people / name).parent.glob(Path(name).name + ".*")
        np.testing.assert_array_equal(decode_image(after[name + ".png"]), decode_image(source.read_bytes()))
    assert {(row["covered"], row["place"], row["other"]) for row in rows(tmp_path / "out")} == {(0.0, "none", "")}
    assert json.loads((tmp_path / "out" / "occlusion.json").read_text())["occluded"] == 0


def test_a_share_in_between_is_drawn_image_by_image(glimpse: Run, tmp_path: Path) -> None:
    (tmp_path / "many").mkdir()
    for i in range(60):
        cv2.imwrite(str(tmp_path / "many" / f"{i}.png"), np.full((16, 8, 3), i, np.uint8))
    assert glimpse(tmp_path / "many", tmp_path / "out", "--share", "0.5").exit_code == 0
    hidden = [row["covered"] > 0 for row in rows(tmp_path / "out")]
    assert 18 < sum(hidden) < 42


@pytest.mark.parametrize(("form", "suffix", "magic"), [("png", ".png", b"\x89PNG"), ("jpeg", ".jpg", b"\xff\xd8")])
def test_all_copies_can_be_of_one_format(
    glimpse: Run, people: Path, tmp_path: Path, form: str, suffix: str, magic: bytes
) -> None:
    assert glimpse(people, tmp_path / "out", "--format", form).exit_code == 0
    images = {name: data for name, data in files(tmp_path / "out").items() if "/" in name}
    assert len(images) == 8
    assert all(name.endswith(suffix) and data.startswith(magic) for name, data in images.items())


def test_corrupt_images_are_named_and_the_rest_goes_on(glimpse: Run, people: Path, tmp_path: Path) -> None:
    whole = (people / "gallery" / "0000_c1.jpg").read_bytes()
    (people / "gallery" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (people / "gallery" / "empty.png").write_bytes(b"")
    result = glimpse(people, tmp_path / "out")
    assert result.exit_code == 1
    assert "2 could not be read" in result.stderr
    assert "gallery/cut.jpg: this JPEG is not whole" in result.stderr
    assert "gallery/empty.png: the image is empty" in result.stderr
    manifest = json.loads((tmp_path / "out" / "occlusion.json").read_text())
    assert [refusal["file"] for refusal in manifest["refused"]] == ["gallery/cut.jpg", "gallery/empty.png"]
    assert manifest["images"] == len(rows(tmp_path / "out")) == 8
    assert all("cut" not in row["other"] and "empty" not in row["other"] for row in rows(tmp_path / "out"))


def test_occluders_can_come_from_another_folder(glimpse: Run, people: Path, tmp_path: Path) -> None:
    result = glimpse(people / "query", tmp_path / "out", "--others", people / "gallery")
    assert result.exit_code == 0
    assert all(row["other"].endswith(("_c1.jpg", "_c1.png", "_c1.bmp", "_c1.webp")) for row in rows(tmp_path / "out"))


def test_a_single_image_can_be_hidden_only_by_what_needs_no_other(glimpse: Run, people: Path, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "x.png").write_bytes((people / "query" / "0001_c2.png").read_bytes())
    assert glimpse(tmp_path / "one", tmp_path / "a", "--simulator", "library").exit_code == 0
    result = glimpse(tmp_path / "one", tmp_path / "b", "--simulator", "strip")
    assert result.exit_code == 1
    assert "x.png: there is no other readable image" in result.stderr


@pytest.mark.parametrize("simulator", sorted(SIMULATORS))
def test_every_simulator_can_be_used(glimpse: Run, people: Path, tmp_path: Path, simulator: str) -> None:
    result = glimpse(people, tmp_path / "out", "--simulator", simulator)
    assert result.exit_code == 0, result.output
    manifest = json.loads((tmp_path / "out" / "occlusion.json").read_text())
    assert manifest["occluded"] == 8
    assert any(row["covered"] > 0 for row in rows(tmp_path / "out")) == (simulator not in ("amplify", "shrink"))


def test_a_library_of_ones_own_is_pasted(glimpse: Run, people: Path, tmp_path: Path) -> None:
    (tmp_path / "things").mkdir()
    cv2.imwrite(str(tmp_path / "things" / "pole.png"), np.full((60, 10, 3), 255, np.uint8))
    assert glimpse(people, tmp_path / "out", "--simulator", "library", "--library", tmp_path / "things").exit_code == 0
    assert {row["place"] for row in rows(tmp_path / "out")} == {"left", "right"}


def test_nothing_is_overwritten_and_no_folder_swallows_another(glimpse: Run, people: Path, tmp_path: Path) -> None:
    before = files(people)
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "precious.txt").write_text("kept")
    for out, sentence in (
        (tmp_path / "used", "is there already; nothing is overwritten"),
        (people, "is there already"),
        (people / "query" / "new", "lie in each other"),
    ):
        result = glimpse(people, out)
        assert result.exit_code == 1
        assert sentence in result.stderr
    result = glimpse(people, tmp_path / "fresh", "--masks", tmp_path / "fresh" / "masks")
    assert result.exit_code == 1
    assert "lie in each other" in result.stderr
    assert files(people) == before
    assert files(tmp_path / "used") == {"precious.txt": b"kept"}
    assert not (tmp_path / "fresh").exists()


def test_copies_that_would_share_a_name_are_refused(glimpse: Run, people: Path, tmp_path: Path) -> None:
    (people / "query" / "0003_c2.png").write_bytes((people / "query" / "0001_c2.png").read_bytes())
    result = glimpse(people, tmp_path / "out")
    assert result.exit_code == 1
    assert "query/0003_c2.png and query/0003_c2.webp would both be query/0003_c2.png" in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["--simulator", "clouds"], 1, "unknown simulator 'clouds'"),
        (["--set", "ration=1"], 1, "has no option 'ration'"),
        (["--set", "ratio=0.6,0.3"], 1, "two shares in order"),
        (["--set", "ratio"], 2, "expected KEY=VALUE"),
        (["--share", "1.5"], 1, "share must be within [0, 1], got 1.5"),
        (["--seed", "-1"], 1, "seed must be at least 0, got -1"),
        (["--format", "gif"], 2, "gif"),
        (["--simulator", "library", "--library", "nowhere"], 1, "nowhere, which is no folder"),
        (["--others", "nowhere"], 1, "no folder nowhere"),
    ],
)
def test_a_wrong_command_line_is_a_sentence_and_writes_nothing(
    glimpse: Run, people: Path, tmp_path: Path, arguments: list[str], code: int, sentence: str
) -> None:
    result = glimpse(people, tmp_path / "out", *arguments)
    assert result.exit_code == code
    assert sentence in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_folder_without_images_is_a_sentence(glimpse: Run, tmp_path: Path) -> None:
    assert "no folder" in glimpse(tmp_path / "missing", tmp_path / "out").stderr
    (tmp_path / "empty").mkdir()
    assert "holds no images (.bmp, .jpeg" in glimpse(tmp_path / "empty", tmp_path / "out").stderr


def test_the_help_names_every_simulator_and_holds_an_example(glimpse: Run) -> None:
    shown = " ".join(glimpse("--help").stdout.split())
    assert "Example: glimpse occlude" in shown
    for name in SIMULATORS:
        assert name in shown
