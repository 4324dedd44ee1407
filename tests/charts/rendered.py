"""Where the chart is, and looking through what a scenario of its ci/ renders to."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "unsee"
SCENARIOS = sorted(path.name.removesuffix("-values.yaml") for path in (CHART / "ci").iterdir())
NAMESPACE = "unsee"

Object = dict[str, Any]
Objects = dict[tuple[str, str, str], Object]
Helm = Callable[..., subprocess.CompletedProcess[str]]
TEAMS = {"multi-user": ["team-a", "team-b"]}


def of_kind(objects: Objects, *kinds: str) -> list[Object]:
    return [each for (kind, _, _), each in objects.items() if kind in kinds]


def workloads(objects: Objects) -> list[Object]:
    return of_kind(objects, "Deployment", "StatefulSet", "Job")


def job(objects: Objects) -> Object:
    return objects["Job", NAMESPACE, "unsee-pipelines"]["spec"]["template"]["spec"]


def pods(objects: Objects) -> list[Object]:
    return [each["spec"]["template"]["spec"] for each in workloads(objects)]


def containers(pod: Object) -> list[Object]:
    return [*pod.get("initContainers", []), *pod["containers"]]


def all_containers(objects: Objects) -> list[Object]:
    return [container for pod in pods(objects) for container in containers(pod)]


def namespaces(scenario: str) -> list[str]:
    return TEAMS.get(scenario, [NAMESPACE])


def selected(selector: Object, objects: Objects) -> list[Object]:
    """Workloads with these labels on their pods."""
    labels = [(each, each["spec"]["template"]["metadata"]["labels"]) for each in workloads(objects)]
    return [each for each, has in labels if selector.items() <= has.items()]
