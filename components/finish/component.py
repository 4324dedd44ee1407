from kfp import dsl
from kfp.dsl import PipelineTaskFinalStatus

from unsee_components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def finish(
    status: PipelineTaskFinalStatus,
    requests: bool = False,
):
    """Close the MLflow parent run as the pipeline ended: FINISHED only when every step succeeded.

    Args:
        status: How the pipeline ended, filled in by KFP.
        requests: Whether the run may have claimed deletion requests: those that it did not answer are open again.
    """
    from unsee.requests import turn
    from unsee.requests.inbox import store_root
    from unsee.tracking.mlflow import finish_parent, parent_run_id

    try:
        if requests:
            turn.end(store_root(), turn.this_run())
    finally:
        run_id = parent_run_id()
        if run_id is not None:
            finish_parent(run_id, succeeded=status.state == "SUCCEEDED")
