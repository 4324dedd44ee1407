"""What every task of every DAG gets: resources, retries, a timeout, caching, where servers are, and the run's id."""

import inspect
import sys
import traceback
from dataclasses import dataclass
from types import FrameType
from typing import Any
from unittest.mock import patch

from kfp import kubernetes
from kfp.dsl import PipelineTask

from unsee.image import REFERENCE
from unsee_components import IMAGE

SETTINGS = "unsee"
"""ConfigMap that says where servers are. The chart makes it and both Secrets, or takes existing ones."""
SETTINGS_KEYS = ("UNSEE_STORE", "UNSEE_CHECKPOINTS", "AWS_REGION", "MLFLOW_TRACKING_URI")
OPTIONAL_SETTINGS_KEYS = ("AWS_ENDPOINT_URL",)
"""Absent where S3 is Amazon's own."""
S3_SECRET = "unsee-s3"
S3_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
MLFLOW_SECRET = "unsee-mlflow"
"""Optional: an MLflow server may ask for no password."""
MLFLOW_KEYS = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")

TIMEOUT = 86_400
"""Seconds that one attempt at a step may take. KFP knows it, and the size of shared memory, when compiling only."""
SHARED_MEMORY = "1Gi"


@dataclass(frozen=True)
class Machine:
    """What a step that holds a model runs on: parameters of the pipeline. Quantities are part of the step's cache key.

    Counts are text, too: of a number, KFP's driver would read an empty string.
    """

    cpu: str
    memory: str
    gpus: str
    accelerator: str
    node_selector: dict[str, str]
    tolerations: list[dict[str, Any]]


def _frames() -> list[tuple[FrameType, str, int, str]]:
    """Of inspect.stack(), what KFP reads: the functions' names, at every resource that is set.

    With the source lines that nobody reads, the four pipelines take a minute where torch and transformers are loaded.
    """
    return [(f, f.f_code.co_filename, n, f.f_code.co_name) for f, n in traceback.walk_stack(sys._getframe(1))]


_without_sources = patch.object(inspect, "stack", _frames)


@_without_sources
def light(task: PipelineTask, *, cached: bool = True) -> PipelineTask:
    """A step that reads, writes and computes little. What talks to the outside world is never cached."""
    task.set_cpu_request("500m").set_cpu_limit("2").set_memory_request("1G").set_memory_limit("2G")
    return _dependable(task, cached)


@_without_sources
def heavy(task: PipelineTask, machine: Machine) -> PipelineTask:
    """A step that holds a model."""
    # Else KFP 2.17 leaves these out of the inputs of the loop or exit handler around the step.
    task.register_pipeline_channels([machine.cpu, machine.memory, machine.gpus, machine.accelerator])
    task.set_cpu_request(machine.cpu).set_cpu_limit(machine.cpu)
    task.set_memory_request(machine.memory).set_memory_limit(machine.memory)
    task.set_accelerator_type(machine.accelerator).set_accelerator_limit(machine.gpus)
    kubernetes.add_node_selector_json(task, machine.node_selector)
    kubernetes.add_toleration_json(task, machine.tolerations)
    kubernetes.empty_dir_mount(task, "shared-memory", "/dev/shm", medium="Memory", size_limit=SHARED_MEMORY)
    return _dependable(task, cached=True)


def _dependable(task: PipelineTask, cached: bool) -> PipelineTask:
    """Retries for what passes by itself. In the environment: where servers are, the image's reference, which the image
    cannot know, and the run's id, which as a parameter would defeat caching.
    """
    task.set_retry(num_retries=3, backoff_duration="30s", backoff_factor=2, backoff_max_duration="600s")
    task.set_caching_options(cached)
    task.set_env_variable(REFERENCE, IMAGE)
    kubernetes.set_timeout(task, TIMEOUT)
    kubernetes.use_config_map_as_env(task, SETTINGS, _same(SETTINGS_KEYS))
    kubernetes.use_config_map_as_env(task, SETTINGS, _same(OPTIONAL_SETTINGS_KEYS), optional=True)
    kubernetes.use_secret_as_env(task, S3_SECRET, _same(S3_KEYS))
    kubernetes.use_secret_as_env(task, MLFLOW_SECRET, _same(MLFLOW_KEYS), optional=True)
    return kubernetes.use_field_path_as_env(task, "KFP_RUN_ID", "metadata.labels['pipeline/runid']")


def _same(keys: tuple[str, ...]) -> dict[str, str]:
    """Keys become environment variables of the same name."""
    return {key: key for key in keys}
