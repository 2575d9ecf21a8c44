"""What `deploy/` says about the server is true: its flags, ports, metrics and files exist."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from glimpse.cli.health import health
from server.galleries.database import LOCK
from server.settings import ServerSettings
from server.telemetry import GalleryGauges, Telemetry

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILE = (ROOT / "Dockerfile").read_text()
METRIC = re.compile(r"\b(?:glimpse|process)_[a-z_]+\b")


def documents(name: str) -> list[Any]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Every name that a server's scrape has, with the endings of counters and histograms."""
    telemetry = Telemetry()
    telemetry.watch_disk(tmp_path_factory.mktemp("data"))
    telemetry.watch_galleries(lambda: [GalleryGauges("g", 1, 0, 1, 1.0)])
    telemetry.request("SearchService/Search", "OK", 0.1)
    endings = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}
    return {
        family.name + ending for family in telemetry.registry.collect() for ending in endings.get(family.type, ("",))
    }


def expressions() -> Iterator[tuple[str, str]]:
    """Every PromQL expression with where it stands."""
    for group in documents("prometheus/rules.yaml")[0]["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    for panel in json.loads((DEPLOY / "grafana/dashboards/glimpse.json").read_text())["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


@pytest.mark.parametrize(("where", "expression"), list(expressions()), ids=lambda text: text[:30])
def test_metrics_of_rules_and_dashboard_are_exported(exported: set[str], where: str, expression: str) -> None:
    named = set(METRIC.findall(expression))
    assert named or expression.startswith("up{"), where
    assert named <= exported
    assert expression.count("(") == expression.count(")")
    assert expression.count("{") == expression.count("}")


def test_every_metric_of_ours_is_on_the_dashboard_or_in_a_rule(exported: set[str]) -> None:
    named = {name for _, expression in expressions() for name in METRIC.findall(expression)}
    stems = {re.sub("_(total|bucket|sum|count|created)$", "", name) for name in named}
    ours = {re.sub("_(total|bucket|sum|count)$", "", name) for name in exported if name.startswith("glimpse_")}
    assert ours - stems == set()


@pytest.mark.parametrize("path", sorted(DEPLOY.rglob("*.yaml")), ids=lambda path: path.name)
def test_yaml_can_be_read_and_names_only_files_that_exist(path: Path) -> None:
    text = path.read_text()
    assert all(document is not None for document in yaml.safe_load_all(text))
    for name in re.findall(r"- \./(\S+):/", text):
        assert (path.parent / name).exists(), name


def options_of(arguments: list[str]) -> set[str]:
    return {argument.partition("=")[0] for argument in arguments if argument.startswith("--")}


def setting_names() -> set[str]:
    return {f"--{name.replace('_', '-')}" for name in ServerSettings.model_fields}


def pod() -> Any:
    (stateful,) = [each for each in documents("kubernetes/glimpse.yaml") if each["kind"] == "StatefulSet"]
    return stateful["spec"]["template"]["spec"]


def test_flags_and_variables_of_the_manifests_are_settings() -> None:
    (container,) = pod()["containers"]
    assert container["args"][0] == "serve"
    assert options_of(container["args"]) <= setting_names()
    compose = documents("compose.yaml")[0]["services"]["glimpse"]
    assert options_of(compose["command"]) <= setting_names()
    variables = set(compose["environment"]) | set(re.findall(r"GLIMPSE_[A-Z_]+", DOCKERFILE))
    assert {f"--{name.removeprefix('GLIMPSE_').lower().replace('_', '-')}" for name in variables} <= setting_names()
    given = {
        argument.partition("=")[0][2:].replace("-", "_"): argument.partition("=")[2]
        for argument in container["args"][1:]
    }
    assert ServerSettings(**given).disk_quota == 18 << 30


def test_probes_are_a_command_that_exists() -> None:
    (container,) = pod()["containers"]
    app = typer.Typer()
    app.command()(health)
    known = {name for parameter in typer.main.get_command(app).params for name in parameter.opts}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        command = container[probe]["exec"]["command"]
        assert command[:2] == ["glimpse", "health"]
        assert options_of(command) <= known


def test_ports_are_those_of_the_image() -> None:
    exposed = {int(port) for port in re.search(r"EXPOSE (.+)", DOCKERFILE)[1].split()}  # type: ignore[index]
    assert {int(address.rpartition(":")[2]) for address in re.findall(r"LISTEN=(\S+)", DOCKERFILE)} == exposed
    (container,) = pod()["containers"]
    assert {port["containerPort"] for port in container["ports"]} == exposed
    (policy,) = [each for each in documents("kubernetes/glimpse.yaml") if each["kind"] == "NetworkPolicy"]
    assert {port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]} == exposed
    assert documents("compose.yaml")[0]["services"]["glimpse"]["ports"][0].endswith(":50051")
    assert documents("prometheus/prometheus.yaml")[0]["scrape_configs"][0]["static_configs"][0]["targets"] == [
        "glimpse:9090"
    ]


def test_pod_drains_before_it_is_killed_and_runs_as_nobody_on_a_read_only_disk() -> None:
    spec = pod()
    (container,) = spec["containers"]
    drain = float(next(arg for arg in container["args"] if arg.startswith("--drain-seconds")).partition("=")[2])
    assert spec["terminationGracePeriodSeconds"] > drain + container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert spec["securityContext"]["runAsNonRoot"]
    assert str(spec["securityContext"]["runAsUser"]) in DOCKERFILE
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert {"/data", "/tmp", "/tls"} == mounts
    assert "memory" in container["resources"]["limits"]


def test_one_server_a_data_folder() -> None:
    (stateful,) = [each for each in documents("kubernetes/glimpse.yaml") if each["kind"] == "StatefulSet"]
    assert stateful["spec"]["replicas"] == 1
    assert LOCK  # the server itself refuses a second one
