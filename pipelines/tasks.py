"""What every task of every DAG gets: resources, retries, caching, and the run's id."""

from kfp import kubernetes
from kfp.dsl import PipelineTask

from unsee.image import REFERENCE
from unsee_components import IMAGE


def light(task: PipelineTask, *, cached: bool = True) -> PipelineTask:
    """A step that reads, writes and computes little. What talks to the outside world is never cached."""
    return _dependable(task.set_cpu_request("500m").set_memory_request("1G"), cached)


def heavy(task: PipelineTask) -> PipelineTask:
    """A step that holds a model."""
    return _dependable(task.set_cpu_request("2").set_memory_request("3G"), cached=True)


def _dependable(task: PipelineTask, cached: bool) -> PipelineTask:
    """Retries for what passes by itself, and as environment the run's id, which as a parameter would defeat caching,
    and the image's reference, which the image itself cannot know.
    """
    task.set_retry(num_retries=3, backoff_duration="30s", backoff_factor=2, backoff_max_duration="600s")
    task.set_caching_options(cached)
    task.set_env_variable(REFERENCE, IMAGE)
    return kubernetes.use_field_path_as_env(task, "KFP_RUN_ID", "metadata.labels['pipeline/runid']")
