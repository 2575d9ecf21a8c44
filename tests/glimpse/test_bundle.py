"""The bundle: what is written is read back, and nothing that was changed is."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from glimpse.bundle import (
    BundleError,
    Manifest,
    ModelIdentity,
    SchemaEntry,
    golden_bytes,
    open_bundle,
    utc_now,
    write_bundle,
)
from glimpse.precision import DEFAULTS
from tests.glimpse.features import LOOSE, PEOPLE, random_features

GRAPH = b"an ONNX graph, as far as the bundle cares" * 100
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 32, 16, 3), dtype=np.uint8)
FEATURES = random_features(3)


def _fields(**changes: object) -> dict[str, object]:
    return {
        "name": "tiny",
        "version": "1.2.3",
        "method": "bands",
        "license": "Apache-2.0",
        "preprocessing": {"height": 32, "width": 16},
        "schema": SchemaEntry.of(PEOPLE).model_dump(),
        "opset": 17,
        "provenance": {
            "command": "tests",
            "seed": 0,
            "created_at": utc_now(),
            "training_data": "none",
            "backbone": "none",
        },
        "metrics": {"generated/rank1": 0.75},
        **changes,
    }


def _contents(**changes: bytes) -> dict[str, bytes]:
    contents = {"model.onnx": GRAPH, "golden.npz": golden_bytes(IMAGES, FEATURES)}
    return {**contents, **{name.replace("_", "."): data for name, data in changes.items()}}


@pytest.fixture(params=["tiny", "tiny.zip"], ids=["folder", "zip"])
def target(request, tmp_path) -> Path:
    return tmp_path / "models" / request.param


def _edit(bundle: Path, name: str, change) -> None:
    """Replaces one file of a bundle, folder or zip, behind its back."""
    if bundle.is_dir():
        (bundle / name).write_bytes(change((bundle / name).read_bytes()))
        return
    with zipfile.ZipFile(bundle) as archive:
        members = {member: archive.read(member) for member in archive.namelist()}
    members[name] = change(members[name])
    with zipfile.ZipFile(bundle, "w") as archive:
        for member, data in members.items():
            archive.writestr(member, data)


def _edit_manifest(bundle: Path, change) -> None:
    def rewrite(data: bytes) -> bytes:
        manifest = json.loads(data)
        change(manifest)
        return json.dumps(manifest).encode()

    _edit(bundle, "manifest.json", rewrite)


def test_what_is_written_is_read_back(target):
    written = write_bundle(target, _fields(), _contents())
    opened = open_bundle(str(target))
    assert opened.manifest == written.manifest
    assert opened.graph == GRAPH
    assert opened.schema == PEOPLE
    assert opened.schema.prior == 0.2
    assert opened.preprocessing.height == 32
    assert opened.identity == ModelIdentity("tiny", "1.2.3", hashlib.sha256(GRAPH).hexdigest())
    assert str(opened.identity) == f"tiny 1.2.3 (sha {hashlib.sha256(GRAPH).hexdigest()[:8]})"
    assert opened.manifest.metrics == {"generated/rank1": 0.75}


def test_golden_samples_come_back_bit_for_bit(target):
    golden = write_bundle(target, _fields(), _contents()).golden()
    np.testing.assert_array_equal(golden.images, IMAGES)
    np.testing.assert_array_equal(golden.features.vectors, FEATURES.vectors)
    np.testing.assert_array_equal(golden.features.visibility, FEATURES.visibility)


@pytest.mark.parametrize("name", ["model.onnx", "golden.npz"])
@pytest.mark.parametrize(
    "damage",
    [lambda data: data[:-1], lambda data: bytes([data[0] ^ 1]) + data[1:], lambda data: data + b"\0", lambda data: b""],
    ids=["truncated", "one bit flipped", "one byte more", "emptied"],
)
def test_changed_file_is_refused_by_name(target, name, damage):
    write_bundle(target, _fields(), _contents())
    _edit(target, name, damage)
    with pytest.raises(BundleError, match=f"{name} has SHA-256 .*: the file was changed or truncated"):
        open_bundle(target)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(format_version=2), "bundle format 2 is newer than this Glimpse reads .*; upgrade Glimpse"),
        (lambda m: m.update(format_version="1.0"), "format_version"),
        (lambda m: m.update(extra=1), "extra: Extra inputs are not permitted"),
        (lambda m: m["preprocessing"].update(mean=[0.5]), "preprocessing.mean: Extra inputs are not permitted"),
        (lambda m: m["schema"]["parts"][0].update(colour="red"), "schema.parts.0.colour"),
        (lambda m: m["schema"].update(prior=-1), "prior must be finite and at least 0, got -1"),
        (lambda m: m["schema"].update(parts=[]), "a schema has 1 to 64 parts, got 0"),
        (lambda m: m.pop("license"), "license: Field required"),
        (lambda m: m.update(name="../tiny"), "name: String should match"),
        (lambda m: m.update(version="newest"), "version: String should match"),
        (lambda m: m["files"].pop("golden.npz"), r"files must list \['golden.npz'\]"),
        (lambda m: m["files"].update({"model.onnx": "abc"}), "file 'model.onnx': expected a SHA-256 in hex, got 'abc'"),
        (lambda m: m["golden"].update(min_cosine=1.5), "golden.min_cosine"),
        (
            lambda m: m["precisions"].update(int8=DEFAULTS["int8"].model_dump()),
            "precisions names int8, but files does not list 'model.int8.onnx'",
        ),
        (lambda m: m["precisions"].update(int4=DEFAULTS["int8"].model_dump()), "precisions.int4"),
        (lambda m: m.update(default_precision="int8"), "default_precision is int8, but the bundle has float32"),
    ],
)
def test_wrong_manifest_is_refused_by_what_is_wrong(target, change, message):
    write_bundle(target, _fields(), _contents())
    _edit_manifest(target, change)
    with pytest.raises(BundleError, match=message):
        open_bundle(target)


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "a/b", "..", "a\\b", "", "manifest.json"])
def test_file_name_that_leaves_the_bundle_is_refused(target, name):
    write_bundle(target, _fields(), _contents())
    (target.parent / "secret").write_bytes(b"secret")
    _edit_manifest(target, lambda m: m["files"].update({name: hashlib.sha256(b"secret").hexdigest()}))
    with pytest.raises(BundleError, match="expected a plain name inside the bundle"):
        open_bundle(target)


@pytest.mark.parametrize("data", [b"", b"{", b"[1]", b"\xff\xfe", b"[" * 100_000], ids=lambda data: repr(data[:4]))
def test_manifest_that_is_not_a_json_object_is_refused(target, data):
    write_bundle(target, _fields(), _contents())
    _edit(target, "manifest.json", lambda _: data)
    with pytest.raises(BundleError, match=r"manifest.json (is not JSON|must be an object)"):
        open_bundle(target)


def test_a_bundle_may_hold_a_graph_of_another_precision(target):
    entry = DEFAULTS["int8"].model_copy(update={"kept_in_float": ("stem",)})
    contents = _contents() | {"model.int8.onnx": b"smaller"}
    written = write_bundle(target, _fields(precisions={"int8": entry.model_dump()}, default_precision="int8"), contents)
    assert written.manifest.graphs == ("float32", "int8")
    assert (written.graph_of("float32"), written.graph_of("bfloat16"), written.graph_of("int8")) == (
        GRAPH,
        GRAPH,
        b"smaller",
    )
    assert written.manifest.entry("int8") == entry
    assert written.manifest.entry("float32").golden == written.manifest.golden
    assert written.identity.sha256 == hashlib.sha256(GRAPH).hexdigest()  # galleries stay, whatever runs
    with pytest.raises(BundleError, match="has no float16 graph, only float32, int8; make one with glimpse export"):
        written.graph_of("float16")
    _edit(target, "model.int8.onnx", lambda data: data + b"!")
    with pytest.raises(BundleError, match=r"model\.int8\.onnx has SHA-256"):
        open_bundle(target)


def test_a_bundle_that_cannot_be_written_leaves_the_old_one(target, monkeypatch):
    write_bundle(target, _fields(), _contents())
    with pytest.raises(BundleError, match="default_precision"):
        write_bundle(target, _fields(default_precision="int8"), _contents())

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space left"):
        write_bundle(target, _fields(version="2.0.0"), _contents())
    assert open_bundle(target).manifest.version == "1.2.3"
    assert [path.name for path in target.parent.iterdir() if not path.name.startswith(".")] == [target.name]


def test_symlink_in_a_folder_is_refused(tmp_path):
    bundle = tmp_path / "tiny"
    write_bundle(bundle, _fields(), _contents())
    (tmp_path / "elsewhere").write_bytes(GRAPH)
    (bundle / "model.onnx").unlink()
    (bundle / "model.onnx").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match=r"model\.onnx is missing or not a plain file"):
        open_bundle(bundle)


def test_missing_file_is_refused_by_name(tmp_path):
    write_bundle(tmp_path / "tiny", _fields(), _contents())
    (tmp_path / "tiny" / "golden.npz").unlink()
    with pytest.raises(BundleError, match=r"golden\.npz is missing"):
        open_bundle(tmp_path / "tiny")
    write_bundle(tmp_path / "tiny.zip", _fields(), _contents())
    _edit_manifest(tmp_path / "tiny.zip", lambda m: m["files"].update({"model.int8.onnx": "0" * 64}))
    with pytest.raises(BundleError, match=r"model\.int8\.onnx is missing"):
        open_bundle(tmp_path / "tiny.zip")


@pytest.mark.parametrize("keep", [0.99, 0.5])
def test_zip_cut_short_is_refused(tmp_path, keep):
    whole = write_bundle(tmp_path / "tiny.zip", _fields(), _contents()).source.read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[: int(len(whole) * keep)])
    with pytest.raises(BundleError, match=r"cut.zip: not a bundle: expected a folder or a .zip"):
        open_bundle(tmp_path / "cut.zip")


def test_zip_with_a_flipped_bit_is_refused(tmp_path):
    whole = bytearray(write_bundle(tmp_path / "tiny.zip", _fields(), _contents()).source.read_bytes())
    whole[whole.index(b"model.onnx") + 12] ^= 1
    (tmp_path / "tiny.zip").write_bytes(whole)
    with pytest.raises(BundleError, match=r"model\.onnx"):
        open_bundle(tmp_path / "tiny.zip")


def test_path_that_is_no_bundle_is_refused(tmp_path):
    with pytest.raises(BundleError, match="no such bundle"):
        open_bundle(tmp_path / "nothing")
    with pytest.raises(BundleError, match=r"manifest.json is missing"):
        open_bundle(tmp_path)
    (tmp_path / "model.onnx").write_bytes(GRAPH)
    with pytest.raises(BundleError, match=r"not a bundle: expected a folder or a .zip with a manifest.json"):
        open_bundle(tmp_path / "model.onnx")


def test_existing_bundle_is_replaced(target):
    write_bundle(target, _fields(), _contents())
    write_bundle(target, _fields(version="2.0.0"), _contents(model_onnx=b"another graph"))
    assert open_bundle(target).manifest.version == "2.0.0"
    assert open_bundle(target).graph == b"another graph"
    assert [path.name for path in target.parent.iterdir()] == [target.name]  # nothing half-written is left


def test_target_that_is_not_a_bundle_is_never_overwritten(tmp_path):
    folder = tmp_path / "holiday"
    folder.mkdir()
    (folder / "beach.jpg").write_bytes(b"precious")
    file = tmp_path / "letter.zip"
    file.write_bytes(b"dear diary")
    for path in (folder, file):
        with pytest.raises(BundleError, match="exists and is not a bundle; refusing to replace it"):
            write_bundle(path, _fields(), _contents())
    assert (folder / "beach.jpg").read_bytes() == b"precious"
    assert file.read_bytes() == b"dear diary"


def test_empty_folder_may_become_a_bundle(tmp_path):
    (tmp_path / "tiny").mkdir()
    assert write_bundle(tmp_path / "tiny", _fields(), _contents()).graph == GRAPH


def test_wrong_fields_are_refused_before_anything_is_written(target):
    with pytest.raises(BundleError, match="opset: Input should be greater than or equal to 13"):
        write_bundle(target, _fields(opset=9), _contents())
    with pytest.raises(BundleError, match=r"files must list \['golden.npz'\]"):
        write_bundle(target, _fields(), {"model.onnx": GRAPH})
    assert not target.parent.exists()


@pytest.mark.parametrize(
    ("golden", "message"),
    [
        (b"not an archive", "golden.npz cannot be read"),
        (
            golden_bytes(IMAGES[:, :16], FEATURES),
            r"golden images must be uint8 \(N, 32, 16, 3\), got uint8 \(3, 16, 16, 3\)",
        ),
        (golden_bytes(IMAGES[:0], FEATURES[:0]), r"got uint8 \(0, 32, 16, 3\)"),
        (golden_bytes(IMAGES[:2], FEATURES), "2 golden images but 3 feature rows"),
        (golden_bytes(IMAGES, random_features(3, LOOSE)), "golden features are wrong: vectors must have shape"),
    ],
    ids=["garbage", "another size", "none", "another count", "another schema"],
)
def test_golden_samples_that_do_not_fit_the_manifest_are_refused(tmp_path, golden, message):
    bundle = write_bundle(tmp_path / "tiny", _fields(), _contents(golden_npz=golden))
    with pytest.raises(BundleError, match=message):
        bundle.golden()


def test_golden_samples_are_never_unpickled(tmp_path):
    buffer = io.BytesIO()
    np.savez(buffer, images=np.array([{"a": 1}], object), vectors=np.zeros(1), visibility=np.zeros(1))
    bundle = write_bundle(tmp_path / "tiny", _fields(), _contents(golden_npz=buffer.getvalue()))
    with pytest.raises(BundleError, match="cannot be read"):
        bundle.golden()


def test_manifest_survives_its_json_form():
    manifest = Manifest.model_validate({**_fields(), "files": {"model.onnx": "0" * 64, "golden.npz": "1" * 64}})
    again = Manifest.model_validate_json(manifest.model_dump_json(by_alias=True))
    assert again == manifest
    assert json.loads(manifest.model_dump_json(by_alias=True))["schema"]["parts"][0]["name"] == "global"
