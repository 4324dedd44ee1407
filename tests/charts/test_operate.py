"""docs/operate.md: its values are rendered, its manifest is valid, and its commands are those of helm and kubectl."""

import re
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from documents import blocks, commands
from rendered import CHART, ROOT, SCENARIOS, Helm

PAGE = (ROOT / "docs" / "operate.md").read_text()
FILES = {text.splitlines()[0].removeprefix("# "): text for text in blocks(PAGE, "yaml")}
RENDERED = [call for call in commands(PAGE, "helm") if call[0] in ("install", "upgrade")]
NOWHERE = ("--server=http://127.0.0.1:9", "--request-timeout=1s")


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A directory with the files that the page has its reader write."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return tmp_path


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


def test_helm_knows_every_option_of_the_other_calls(helm):
    for call in commands(PAGE, "helm"):
        help_ = helm(call[0], "--help").stdout
        assert all(f"{word} " in help_ for word in call if word.startswith("--")), call
