"""What every task of every DAG gets: resources, retries, caching, where servers are, and the run's id."""

from kfp import kubernetes
from kfp.dsl import PipelineTask

SETTINGS = "unsee"
"""ConfigMap that says where servers are. The chart makes it and both Secrets, or takes existing ones."""
STORE_SETTINGS = ("UNSEE_STORE", "UNSEE_CHECKPOINTS", "AWS_ENDPOINT_URL", "AWS_REGION")
MLFLOW_SETTINGS = ("MLFLOW_TRACKING_URI",)
S3_SECRET = "unsee-s3"
S3_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
MLFLOW_SECRET = "unsee-mlflow"
"""Optional: an MLflow server may ask for no password."""
MLFLOW_KEYS = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")


def light(task: PipelineTask, *, cached: bool = True) -> PipelineTask:
    """A step that reads, writes and computes little. What talks to the outside world is never cached."""
    return _dependable(task.set_cpu_request("500m").set_memory_request("1G"), cached)


def heavy(task: PipelineTask) -> PipelineTask:
    """A step that holds a model."""
    return _dependable(task.set_cpu_request("2").set_memory_request("3G"), cached=True)


def _dependable(task: PipelineTask, cached: bool) -> PipelineTask:
    """Retries for what passes by itself, and the run's id as environment: as a parameter it would defeat caching."""
    task.set_retry(num_retries=3, backoff_duration="30s", backoff_factor=2, backoff_max_duration="600s")
    task.set_caching_options(cached)
    return kubernetes.use_field_path_as_env(task, "KFP_RUN_ID", "metadata.labels['pipeline/runid']")
