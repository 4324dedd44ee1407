from kfp import dsl
from kfp.dsl import PipelineTaskFinalStatus

from unsee_components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def finish(
    status: PipelineTaskFinalStatus,
    requests: bool = False,
):
    """Close the MLflow run of the pipeline run as that ended, unless KFP's plugin does, and say what it ran in.

    Args:
        status: How the pipeline ended, filled in by KFP.
        requests: Whether the run may have claimed deletion requests: those that it did not answer are open again.
    """
    from unsee.image import log_image
    from unsee.requests import turn
    from unsee.storage.transfer import store_root
    from unsee.tracking.mlflow import finish_tagged_parent

    try:
        if requests:
            turn.end(store_root(), turn.this_run())
        log_image()
    finally:
        finish_tagged_parent(succeeded=status.state == "SUCCEEDED")
