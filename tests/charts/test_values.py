"""Values that cannot be meant are refused, with a message that names the value and what is wrong with it."""

import json
import runpy

import jsonschema
import pytest
import yaml
from rendered import CHART, NAMESPACE, ROOT, SCENARIOS

REFUSED = {
    "image.tagg=1": "at '/image': additional properties 'tagg' not allowed",
    "bucket=unsee": "additional properties 'bucket' not allowed",
    "image.digest=sha256:12": "at '/image/digest': 'sha256:12' does not match pattern",
    "image.repository=": "at '/image/repository': '' does not match pattern",
    "mlflow.image.tag=": "at '/mlflow/image/tag': minLength: got 0, want 1",
    "pipelineNamespaces=kubeflow": "at '/pipelineNamespaces': got string, want array",
    "pipelineNamespaces={Team A}": "at '/pipelineNamespaces/0': 'Team A' does not match pattern",
    "s3.endpoint=minio:9000": "at '/s3/endpoint': 'minio:9000' does not match pattern",
    "s3.endpoint=https://example.org/path": "at '/s3/endpoint': 'https://example.org/path' does not match pattern",
    "s3.bucket=s3://unsee": "at '/s3/bucket': 's3://unsee' does not match pattern",
    "s3.accessKey=mine": "at '/s3': additional properties 'accessKey' not allowed",
    "seaweedfs.enabled=maybe": "at '/seaweedfs/enabled': got string, want boolean",
    "seaweedfs.existingSecret=mine": "at '/seaweedfs': additional properties 'existingSecret' not allowed",
    "seaweedfs.persistence.size=lots": "at '/seaweedfs/persistence/size': 'lots' does not match pattern",
    "seaweedfs.persistence.accessMode=ReadOnlyMany": "at '/seaweedfs/persistence/accessMode': value must be one of",
    "seaweedfs.maxUnavailable=2": "at '/seaweedfs/maxUnavailable': maximum: got 2, want 1",
    "seaweedfs.resources.limits.memory=null": "at '/seaweedfs/resources/limits': missing property 'memory'",
    "mlflow.resources.requests=null": "at '/mlflow/resources': missing property 'requests'",
    "mlflow.allowedHosts={*}": "at '/mlflow/allowedHosts/0': '*' does not match pattern",
    "mlflow.allowedHosts={https://mlflow.example.org}": "at '/mlflow/allowedHosts/0': 'https://mlflow",
    "mlflow.basicAuth.password=secret": "at '/mlflow/basicAuth': additional properties 'password' not allowed",
    "mlflow.postgres.port=0": "at '/mlflow/postgres/port': minimum: got 0, want 1",
    "mlflow.postgres.user=me:secret": "at '/mlflow/postgres/user': 'me:secret' does not match pattern",
    "mlflow.postgres.sslMode=perhaps": "at '/mlflow/postgres/sslMode': value must be one of 'require', 'disable'",
    "kfp.host=ml-pipeline:8888": "at '/kfp/host': 'ml-pipeline:8888' does not match pattern",
    "kfp.schedule.cron=0 2 * * *": "at '/kfp/schedule/cron': '0 2 * * *' does not match pattern",
    "kfp.schedule.parameters={seed=1}": "at '/kfp/schedule/parameters': got array, want object",
    "networkPolicy.mlflowClients={all}": "at '/networkPolicy/mlflowClients/0': got string, want object",
    # What the schema cannot say.
    "s3.endpoint=https://s3.example.org": "set seaweedfs.enabled=false to use the external store",
    "seaweedfs.enabled=false": "seaweedfs.enabled is false, and s3.endpoint is empty: say where the external store is",
    "mlflow.postgres.host=postgres": "mlflow.postgres.existingSecret is empty: name the Secret",
    "kfp.namespace=team-a": "kfp.namespace is team-a, which gets no settings and credentials: add it to pipeline",
}


@pytest.mark.parametrize("setting", REFUSED)
def test_a_value_that_cannot_be_meant_is_refused_by_name(helm, setting):
    done = helm("template", "unsee", CHART, "--set", setting)
    assert done.returncode != 0
    assert REFUSED[setting] in done.stderr


def test_an_old_kubernetes_is_refused(helm):
    done = helm("template", "unsee", CHART, "--kube-version", "1.29")
    assert done.returncode != 0
    assert "requires kubeVersion: >=1.30.0-0" in done.stderr


def test_the_schema_is_one_and_knows_every_value():
    schema = json.loads((CHART / "values.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    validator = jsonschema.Draft202012Validator(schema)
    assert list(validator.iter_errors(values)) == []
    assert list(validator.iter_errors({**values, "unheard": "of"}))


@pytest.fixture(scope="module")
def generator():
    return runpy.run_path(str(ROOT / "charts" / "readme.py"))


def test_the_readme_is_that_of_the_values(generator):
    assert generator["readme"](CHART) == (CHART / "README.md").read_text(), "run make readme"


def test_the_readme_tells_of_every_value(generator):
    told = {name for name, _, _ in generator["described"](CHART / "values.yaml")}

    def untold(values, prefix=""):
        for key, value in values.items():
            name = f"{prefix}{key}"
            if name not in told:
                yield from untold(value, f"{name}.") if isinstance(value, dict) and value else [name]

    assert not list(untold(yaml.safe_load((CHART / "values.yaml").read_text())))


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_notes_end_with_the_next_command(helm, scenario):
    values = ["--values", CHART / "ci" / f"{scenario}-values.yaml"]
    done = helm("install", "unsee", CHART, "--namespace", NAMESPACE, "--dry-run=client", *values)
    assert done.returncode == 0, done.stderr
    notes = done.stdout.partition("NOTES:")[2]
    where = " --namespace team-a" if scenario == "multi-user" else ""
    assert f"    unsee pipeline submit unlearn{where}\n" in notes
    assert ("    unsee pipeline upload --image" in notes) == (scenario == "servers-only")
    assert ("get secret unsee-mlflow" in notes) == (scenario != "no-password")
    assert ("unsee pipeline unschedule continual" in notes) == (scenario not in ("no-schedule", "servers-only"))
