from kfp import dsl
from kfp.dsl import PipelineTaskFinalStatus

from unsee_components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def finish(
    status: PipelineTaskFinalStatus,
):
    """Close the MLflow parent run as the pipeline ended: FINISHED only when every step succeeded. Say what it ran in.

    Args:
        status: How the pipeline ended, filled in by KFP.
    """
    from unsee.image import log_image
    from unsee.tracking.mlflow import finish_parent, parent_run_id

    run_id = parent_run_id()
    if run_id is not None:
        log_image(run_id)
        finish_parent(run_id, succeeded=status.state == "SUCCEEDED")
