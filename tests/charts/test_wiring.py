"""What the chart's objects call each other, and pipelines call them: names, credentials, and who may talk to whom."""

from functools import cache

import pytest
import yaml
from rendered import NAMESPACE, all_containers, containers, job, namespaces, of_kind, selected, workloads

from unsee import __version__
from unsee_pipelines.compile import COMPILED
from unsee_pipelines.tasks import MLFLOW_KEYS, MLFLOW_SECRET, S3_KEYS, S3_SECRET, SETTINGS

KEYS = {"UNSEE_STORE", "UNSEE_CHECKPOINTS", "AWS_ENDPOINT_URL", "AWS_REGION", "MLFLOW_TRACKING_URI"}
GIVEN = {
    "external": {("unsee-s3", key) for key in S3_KEYS} | {("unsee-postgres", "password")},
    "existing-secrets": {("unsee-s3", key) for key in S3_KEYS}
    | {("unsee-mlflow", key) for key in (*MLFLOW_KEYS, "MLFLOW_FLASK_SERVER_SECRET_KEY")},
}
"""Secrets and keys that a scenario leaves to the user."""


def test_secrets_that_are_read_are_made_or_given(scenario, objects):
    references = [
        variable["valueFrom"]["secretKeyRef"]
        for container in all_containers(objects)
        for variable in container["env"]
        if "secretKeyRef" in variable.get("valueFrom", {})
    ]
    made = {
        (name, key)
        for (kind, namespace, name), each in objects.items()
        if (kind, namespace) == ("Secret", NAMESPACE)
        for key in each["data"]
    }
    assert {(each["name"], each["key"]) for each in references} - made == GIVEN.get(scenario, set())


def test_pipelines_find_settings_and_credentials_by_the_names_they_know(scenario, objects):
    for namespace in namespaces(scenario):
        settings = objects["ConfigMap", namespace, SETTINGS]["data"]
        assert settings.keys() == KEYS
        for kind, name, keys in mounted_by_pipelines():
            given = {key for secret, key in GIVEN.get(scenario, set()) if secret == name}
            has = objects.get((kind, namespace, name), {}).get("data", {}).keys() | given
            assert keys <= has or (scenario, name) == ("no-password", MLFLOW_SECRET)
    for (kind, namespace, name), each in objects.items():
        if kind == "Secret" and namespace != NAMESPACE:
            assert each["data"].keys() == set({S3_SECRET: S3_KEYS, MLFLOW_SECRET: MLFLOW_KEYS}[name])


@cache
def mounted_by_pipelines() -> list[tuple[str, str, set[str]]]:
    """Kind, name and keys of what compiled pipelines take their environment from."""
    found = [("Secret", S3_SECRET, set(S3_KEYS)), ("Secret", MLFLOW_SECRET, set(MLFLOW_KEYS))]
    for path in COMPILED.glob("*.yaml"):
        for document in yaml.load_all(path.read_text(), yaml.CSafeLoader):
            platform = document.get("platforms", {}).get("kubernetes", {}).get("deploymentSpec", {})
            for executor in platform.get("executors", {}).values():
                for kind, source, name, key in (
                    ("ConfigMap", "configMapAsEnv", "configMapName", "configMapKey"),
                    ("Secret", "secretAsEnv", "secretName", "secretKey"),
                ):
                    for each in executor.get(source, []):
                        found.append((kind, each[name], {pair[key] for pair in each["keyToEnv"]}))
    return found


def test_kfp_keeps_artifacts_in_the_store_with_the_same_credentials(scenario, render):
    objects = render(scenario, "kfp.createLauncherConfig=true")
    for namespace in namespaces(scenario):
        settings = objects["ConfigMap", namespace, SETTINGS]["data"]
        launcher = objects["ConfigMap", namespace, "kfp-launcher"]["data"]
        provider = yaml.safe_load(launcher["providers"])["s3"]["default"]
        assert launcher["defaultPipelineRoot"].split("/")[:3] == settings["UNSEE_STORE"].split("/")[:3]
        assert (provider["endpoint"], provider["region"]) == (settings["AWS_ENDPOINT_URL"], settings["AWS_REGION"])
        assert provider["disableSSL"] == settings["AWS_ENDPOINT_URL"].startswith("http:")
        assert tuple(provider["credentials"]["secretRef"].values()) == (S3_SECRET, *S3_KEYS)


def test_services_select_pods_that_listen_and_that_a_network_policy_guards(scenario, objects):
    guarded = [each["spec"]["podSelector"]["matchLabels"] for each in of_kind(objects, "NetworkPolicy")]
    assert bool(guarded) == (scenario != "servers-only")
    for service in of_kind(objects, "Service"):
        [workload] = selected(service["spec"]["selector"], objects)
        [container] = workload["spec"]["template"]["spec"]["containers"]
        [port], [listening] = service["spec"]["ports"], container["ports"]
        assert (port["targetPort"], port["port"]) == (listening["name"], listening["containerPort"])
        assert not guarded or [policy for policy in guarded if workload in selected(policy, objects)]
    for each in (*workloads(objects), *of_kind(objects, "PodDisruptionBudget")):
        if "selector" in each["spec"]:
            assert len(selected(each["spec"]["selector"]["matchLabels"], objects)) == 1


def test_only_steps_mlflow_the_job_and_kfps_ui_reach_s3_and_only_at_its_port(render):
    objects = render("multi-user")
    [rule] = objects["NetworkPolicy", NAMESPACE, "unsee-s3"]["spec"]["ingress"]
    steps, mlflow, job, ui = rule["from"]
    assert rule["ports"] == [{"port": 8333}]
    assert steps["namespaceSelector"]["matchExpressions"][0]["values"] == ["team-a", "team-b"]
    assert steps["podSelector"] == {"matchLabels": {"pipelines.kubeflow.org/v2_component": "true"}}
    assert [each["kind"] for each in selected(mlflow["podSelector"]["matchLabels"], objects)] == ["Deployment"]
    assert [each["kind"] for each in selected(job["podSelector"]["matchLabels"], objects)] == ["Job"]
    assert ui["podSelector"] == {"matchLabels": {"app": "ml-pipeline-ui"}}
    assert objects["NetworkPolicy", NAMESPACE, "unsee-s3"]["spec"]["egress"] == []
    [rule] = objects["NetworkPolicy", NAMESPACE, "unsee-mlflow"]["spec"]["ingress"]
    assert rule["from"][0] == steps
    assert rule["from"][1:] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress"}}}]
    assert "ingress" not in objects["NetworkPolicy", NAMESPACE, "unsee-pipelines"]["spec"]


@pytest.mark.parametrize(
    ("policy", "beyond_dns"),
    [("unsee-mlflow", [443, 5432]), ("unsee-pipelines", [443, 8888])],
)
def test_to_external_servers_only_their_ports_are_open(render, policy, beyond_dns):
    rules = render("external")["NetworkPolicy", NAMESPACE, policy]["spec"]["egress"]
    ports = [port["port"] for rule in rules for port in rule["ports"]]
    assert ports == [53, 53, *beyond_dns]


def test_all_namespaces_have_the_same_generated_credentials(render):
    objects = render("multi-user")
    for name, keys in ((S3_SECRET, S3_KEYS), (MLFLOW_SECRET, MLFLOW_KEYS)):
        all_data = [objects["Secret", namespace, name]["data"] for namespace in (NAMESPACE, "team-a", "team-b")]
        assert len({tuple(data[key] for key in keys) for data in all_data}) == 1


def test_the_job_tries_the_store_uploads_the_pipelines_and_makes_the_schedule(render):
    preflight, upload, schedule = containers(job(render("multi-user")))
    environment = {variable["name"]: variable.get("value") for variable in preflight["env"]}
    assert environment.keys() >= KEYS | set(S3_KEYS)
    assert upload["command"] == ["unsee", "pipeline", "upload", "--image", f"unsee:{__version__}"]
    assert schedule["command"][:6] == ["unsee", "pipeline", "schedule", "continual", "--cron", "0 30 1 * * 1-5"]
    assert "seed=1000000" in schedule["command"]
    for container in (upload, schedule):
        assert {variable["name"]: variable["value"] for variable in container["env"]} == {
            "HOME": "/tmp",
            "UNSEE_KFP_HOST": "http://ml-pipeline.kubeflow.svc:8888",
            "UNSEE_KFP_NAMESPACE": "team-a",
            "UNSEE_KFP_TOKEN_FILE": "/var/run/secrets/kfp/token",
        }
        assert {"name": "token", "mountPath": "/var/run/secrets/kfp", "readOnly": True} in container["volumeMounts"]


def test_a_schedule_that_is_not_wanted_is_ended(render):
    *_, schedule = containers(job(render("no-schedule")))
    assert schedule["command"] == ["unsee", "pipeline", "unschedule", "continual"]


def test_in_a_multi_user_kfp_the_job_may_upload_and_schedule_in_its_namespace_and_nothing_else(render):
    objects = render("multi-user")
    assert not of_kind(objects, "ClusterRole", "ClusterRoleBinding")
    [role], [binding] = of_kind(objects, "Role"), of_kind(objects, "RoleBinding")
    assert (role["metadata"]["namespace"], binding["metadata"]["namespace"]) == ("team-a", "team-a")
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "unsee-pipelines", "namespace": NAMESPACE}]
    assert {group for rule in role["rules"] for group in rule["apiGroups"]} == {"pipelines.kubeflow.org"}
    assert not of_kind(render("default"), "Role", "RoleBinding")


def test_mlflows_pages_work_behind_an_ingress(render):
    [server] = render("multi-user")["Deployment", NAMESPACE, "unsee-mlflow"]["spec"]["template"]["spec"]["containers"]
    own = f"unsee-mlflow.{NAMESPACE}.svc:5000"
    assert f"--allowed-hosts={own},localhost:*,127.0.0.1:*,mlflow.example.org" in server["args"]
    assert "--cors-allowed-origins=https://mlflow.example.org" in server["args"]
