"""Settings: typed, from flags and environment, unknown keys refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from server.extraction.loading import load_model
from server.settings import (
    DEFAULT_MODEL,
    DRAWN_MODEL,
    MODELS,
    ConfigurationError,
    ServerSettings,
    default_model,
    join_address,
    split_address,
)
from server.transport import is_loopback


def test_flag_wins_over_environment_and_environment_over_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLIMPSE_MAX_BATCH", "4")
    monkeypatch.setenv("GLIMPSE_LISTEN", "127.0.0.1:1")
    settings = ServerSettings(listen="127.0.0.1:2", model=Path("m"))
    assert (settings.listen, settings.max_batch, settings.batch_delay) == ("127.0.0.1:2", 4, 0.0)


def test_variables_that_kubernetes_makes_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLIMPSE_PORT_50051_TCP", "tcp://10.0.0.1:50051")
    assert ServerSettings(model=Path("m")).listen == "127.0.0.1:50051"


def test_unknown_key_is_an_error() -> None:
    with pytest.raises(ValidationError, match="max_bach"):
        ServerSettings(model=Path("m"), max_bach=4)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("key", "value", "match"),
    [
        ("listen", "50051", "expected HOST:PORT"),
        ("listen", "localhost:", "expected HOST:PORT"),
        ("listen", "localhost:70000", "0 to 65535"),
        ("listen", "::1:50051", r"\[address\]:port"),
        ("provider", "rocm", "choose one of auto, cpu, cuda"),
        ("precision", "int4", "choose one of auto, float32, bfloat16, float16, int8"),
        ("max_batch", -1, "greater than or equal to 0"),
        ("tls_cert", "cert.pem", "both tls_cert and tls_key"),
        ("client_ca", "ca.pem", "client_ca needs"),
        ("log_format", "xml", "plain"),
    ],
)
def test_wrong_value_is_refused_in_words(key: str, value: object, match: str) -> None:
    with pytest.raises(ValidationError, match=match):
        ServerSettings(**{"model": Path("m"), key: value})


@pytest.mark.parametrize("address", ["127.0.0.1:50051", "[::1]:0", "example.org:443"])
def test_address_survives_being_taken_apart(address: str) -> None:
    assert join_address(*split_address(address)) == address


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("LOCALHOST", True), ("0.0.0.0", False), ("::", False),
     ("10.0.0.1", False), ("localhost.example.org", False)],
)  # fmt: skip
def test_only_addresses_of_this_machine_are_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_missing_model_is_told_when_it_is_to_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.extraction.loading.default_model", lambda: default_model(tmp_path))
    with pytest.raises(ConfigurationError, match="name the one to serve with --model"):
        load_model(ServerSettings())


def test_default_model_is_the_one_bundle_there_is_or_the_one_of_that_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no bundle in"):
        default_model(tmp_path)
    (tmp_path / "lite").mkdir()
    (tmp_path / "lite" / "manifest.json").touch()
    assert default_model(tmp_path) == tmp_path / "lite"
    (tmp_path / "other.zip").touch()
    with pytest.raises(ConfigurationError, match=r"2 bundles \(lite, other.zip\)"):
        default_model(tmp_path)
    assert default_model(tmp_path, "lite") == tmp_path / "lite"


@pytest.mark.parametrize("name", [DEFAULT_MODEL, DRAWN_MODEL])
def test_the_models_that_come_with_glimpse_are_there(name: str) -> None:
    assert default_model(name=name) == MODELS / name


@pytest.mark.parametrize(
    ("key", "value", "match"),
    [
        ("auth", "mtls", "auth mtls needs client_ca"),
        ("auth", "basic", "token"),
        ("audit", "none", "batched"),
        ("audit_days", -1, "greater than or equal to 0"),
    ],
)
def test_wrong_setting_of_access_is_refused_in_words(key: str, value: object, match: str) -> None:
    with pytest.raises(ValidationError, match=match):
        ServerSettings(**{"model": Path("m"), key: value})
