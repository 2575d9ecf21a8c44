"""From the first second to the last: starting, health, draining, ports, TLS."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import StatusCode
from grpc_health.v1 import health_pb2
from prometheus_client.parser import text_string_to_metric_families

from glimpse.bundle import BundleError
from glimpse.runtime import Session
from protos.glimpse.v1 import admin_pb2, gallery_pb2, search_pb2, search_pb2_grpc
from server.application import SERVICES
from server.extraction.loading import load_model
from server.galleries.database import StoreError
from server.security.credentials import AccessFile
from server.security.roles import Role
from server.settings import ConfigurationError, ServerSettings
from tests.bundles import encoded, person, tiny_bundle
from tests.server.certificates import make_certificate
from tests.server.held import HeldSession
from tests.server.running import Running, until

REPOSITORY = Path(__file__).resolve().parents[2]
SERVE = """
import sys
from server.application import serve
from server.settings import ServerSettings
sys.exit(serve(ServerSettings()))
"""


def test_starting_server_is_not_serving_and_says_so(tmp_path: Path, model: Path) -> None:
    loading, go_on = threading.Event(), threading.Event()

    def slow(settings: ServerSettings) -> Session:
        loading.set()
        assert go_on.wait(60)
        return load_model(settings)

    with Running(tmp_path / "data", model, open_model=slow, wait=False) as running:
        assert loading.wait(60)
        assert running.status() == "NOT_SERVING"
        assert {running.status(service) for service in SERVICES} == {"NOT_SERVING"}
        with pytest.raises(grpc.RpcError, match="the server is starting") as error:
            running.admin.GetModel(admin_pb2.GetModelRequest())
        assert error.value.code() == StatusCode.UNAVAILABLE  # type: ignore[attr-defined]
        watch = running.health.Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        go_on.set()
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        watch.cancel()
        assert {running.status(service) for service in SERVICES} == {"SERVING"}
        assert running.admin.GetModel(admin_pb2.GetModelRequest()).name == "tiny"


def test_health_knows_its_services_and_no_others(server: Running) -> None:
    assert {server.status(service) for service in ("", *SERVICES)} == {"SERVING"}
    with pytest.raises(grpc.RpcError) as error:
        server.status("glimpse.v1.Nothing")
    assert error.value.code() == StatusCode.NOT_FOUND  # type: ignore[attr-defined]


def test_drain_answers_what_was_accepted_and_ends_streams_politely(tmp_path: Path, model: Path) -> None:
    held = HeldSession()
    with Running(tmp_path / "data", model, open_model=held.open) as running:
        running.gallery("crowd")
        running.crowd("crowd", 2)
        watch = running.health.Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        held.gate.clear()
        held.sizes.clear()
        query = search_pb2.SearchRequest(gallery="crowd", query_image=encoded(person(1)))
        unary = running.search.Search.future(query)
        hold_open = threading.Event()

        def requests() -> Iterator[search_pb2.SearchRequest]:
            yield query
            hold_open.wait(60)

        stream = running.search.SearchStream(requests())
        until(lambda: running.application.floor.batcher.depth + sum(held.sizes) == 2)
        stopping = threading.Thread(target=running.stop)
        stopping.start()
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        held.gate.set()
        assert unary.result(60).matches[0].person_id == "1"
        assert next(stream).matches[0].person_id == "1"
        with pytest.raises(grpc.RpcError, match="send the rest to another one") as error:
            next(stream)
        assert error.value.code() == StatusCode.UNAVAILABLE  # type: ignore[attr-defined]
        hold_open.set()
        stopping.join(60)
        assert not stopping.is_alive()


class Process:
    """A server in its own process, told what to do by its environment."""

    def __init__(self, **settings: Any) -> None:
        variables = {"listen": "127.0.0.1:0", "metrics_listen": "127.0.0.1:0", **settings}
        environment = {f"GLIMPSE_{name.upper()}": str(value) for name, value in variables.items()}
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVE],
            env={**os.environ, **environment},
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ready(self) -> tuple[str, str]:
        """Waits for the ready line; gRPC and metrics addresses."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.fullmatch(r"glimpse is ready on (\S+) \(metrics on (\S+)\)\n", line)
        assert found, line + self.process.communicate()[1]
        return found[1], found[2]


def accepted(metrics: str) -> float:
    """Calls of the server that are answered or being answered."""
    with urllib.request.urlopen(f"http://{metrics}/metrics") as response:
        families = list(text_string_to_metric_families(response.read().decode()))
    names = {"glimpse_inflight", "glimpse_requests_total"}
    return sum(sample.value for family in families for sample in family.samples if sample.name in names)


def test_sigterm_loses_no_accepted_request_and_exits_0(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "slow", work=20)  # some 10 ms an image, so that requests are in flight
    server = Process(data=tmp_path / "data", model=bundle.source, log_format="json", threads=1, max_batch=1)
    address, metrics = server.ready()
    with grpc.insecure_channel(address) as channel:
        search = search_pb2_grpc.SearchServiceStub(channel)
        extract = search_pb2.ExtractRequest(images=[encoded(person(1))] * 4)
        futures = [search.Extract.future(extract) for _ in range(12)]
        until(lambda: accepted(metrics) == 12)
        server.process.send_signal(signal.SIGTERM)
        assert not all(future.done() for future in futures)
        answers = [future.result(60) for future in futures]
    assert all(answer.features.vectors for answer in answers)
    _, errors = server.process.communicate(timeout=60)
    assert server.process.returncode == 0, errors
    calls = [line for line in errors.splitlines() if '"message": "call"' in line]
    assert len(calls) == 12  # one line a call


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"listen": "0.0.0.0:0"}, "refusing to serve plaintext on 0.0.0.0:0"),
        ({"provider": "cuda"}, ".[gpu]"),
        ({"model": "/nowhere/bundle"}, "no such bundle"),
    ],
)
def test_server_that_cannot_start_says_why_in_a_sentence_and_exits_2(
    tmp_path: Path, model: Path, settings: dict[str, str], sentence: str
) -> None:
    if settings.get("provider") == "cuda":
        import onnxruntime

        if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
            settings = {"provider": "openvino"}
            sentence = ".[openvino]"
    server = Process(**{"data": tmp_path / "data", "model": model, **settings})
    output, errors = server.process.communicate(timeout=60)
    assert server.process.returncode == 2
    assert output == ""
    assert sentence in errors
    assert "Traceback" not in errors


def test_port_in_use_is_refused(server: Running, tmp_path: Path, model: Path) -> None:
    with pytest.raises(ConfigurationError, match=f"cannot listen on {re.escape(server.address)}"):
        Running(tmp_path / "data", model, listen=server.address).__enter__()
    with pytest.raises(ConfigurationError, match="cannot serve metrics on"):
        Running(tmp_path / "data", model, metrics_listen=server.application.metrics_address).__enter__()


def test_data_folder_of_a_running_server_is_refused(server: Running, model: Path) -> None:
    with pytest.raises(StoreError):
        Running(server.settings.data, model).__enter__()


def test_broken_bundle_is_refused(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "tiny")
    (bundle.source / "model.onnx").write_bytes(bundle.graph[:-1])
    with pytest.raises(BundleError, match="changed or truncated"):
        Running(tmp_path / "data", bundle.source).__enter__()


def test_retention_is_kept_by_the_upkeep(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    server.gallery("short", retention={"nanos": 1000})
    server.upsert("short", [gallery_pb2.Item(item_id="a", image=encoded(person(1)))])
    monkeypatch.setattr("server.application.UPKEEP_SECONDS", 0.01)
    upkeep = server.run(_started(server))
    short = gallery_pb2.GetGalleryRequest(gallery="short")
    until(lambda: server.galleries.GetGallery(short).items == 0)
    server.loop.call_soon_threadsafe(upkeep.cancel)


async def _started(server: Running) -> Any:
    import asyncio

    return asyncio.create_task(server.application._upkeep())


@pytest.fixture(scope="module")
def pems(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Server certificate and key, the authority, and another authority; PEM files."""
    folder = tmp_path_factory.mktemp("tls")
    authority = make_certificate("Glimpse test authority")
    server = make_certificate("localhost", authority)
    client = make_certificate("a client", authority)
    stranger = make_certificate("a stranger", make_certificate("another authority"))
    expired = make_certificate("an old client", authority, expired=True)
    files = {"authority": authority.certificate, "other_key": stranger.private_key}
    for name, certificate in {"server": server, "client": client, "stranger": stranger, "expired": expired}.items():
        files |= {name: certificate.certificate, f"{name}_key": certificate.private_key}
    paths = {}
    for name, data in files.items():
        paths[name] = folder / f"{name}.pem"
        paths[name].write_bytes(data)
    return paths


def connect(server: Running, pems: dict[str, Path], client: str = "") -> str:
    """Asks for the model's name over TLS, with a client certificate if named."""
    pair = (pems[f"{client}_key"].read_bytes(), pems[client].read_bytes()) if client else (None, None)
    credentials = grpc.ssl_channel_credentials(pems["authority"].read_bytes(), *pair)
    with grpc.secure_channel(f"localhost:{server.application.port}", credentials) as channel:
        get_model = channel.unary_unary(
            "/glimpse.v1.AdminService/GetModel", response_deserializer=admin_pb2.GetModelRequest.FromString
        )
        get_model(b"", timeout=20)
    return "welcome"


def test_plaintext_beyond_loopback_needs_to_be_asked_for(
    tmp_path: Path, model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ConfigurationError, match="give --tls-cert and --tls-key, listen on"):
        Running(tmp_path / "data", model, listen="0.0.0.0:0").__enter__()
    with Running(tmp_path / "data", model, listen="0.0.0.0:0", insecure=True):
        assert "anyone on the way can read" in caplog.text
        assert "anyone who reaches 0.0.0.0:0 may search, change and delete everything" in caplog.text
    AccessFile(tmp_path / "data").create(Role.READER)
    caplog.clear()
    with Running(tmp_path / "data", model, listen="0.0.0.0:0", insecure=True):
        assert "anyone on the way can read" in caplog.text
        assert "may search, change and delete" not in caplog.text


def test_metrics_stay_on_loopback_and_beyond_it_the_log_warns(
    tmp_path: Path, model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert ServerSettings.model_fields["metrics_listen"].default.startswith("127.0.0.1:")
    with Running(tmp_path / "data", model):
        assert "serving metrics" not in caplog.text
    with Running(tmp_path / "data", model, metrics_listen="0.0.0.0:0"):
        assert "serving metrics on 0.0.0.0:0 in plaintext, without credentials" in caplog.text


def test_tls_is_served_beyond_loopback(tmp_path: Path, model: Path, pems: dict[str, Path]) -> None:
    tls = {"tls_cert": pems["server"], "tls_key": pems["server_key"], "listen": "0.0.0.0:0"}
    with Running(tmp_path / "data", model, **tls) as running:
        assert connect(running, pems) == "welcome"
        plain = grpc.insecure_channel(f"127.0.0.1:{running.application.port}")
        with plain, pytest.raises(grpc.RpcError) as error:
            search_pb2_grpc.SearchServiceStub(plain).Extract(search_pb2.ExtractRequest(), timeout=20)
        assert error.value.code() == StatusCode.UNAVAILABLE  # type: ignore[attr-defined]


def test_mutual_tls_lets_in_only_clients_of_the_authority(tmp_path: Path, model: Path, pems: dict[str, Path]) -> None:
    tls = {"tls_cert": pems["server"], "tls_key": pems["server_key"], "client_ca": pems["authority"]}
    with Running(tmp_path / "data", model, **tls) as running:
        assert connect(running, pems, "client") == "welcome"
        for intruder in ("", "stranger", "expired"):
            with pytest.raises(grpc.RpcError) as error:
                connect(running, pems, intruder)
            assert error.value.code() == StatusCode.UNAVAILABLE  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"tls_cert": "server", "tls_key": "other_key"}, "not a matching PEM pair"),
        ({"tls_cert": "server_key", "tls_key": "server_key"}, "not a matching PEM pair"),
        (
            {"tls_cert": "server", "tls_key": "server_key", "client_ca": "client_key"},
            "client_ca holds no PEM certificate",
        ),
        ({"tls_cert": "missing", "tls_key": "server_key"}, "cannot be read: No such file"),
    ],
)
def test_unusable_tls_files_are_refused(
    tmp_path: Path, model: Path, pems: dict[str, Path], files: dict[str, str], sentence: str
) -> None:
    tls = {name: pems.get(which, tmp_path / which) for name, which in files.items()}
    with pytest.raises(ConfigurationError, match=sentence):
        Running(tmp_path / "data", model, **tls).__enter__()
