from __future__ import annotations

import json
import threading

import cv2
import numpy as np
import pytest

from glimpse.people import PARTS
from tests.trainer.pose.networks import painted, toy_bodypix, toy_pixels
from trainer.data.listing import DatasetError, ImageSet
from trainer.pose import AnnotationError, AnnotationStore
from trainer.pose.annotation import annotate
from trainer.pose.images import find_images
from trainer.pose.store import RECORD, annotation_path
from trainer.pose.summary import Summary, summarise


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return toy_bodypix(tmp_path_factory.mktemp("models") / "bodypix.onnx")


@pytest.fixture
def crops(tmp_path):
    """Eleven painted people of different sizes in two folders."""
    folder = tmp_path / "crops"
    for i in range(11):
        path = folder / ("train" if i % 2 else "test") / f"{i:04d}.c1.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), painted(100 + 4 * i, 60)[0][..., ::-1])
    (folder / "notes.txt").write_text("no image")
    return folder


FAST = {"sizes": [224], "mirror": False}


def contents(out):
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def test_every_image_gets_regions_and_joints_at_its_own_size(crops, model, tmp_path):
    images = find_images(str(crops))
    steps = []
    report = annotate(images, "bodypix", model, tmp_path / "out", options=FAST, advance=lambda: steps.append(1))
    assert (report.images, report.annotated, report.present, report.skipped) == (11, 11, 0, {})
    assert len(steps) == 11
    store = AnnotationStore(tmp_path / "out")
    for row, image_id in enumerate(images.ids):
        assert image_id.startswith(("test/", "train/"))
        regions = store.regions(image_id)
        truth = painted(*images.load(row).shape[:2])[1]
        assert regions.shape == truth.shape
        assert (regions == truth).mean() > 0.8
        assert store.people(image_id)[0].layout == "openpose18"
    assert store.record["annotated"] == 11
    assert store.record["complete"] is True
    assert store.record["seen"] == dict.fromkeys(PARTS, 1.0)
    assert "bodypix" in store.describe


def test_summary_counts_what_is_seen_by_hand(tmp_path):
    for name, regions in (("a", np.zeros((10, 10))), ("b/c", np.eye(10) * 1), ("d", np.full((10, 10), 4))):
        path = annotation_path(tmp_path, "regions", f"{name}.jpg")
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), regions.astype(np.uint8))
    people = np.zeros((2, 54))
    people[0, 2:15:3] = 0.9  # five joints
    for name, numbers in (("a", []), ("d", people.tolist())):
        path = annotation_path(tmp_path, "keypoints", f"{name}.jpg")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"people": [{"pose_keypoints_2d": own} for own in numbers]}))
    summary = summarise(tmp_path)
    third = 0.3333
    assert summary == Summary(
        3, {"global": 0.6667, "head": third, "upper": 0, "arms": 0, "legs": third, "feet": 0}, 2.5
    )
    assert str(summary).startswith("found global 67%, head 33%, upper 0%")
    assert summarise(tmp_path / "none") == Summary(0)


def test_threads_change_nothing(crops, model, tmp_path):
    images = find_images(str(crops))
    for workers in (1, 3):
        annotate(images, "bodypix", model, tmp_path / str(workers), options=FAST, workers=workers)
    one, three = contents(tmp_path / "1"), contents(tmp_path / "3")
    assert list(one) == list(three)
    assert len(one) == 23
    assert one == three


def test_second_run_goes_on_where_the_first_stopped(crops, model, tmp_path):
    images = find_images(str(crops))
    out = tmp_path / "out"
    annotate(images, "bodypix", model, out, options=FAST)
    whole = contents(out)
    for kind, image_id in (("regions", images.ids[3]), ("keypoints", images.ids[7])):
        annotation_path(out, kind, image_id).unlink()
    report = annotate(images, "bodypix", model, out, options=FAST)
    assert (report.annotated, report.present) == (2, 9)
    assert contents(out) == whole


def test_interrupted_run_leaves_whole_files_and_a_record(crops, model, tmp_path):
    images = find_images(str(crops))
    out = tmp_path / "out"
    loaded = threading.Event()

    def load(i):
        if i == 9:
            loaded.wait(30)
            raise KeyboardInterrupt
        if i == 8:
            loaded.set()
        return images.load(i)

    breaking = ImageSet(images.ids, images.people, images.cameras, load)
    with pytest.raises(KeyboardInterrupt):
        annotate(breaking, "bodypix", model, out, options=FAST, workers=1)
    assert AnnotationStore(out).record["complete"] is False
    report = annotate(images, "bodypix", model, out, options=FAST)
    assert (report.present, report.annotated) == (8, 3)
    assert AnnotationStore(out).record["complete"] is True


def test_broken_images_are_named_and_do_not_stop_the_others(crops, model, tmp_path):
    (crops / "test" / "0000.c1.png").write_bytes(b"no image")
    broken = crops / "train" / "0001.c1.png"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:100])
    out = tmp_path / "out"
    report = annotate(find_images(str(crops)), "bodypix", model, out, options=FAST)
    assert report.annotated == 9
    assert set(report.skipped) == {"test/0000.c1.png", "train/0001.c1.png"}
    store = AnnotationStore(out)
    assert set(store.record["skipped"]) == set(report.skipped)
    assert store.regions("train/0001.c1.png") is None
    # Mended, it is annotated and no longer listed; the other still is.
    broken.write_bytes(whole)
    report = annotate(find_images(str(crops), "train/*"), "bodypix", model, out, options=FAST)
    assert (report.annotated, report.skipped) == (1, {})
    assert set(AnnotationStore(out).record["skipped"]) == {"test/0000.c1.png"}
    assert AnnotationStore(out).record["annotated"] == 10


def test_folder_made_by_another_model_or_setting_is_refused(crops, model, tmp_path):
    images, out = find_images(str(crops), "train/0001*"), tmp_path / "out"
    annotate(images, "bodypix", model, out, options=FAST)
    other = toy_bodypix(tmp_path / "other.onnx", offsets=(1, 1))
    with pytest.raises(AnnotationError, match=r"made otherwise: model_sha256 .*Choose another --out"):
        annotate(images, "bodypix", other, out, options=FAST)
    with pytest.raises(AnnotationError, match=r"settings .*'threshold': 0\.4.*'threshold': 0\.7"):
        annotate(images, "bodypix", model, out, options={**FAST, "threshold": 0.7})


def test_images_that_would_share_a_file_are_refused(crops, model, tmp_path):
    cv2.imwrite(str(crops / "train" / "0001.c1.jpg"), painted()[0])
    with pytest.raises(AnnotationError, match=r"\['train/0001\.c1\.jpg', 'train/0001\.c1\.png'\] differ"):
        annotate(find_images(str(crops)), "bodypix", model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_parser_writes_its_own_labels_too_and_a_pose_model_no_regions(crops, tmp_path):
    images = find_images(str(crops), "train/0001*")
    lip = toy_pixels(tmp_path / "lip.onnx", {"labels": np.eye(20, 4, dtype=np.float32)}, size=(33, 17))
    annotate(images, "lip20", lip, tmp_path / "lip")
    store = AnnotationStore(tmp_path / "lip")
    assert store.has("labels")
    assert not store.has("keypoints")
    assert store.labels(images.ids[0]).max() <= 19
    assert store.regions(images.ids[0]).shape == store.labels(images.ids[0]).shape
    pose = toy_pixels(tmp_path / "pose.onnx", {"maps": np.ones((17, 4), np.float32)})
    annotate(images, "heatmaps17", pose, tmp_path / "pose")
    store = AnnotationStore(tmp_path / "pose")
    assert not store.has("regions")
    assert store.keypoints(images.ids[0]) is not None
    assert store.regions(images.ids[0]) is None


def test_missing_annotations_are_counted_and_named(crops, model, tmp_path):
    images = find_images(str(crops))
    out = tmp_path / "out"
    annotate(find_images(str(crops), "train/*"), "bodypix", model, out, options=FAST)
    store = AnnotationStore(out)
    coverage = store.coverage(images.ids)
    assert coverage.missing == tuple(image_id for image_id in images.ids if image_id.startswith("test/"))
    assert str(coverage).startswith("regions: 5 of 11 images; missing test/0000.c1.png")
    assert not store.missing["regions"]
    assert store.regions("test/0000.c1.png") is None
    assert store.regions("test/0000.c1.png") is None
    assert store.keypoints("test/0002.c1.png") is None
    assert store.regions("train/0001.c1.png") is not None
    assert store.missing["regions"] == {"test/0000.c1.png": 2}
    assert store.missing["keypoints"] == {"test/0002.c1.png": 1}
    assert str(store.coverage(["train/0001.c1.png"], "keypoints")) == "keypoints: all 1 images"


@pytest.mark.parametrize("kind", ["regions", "keypoints"])
def test_broken_annotation_is_an_error_that_names_it(crops, model, tmp_path, kind):
    out, image_id = tmp_path / "out", "train/0001.c1.png"
    annotate(find_images(str(crops), "train/0001*"), "bodypix", model, out, options=FAST)
    path = annotation_path(out, kind, image_id)
    whole = path.read_bytes()
    for damaged in (b"", whole[:40], whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(AnnotationError, match=r"0001\.c1\."):
            getattr(AnnotationStore(out), kind)(image_id)


def test_region_beyond_is_an_error(crops, model, tmp_path):
    out = tmp_path / "out"
    annotate(find_images(str(crops), "train/0001*"), "bodypix", model, out, options=FAST)
    cv2.imwrite(str(annotation_path(out, "regions", "train/0001.c1.png")), np.full((4, 4), 6, np.uint8))
    with pytest.raises(AnnotationError, match="labels are 0 to 5"):
        AnnotationStore(out).regions("train/0001.c1.png")


def test_image_without_a_person_has_no_key_points_and_is_not_missing(crops, model, tmp_path):
    out = tmp_path / "out"
    annotate(find_images(str(crops), "train/0001*"), "bodypix", model, out, options=FAST)
    path = annotation_path(out, "keypoints", "train/0001.c1.png")
    path.write_text(json.dumps({"people": []}))
    store = AnnotationStore(out)
    assert store.keypoints("train/0001.c1.png") is None
    assert not store.missing["keypoints"]


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        (None, "holds no annotations.json; make one with `glimpse datasets annotate"),
        ("{", "is no JSON"),
        ('{"format": 99}', "format 99; this version reads 1"),
        ('{"format": 1, "writes": ["regions"], "regions": ["a"]}', r"regions \['a'\]; expected \['head'"),
    ],
)
def test_folder_that_is_no_store_is_refused(tmp_path, record, problem):
    if record is not None:
        (tmp_path / RECORD).write_text(record)
    with pytest.raises(AnnotationError, match=problem):
        AnnotationStore(tmp_path)


@pytest.mark.parametrize("image_id", ["../a.jpg", "/etc/a.jpg", "", "a/../../b.jpg"])
def test_image_ids_stay_inside_the_folder(tmp_path, image_id):
    with pytest.raises(AnnotationError, match="no relative path"):
        annotation_path(tmp_path, "regions", image_id)


def test_only_the_last_suffix_is_cut(tmp_path):
    assert annotation_path(tmp_path, "regions", "a/b.c.jpg.jpg") == tmp_path / "regions" / "a" / "b.c.jpg.png"


def test_fingerprint_changes_with_what_was_annotated(crops, model, tmp_path):
    out = tmp_path / "out"
    annotate(find_images(str(crops), "train/0001*"), "bodypix", model, out, options=FAST)
    first = AnnotationStore(out).fingerprint
    assert AnnotationStore(out).fingerprint == first
    annotate(find_images(str(crops), "train/*"), "bodypix", model, out, options=FAST)
    assert AnnotationStore(out).fingerprint != first


def test_data_sets_and_folders_are_found(crops):
    # Without a split every image is query and gallery; it is annotated once.
    assert find_images(f"folder:{crops}", part="test").ids == find_images(str(crops)).ids
    assert find_images(str(crops / "test")).ids[:2] == ("0000.c1.png", "0002.c1.png")


def test_parts_of_a_data_set(tmp_path):
    people = (("bounding_box_train", 2), ("bounding_box_train", 4), ("bounding_box_test", 3), ("query", 3))
    for folder, person in people:
        (tmp_path / folder).mkdir(exist_ok=True)
        for camera in (1, 2):
            name = f"{person:04d}_c{camera}s1_00000{len(folder)}_00.jpg"
            cv2.imwrite(str(tmp_path / folder / name), painted()[0])

    def folders(part):
        ids = find_images(f"market1501:{tmp_path}", part=part).ids
        return sorted({image_id.partition("/")[0] for image_id in ids})

    assert folders(None) == folders("train") == ["bounding_box_train"]
    assert folders("test") == ["bounding_box_test", "query"]


@pytest.mark.parametrize(
    ("data", "match", "part", "problem"),
    [
        ("nothing", "*", None, "neither a folder nor one of the data sets"),
        ("{crops}", "query/*", None, "none of the 11 images"),
        ("{crops}", "*", "train", "a folder has no part 'train'"),
        ("{crops}", "*", "all", "unknown part 'all'; choose from"),
        ("{crops}/empty", "*", None, "holds no images"),
    ],
)
def test_data_that_is_not_there_is_an_error(crops, data, match, part, problem):
    (crops / "empty").mkdir()
    with pytest.raises(DatasetError, match=problem):
        find_images(data.format(crops=crops), match, part)
