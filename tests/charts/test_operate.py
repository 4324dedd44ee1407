"""docs/operate.md: its values are rendered, its manifest is valid, its commands are those of the programs it names, and
what they are about is what the chart makes.
"""

import itertools
import re
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from documents import blocks, commands
from mlflow.cli import cli as mlflow_command
from mlflow.server.auth.routes import UPDATE_USER_PASSWORD
from rendered import CHART, ROOT, SCENARIOS, Helm

from unsee import __version__

PAGE = (ROOT / "docs" / "operate.md").read_text()
FILES = {text.splitlines()[0].removeprefix("# "): text for text in blocks(PAGE, "yaml")}
RENDERED = [call for call in commands(PAGE, "helm") if call[0] in ("install", "upgrade")]
KINDS = ("service", "secret", "statefulset", "deployment", "job", "persistentvolumeclaim")
NOWHERE = ("--server=http://127.0.0.1:9", "--request-timeout=1s")


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A directory with the files that the page has its reader write."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.fixture
def made(helm: Helm, written: Path) -> dict[tuple[str, str], dict]:
    """What the first call of helm makes in the release's namespace, by kind and name, claims of volumes among it."""
    objects = [
        each
        for each in render(helm, RENDERED[0], written, written / "values.yaml")
        if each["metadata"]["namespace"] == "unsee"
    ]
    found = {(each["kind"].lower(), each["metadata"]["name"]): each for each in objects}
    claims = {
        ("persistentvolumeclaim", f"{claim['metadata']['name']}-{name}-0"): claim
        for (kind, name), each in found.items()
        if kind == "statefulset"
        for claim in each["spec"].get("volumeClaimTemplates", [])
    }
    return found | claims


def render(helm: Helm, call: list[str], directory: Path, values: Path) -> list[dict]:
    """What a call of helm would install, `values` in the place of values.yaml."""
    places = {**{name: directory / name for name in FILES}, "values.yaml": values, "charts/unsee": CHART}
    plain = [str(places.get(word, word)) for word in call[1:]]
    done = helm("template", *plain)
    assert done.returncode == 0, done.stderr
    return [each for each in yaml.safe_load_all(done.stdout) if each]


@pytest.mark.parametrize("call", RENDERED, ids=" ".join)
def test_every_call_of_helm_is_rendered_with_the_values_of_the_page(helm, call, written):
    objects = render(helm, call, written, written / "values.yaml")
    assert {each["metadata"]["namespace"] for each in objects} == {"unsee", "kubeflow"}
    [settings] = [each for each in objects if (each["kind"], each["metadata"]["name"]) == ("ConfigMap", "unsee")]
    assert settings["metadata"]["namespace"] == "kubeflow"
    assert settings["data"]["UNSEE_STORE"] == "s3://unsee/artifacts"
    image = yaml.safe_load(FILES["values.yaml"])["image"]
    jobs = [each["spec"]["template"]["spec"] for each in objects if each["kind"] == "Job"]
    assert len(jobs) == ("--no-hooks" not in call)
    for job in jobs:
        assert {each["image"] for each in job["initContainers"]} == {f"{image['repository']}@{image['digest']}"}
        benchmark = yaml.safe_load(FILES["people.yaml"])["kfp"]["schedule"]["parameters"]["benchmark"]
        assert (f"benchmark={benchmark}" in job["containers"][0]["command"]) == ("people.yaml" in call)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_it_is_rendered_with_the_values_of_every_scenario_instead(helm, scenario, written):
    assert render(helm, RENDERED[0], written, CHART / "ci" / f"{scenario}-values.yaml")


def test_scenarios_that_the_page_names_exist():
    named = re.findall(r"\(\.\./charts/unsee/ci/(\S+)-values\.yaml\)", PAGE)
    assert len(named) >= 4
    assert {*named} <= {*SCENARIOS}


def test_the_job_is_the_one_that_is_admitted_to_kfp(helm, written):
    policy = yaml.safe_load(FILES["admit.yaml"])
    kubernetes_validate.validate(policy, "1.34", strict=True)
    [rule] = policy["spec"]["ingress"]
    [peer], [port] = rule["from"], rule["ports"]
    objects = render(helm, RENDERED[0], written, written / "values.yaml")
    [job] = [each for each in objects if each["kind"] == "Job"]
    pod = job["spec"]["template"]
    assert peer["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    assert peer["namespaceSelector"] == {"matchLabels": {"kubernetes.io/metadata.name": job["metadata"]["namespace"]}}
    environment = {each["name"]: each["value"] for each in pod["spec"]["containers"][0]["env"]}
    admitting = policy["spec"]["podSelector"]["matchLabels"]["app"]
    assert environment["UNSEE_KFP_HOST"] == f"http://{admitting}.kubeflow.svc:{port['port']}"


@pytest.mark.parametrize("call", commands(PAGE, "kubectl"), ids=lambda call: " ".join(call)[:80])
def test_kubectl_takes_every_call_as_far_as_it_can_without_a_cluster(kubectl, call, written, monkeypatch):
    monkeypatch.chdir(written)
    before_command = call.index("--") if "--" in call else len(call)
    said = kubectl(*call[:before_command], *NOWHERE, *call[before_command:]).stderr
    assert "127.0.0.1:9" in said, said
    assert "unknown" not in said


def named(call: list[str]) -> set[tuple[str, str]]:
    """The objects of the release that a call of kubectl is about."""
    if call[:2] != ["--namespace", "unsee"]:
        return set()
    pairs = [*(tuple(word.split("/", 1)) for word in call if "/" in word), *itertools.pairwise(call)]
    return {(kind, name) for kind, name in pairs if kind in KINDS and name not in ("generic", "$1")}


def test_what_kubectl_is_told_to_look_at_is_what_the_chart_makes(made):
    calls = [call for call in commands(PAGE, "kubectl") if named(call)]
    assert len(calls) > 15
    for call in calls:
        assert named(call) <= made.keys(), call
        [(kind, name), *_] = named(call)
        if "port-forward" in call:
            assert int(call[-1]) in {port["port"] for port in made[kind, name]["spec"]["ports"]}
        if "--container" in call:
            pod = made[kind, name]["spec"]["template"]["spec"]
            assert call[call.index("--container") + 1] in {container["name"] for container in pod["containers"]}


def test_credentials_that_are_asked_for_are_in_the_chart_s_secrets(made):
    asked = re.findall(r"secret (unsee-\S+) ([A-Z_]+)", PAGE)
    assert len(asked) >= 5
    for secret, key in asked:
        assert key in made["secret", secret]["data"]


def test_files_in_the_pods_lie_where_the_chart_has_them(made):
    servers = {kind: made[kind, name] for kind, name in (("deployment", "unsee-mlflow"), ("statefulset", "unsee-s3"))}
    for server in servers.values():
        [container] = server["spec"]["template"]["spec"]["containers"]
        assert {"/data", "/tmp"} <= {mount["mountPath"] for mount in container["volumeMounts"]}
    assert "sqlite:////data/mlflow.db" in yaml.safe_dump(servers["deployment"])
    assert "-dir=/data" in yaml.safe_dump(servers["statefulset"])


def test_the_machine_s_settings_are_those_of_the_steps(helm, written):
    told = dict(re.findall(r"\b([A-Z_]+)=([^\s$]+)", "".join(blocks(PAGE, "sh"))))
    objects = render(helm, RENDERED[0], written, written / "values.yaml")
    [settings] = [
        each["data"] for each in objects if (each["kind"], each["metadata"]["name"]) == ("ConfigMap", "unsee")
    ]
    assert {name: told[name] for name in ("AWS_REGION", "UNSEE_STORE")}.items() <= settings.items()


def test_values_that_the_text_names_exist():
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    told = re.findall(r"`((?:kfp|seaweedfs|mlflow|image|s3|networkPolicy)\.[A-Za-z.]+)", PAGE)
    assert len(told) >= 2
    for path in told:
        found = values
        for name in path.split("."):
            found = found[name]


def test_mlflow_and_make_know_every_call():
    for call in commands(PAGE, "mlflow"):
        command, rest = mlflow_command, call
        while hasattr(command, "commands"):
            command, rest = command.commands[rest[0]], rest[1:]
        command.make_context(command.name, rest)
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
    assert [{*call} <= {*targets} for call in commands(PAGE, "make")] == [True]
    assert f"docker tag unsee:{__version__} " in PAGE
    assert f"http://localhost:5000{UPDATE_USER_PASSWORD} " in PAGE


def test_helm_knows_every_option_of_the_other_calls(helm):
    for call in commands(PAGE, "helm"):
        help_ = helm(call[0], "--help").stdout
        assert all(f"{word} " in help_ for word in call if word.startswith("--")), call
