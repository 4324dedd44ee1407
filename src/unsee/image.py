"""Which container image this process runs in, and what is in it.

The image holds its software bill of materials and names that file. It cannot know its own digest: whoever starts a
container tells it by which reference, the compiled pipeline on a cluster and `unsee run --runner docker` elsewhere.
"""

import os

REFERENCE = "UNSEE_IMAGE"
BILL_OF_MATERIALS = "UNSEE_SBOM"
TAG = "unsee.image"


def image_reference() -> str | None:
    """The image's reference; None outside of an image."""
    return os.environ.get(REFERENCE) if BILL_OF_MATERIALS in os.environ else None


def log_image() -> None:
    """Tag the pipeline's MLflow run with the image, and attach its bill of materials (CycloneDX).

    Outside of an image, or where nothing is tracked: nothing.
    """
    from mlflow import MlflowClient

    from unsee.tracking.mlflow import parent_run_id

    run_id = parent_run_id()
    if BILL_OF_MATERIALS not in os.environ or run_id is None:
        return
    client = MlflowClient()
    client.set_tag(run_id, TAG, image_reference() or "unknown")
    client.log_artifact(run_id, os.environ[BILL_OF_MATERIALS])
