"""Looking through what a scenario renders to."""

from conftest import NAMESPACE, Object, Objects

TEAMS = {"multi-user": ["team-a", "team-b"]}


def of_kind(objects: Objects, *kinds: str) -> list[Object]:
    return [each for (kind, _, _), each in objects.items() if kind in kinds]


def workloads(objects: Objects) -> list[Object]:
    return of_kind(objects, "Deployment", "StatefulSet", "Job")


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
