"""What deploys the system speaks of the system there is. Checked offline: no Docker engine, no cluster."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.env_example import settings_classes, text, variables
from earshot.processes import PROCESSES, REINDEXER
from earshot.streams.settings import WorkerSettings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the validator's own imports warn
    import kubernetes_validate

ROOT = Path(__file__).resolve().parents[2]
KUBERNETES = "1.31"
SETTINGS = {name for kind in settings_classes() for name, _, _ in variables(kind)}
ENDS = ("notice_s", "drain_s", "stop_s")
CLIENT_ONLY = {"EARSHOT_URL"}
COMPOSE_ONLY = {"EARSHOT_IMAGE", "EARSHOT_HEAVY_TARGET", "EARSHOT_PORT"}
COMPOSE = yaml.safe_load((ROOT / "docker-compose.kafka.yml").read_text(encoding="utf-8"))
OURS = {name: body for name, body in COMPOSE["services"].items() if "build" in body}
MANIFESTS = sorted(path for path in (ROOT / "deploy/k8s").glob("*.yaml") if path.name != "kustomization.yaml")


def documents() -> list[tuple[str, dict[str, Any]]]:
    return [(path.name, item) for path in MANIFESTS for item in yaml.safe_load_all(path.read_text(encoding="utf-8"))]


def pods() -> list[tuple[str, dict[str, Any]]]:
    return [
        (name, item["spec"]["template"]["spec"]) for name, item in documents() if "template" in item.get("spec", {})
    ]


def test_the_example_env_has_every_setting_with_its_description():
    """A failure says: run ``make docs`` and commit what it wrote."""
    assert (ROOT / ".env.example").read_text(encoding="utf-8") == text()


def test_every_setting_is_listed_once():
    names = [name for kind in settings_classes() for name, _, _ in variables(kind)]
    assert len(names) == len(set(names))


def test_every_setting_is_described():
    assert [name for kind in settings_classes() for name, description, _ in variables(kind) if not description] == []


def test_compose_runs_every_process_of_the_system_and_nothing_else_of_ours():
    assert set(OURS) == {*PROCESSES, "topics", "schemas"}
    for name in PROCESSES:
        assert OURS[name]["command"][:2] == ["worker", name]
    assert OURS["topics"]["command"] == ["topics", "create"]
    assert OURS["schemas"]["command"] == ["schemas", "register"]


def test_every_process_of_compose_waits_for_the_topics_and_keeps_the_same_blobs():
    for name in PROCESSES:
        assert OURS[name]["depends_on"]["topics"] == {"condition": "service_completed_successfully"}, name
        assert "blobs:/data/blobs" in OURS[name]["volumes"], name


def test_compose_has_a_registry_for_whom_wants_one_and_whatever_runs_waits_for_its_schemas_then():
    assert {name for name, body in COMPOSE["services"].items() if body.get("profiles") == ["registry"]} == {
        "registry",
        "schemas",
    }
    for name in PROCESSES:
        wanted = {"condition": "service_completed_successfully", "required": False}
        assert OURS[name]["depends_on"]["schemas"] == wanted, name
        assert OURS[name]["environment"]["EARSHOT_SCHEMA_REGISTRY_URL"] == "${EARSHOT_SCHEMA_REGISTRY_URL:-}", name


def test_compose_waits_only_for_services_that_say_when_they_are_ready():
    for name, body in COMPOSE["services"].items():
        for needed, condition in body.get("depends_on", {}).items():
            if condition["condition"] == "service_healthy":
                assert "healthcheck" in COMPOSE["services"][needed], f"{name} waits for {needed}"


def test_compose_builds_targets_that_the_dockerfile_has():
    dockerfile = (ROOT / "deploy/Dockerfile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^FROM \S+ AS (\S+)$", dockerfile, re.MULTILINE))
    used = {re.sub(r"\$\{\w+:-(\w+)\}", r"\1", body["build"]["target"]) for body in OURS.values()}
    assert used <= targets
    assert {"api", "cpu", "gpu"} <= targets
    for lock in re.findall(r"requirements\S*\.lock", dockerfile):
        assert (ROOT / lock).exists()


def test_images_end_as_an_unprivileged_user():
    stages = (ROOT / "deploy/Dockerfile").read_text(encoding="utf-8").split("\nFROM ")
    for stage in stages:
        if re.search(r"AS (runtime|cpu|gpu)\n", stage):
            assert re.findall(r"^USER (\S+)$", stage, re.MULTILINE)[-1] == "10001:10001"


def test_compose_refuses_to_start_without_a_key_and_publishes_on_loopback_only():
    assert OURS["web"]["environment"]["EARSHOT_API_KEY"].startswith("${EARSHOT_API_KEY:?")
    for name, body in COMPOSE["services"].items():
        for port in body.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name} publishes {port} beyond this machine"


def test_compose_pins_every_foreign_image_by_a_variable_with_a_version():
    for name, body in COMPOSE["services"].items():
        if name not in OURS:
            assert re.fullmatch(r"[\w./-]+:\$\{[A-Z_]+_VERSION:-v?\d[\w.]*\}", body["image"]), body["image"]


@pytest.mark.parametrize(
    "path", ["docker-compose.kafka.yml", "README.md", ".github/workflows/ci.yml", "deploy/k8s/kustomization.yaml"]
)
def test_every_variable_that_is_spoken_of_exists(path):
    spoken = set(re.findall(r"\bEARSHOT_[A-Z_]+[A-Z]\b", (ROOT / path).read_text(encoding="utf-8")))
    assert spoken - SETTINGS - COMPOSE_ONLY - CLIENT_ONLY == set()


def test_kubernetes_runs_every_process_of_the_system():
    assert {item["metadata"]["name"] for _, item in documents() if item["kind"] == "Deployment"} == set(PROCESSES)
    for name, item in documents():
        if item["kind"] == "Deployment":
            (container,) = item["spec"]["template"]["spec"]["containers"]
            assert container["args"][:2] == ["worker", name.removesuffix(".yaml")]


def test_kubernetes_runs_one_relay_as_a_second_would_only_stand_by():
    (relay,) = [item["spec"] for name, item in documents() if name == "relay.yaml" and item["kind"] == "Deployment"]
    assert (relay["replicas"], relay["strategy"]["type"]) == (1, "Recreate")


@pytest.mark.parametrize(("name", "manifest"), documents(), ids=lambda value: value if isinstance(value, str) else "")
def test_a_manifest_is_valid(name, manifest):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the validator uses a deprecated part of jsonschema
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


@pytest.mark.parametrize(("name", "pod"), pods(), ids=lambda value: value if isinstance(value, str) else "")
def test_a_pod_is_unprivileged_and_limited(name, pod):
    assert pod["securityContext"]["runAsNonRoot"] is True
    for container in pod["containers"]:
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"]["memory"]


def ends_within_s(pod: dict[str, Any]) -> float:
    """How long a pod's process may take to end: what is before its signal, and its own deadline."""
    (container,) = pod["containers"]
    (generator,) = yaml.safe_load((ROOT / "deploy/k8s/kustomization.yaml").read_text(encoding="utf-8"))[
        "configMapGenerator"
    ]
    said = dict(literal.split("=", 1) for literal in generator["literals"])
    defaults = WorkerSettings.model_construct()
    own = [float(said.get(f"EARSHOT_WORKER__{name.upper()}", getattr(defaults, name))) for name in ENDS]
    before = container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", ["sleep", "0"])
    return float(before[1]) + sum(own)


def test_nothing_is_killed_before_its_own_deadline_has_passed():
    long_running = [(name, pod) for name, pod in pods() if name != "topics.yaml"]
    assert {name for name, _ in long_running} == {f"{name}.yaml" for name in PROCESSES}
    for name, pod in long_running:
        assert pod["terminationGracePeriodSeconds"] > ends_within_s(pod), name
    defaults = WorkerSettings.model_construct()
    for name in PROCESSES:
        assert float(OURS[name]["stop_grace_period"].removesuffix("s")) > sum(getattr(defaults, each) for each in ENDS)


def test_a_rollout_waits_for_the_new_pod_or_for_the_old_one_and_never_takes_all_away():
    deployments = {item["metadata"]["name"]: item["spec"] for _, item in documents() if item["kind"] == "Deployment"}
    budgets = {
        item["metadata"]["name"]: item["spec"] for _, item in documents() if item["kind"] == "PodDisruptionBudget"
    }
    assert set(budgets) == set(deployments) == set(PROCESSES)
    for name, spec in deployments.items():
        assert budgets[name] == {"maxUnavailable": 1, "selector": spec["selector"]}
        if name != "relay":
            rolling = spec["strategy"]["rollingUpdate"]
            assert sorted(rolling.values()) == [0, 1], name
    assert deployments["web"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert deployments["web"]["replicas"] > 1, "an eviction would leave nobody to take uploads"


def test_the_probes_ask_what_they_are_for():
    """A stage that waits is alive; a door is open while stages are down."""
    for name, pod in pods():
        (container,) = pod["containers"]
        for probe, path in (("startupProbe", "/health/live"), ("livenessProbe", "/health/live")):
            assert probe not in container or container[probe]["httpGet"]["path"] == path, name
        if "readinessProbe" in container:
            asked = container["readinessProbe"]["httpGet"]["path"]
            assert asked == ("/health/ready?stages=false" if name == "web.yaml" else "/health/ready")


@pytest.mark.parametrize("name", [process for process in PROCESSES if process != "relay"])
def test_every_process_with_a_port_is_probed(name):
    (pod,) = [pod for file, pod in pods() if file == f"{name}.yaml"]
    assert {"startupProbe", "livenessProbe", "readinessProbe"} <= set(pod["containers"][0])


def test_the_kustomization_names_every_manifest():
    kustomization = yaml.safe_load((ROOT / "deploy/k8s/kustomization.yaml").read_text(encoding="utf-8"))
    assert set(kustomization["resources"]) == {path.name for path in MANIFESTS}


def test_the_job_that_reindexes_is_the_embedder_under_another_name():
    """Its pod may do what the embedder's may, with the same settings; it is started again only when it fails."""
    (job,) = yaml.safe_load_all((ROOT / "deploy/k8s/jobs/reindexer.yaml").read_text(encoding="utf-8"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the validator uses a deprecated part of jsonschema
        kubernetes_validate.validate(job, KUBERNETES, strict=True)
    (embedder,) = [pod for file, pod in pods() if file == "embedder.yaml"]
    pod = dict(job["spec"]["template"]["spec"])
    assert pod.pop("restartPolicy") == "OnFailure"
    (mine,), (its,) = pod.pop("containers"), embedder["containers"]
    assert pod == {name: value for name, value in embedder.items() if name != "containers"}
    assert mine["args"] == ["worker", REINDEXER]
    for name in ("image", "envFrom", "ports", "resources", "securityContext", "volumeMounts"):
        assert mine[name] == its[name], name


def test_prometheus_looks_at_every_stage_at_its_port():
    scraped = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text(encoding="utf-8"))["scrape_configs"]
    names = {(name, sd["port"]) for job in scraped for sd in job["dns_sd_configs"] for name in sd["names"]}
    ported = {name for name in PROCESSES if "healthcheck" in OURS[name]}
    assert names == {(name, 8080 if name == "web" else 9100) for name in ported}


def test_the_collector_wires_only_parts_it_has():
    collector = yaml.safe_load((ROOT / "deploy/otel/collector.yaml").read_text(encoding="utf-8"))
    for pipeline in collector["service"]["pipelines"].values():
        for kind, names in pipeline.items():
            assert set(names) <= set(collector[kind])


def test_no_lock_file_names_a_host_and_every_requirement_has_a_hash():
    for path in ROOT.glob("requirements*.lock"):
        lock = path.read_text(encoding="utf-8")
        assert "://" not in lock, path.name
        for requirement in re.split(r"\n(?=\S)", lock.strip()):
            assert "--hash=sha256:" in requirement, f"{path.name}: {requirement[:60]}"


def test_the_workflow_runs_the_gate_and_the_smoke_test_that_are_there():
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    steps = [step.get("run", "") for job in workflow["jobs"].values() for step in job["steps"]]
    for script in (".ci/run", "deploy/smoke.sh"):
        assert script in steps
        assert (ROOT / script).stat().st_mode & 0o111, f"{script} is not executable"
