"""Model versions in MLflow's registry, with their lineage as tags."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from unsee.errors import UserError
from unsee.tracking.text import redacted


@dataclass(frozen=True)
class RegisteredVersion:
    """A model version and how to load it: `uri` is `models:/<name>/<version>`."""

    name: str
    version: str
    source: str
    aliases: tuple[str, ...]

    @property
    def uri(self) -> str:
        """By which MLflow downloads it."""
        return f"models:/{self.name}/{self.version}"


def register_version(
    name: str, source: Path | str, sha256: str, tags: Mapping[str, str], aliases: Sequence[str], run_id: str | None
) -> RegisteredVersion:
    """Register weights as a version of model `name` and point `aliases` at it.

    `source` is a URI the store can reach (s3://…), or a local directory. A database store keeps the directory's
    file:// address; a server refuses that, and then the files become artifacts of run `run_id`. The same bytes at the
    same source are registered once, so a retried step makes no second version; its tags are brought up to date.

    Raises:
        UserError: the server takes no local directory and no run is given to hold the files.
    """
    client = MlflowClient()
    _ensure_registered_model(client, name)
    all_tags = {**{key: redacted(str(value)) for key, value in tags.items()}, "sha256": sha256}
    if isinstance(source, str):
        version = _find_or_create_version(client, name, source, all_tags, run_id)
    else:
        version = _register_directory(client, name, source.resolve(), all_tags, run_id)
    for alias in aliases:
        client.set_registered_model_alias(name, alias, version.version)
    return RegisteredVersion(name, str(version.version), version.source or "", tuple(aliases))


def _ensure_registered_model(client: MlflowClient, name: str) -> None:
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _register_directory(
    client: MlflowClient, name: str, directory: Path, tags: Mapping[str, str], run_id: str | None
) -> ModelVersion:
    try:
        return _find_or_create_version(client, name, directory.as_uri(), tags, run_id)
    except MlflowException as error:
        if error.error_code != "INVALID_PARAMETER_VALUE":
            raise
    if run_id is None:
        raise UserError(
            f"MLFLOW_TRACKING_URI {redacted(client.tracking_uri)} takes no local directory as a model ({directory}); "
            "register from within a run, which can hold the files"
        )
    folder = f"models/{tags['sha256'][:16]}"
    client.log_artifacts(run_id, str(directory), artifact_path=folder)
    uploaded = f"{client.get_run(run_id).info.artifact_uri}/{folder}"
    return _find_or_create_version(client, name, uploaded, tags, run_id)


def _find_or_create_version(
    client: MlflowClient, name: str, source: str, tags: Mapping[str, str], run_id: str | None
) -> ModelVersion:
    for version in client.search_model_versions(f"name = '{name}'"):
        if version.source == source and version.tags.get("sha256") == tags["sha256"]:
            for key in (key for key, value in tags.items() if version.tags.get(key) != value):
                client.set_model_version_tag(name, version.version, key, tags[key])
            return version
    return client.create_model_version(name, source, run_id, tags=dict(tags), await_creation_for=0)
