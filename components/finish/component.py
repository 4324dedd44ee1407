from kfp import dsl
from kfp.dsl import PipelineTaskFinalStatus

from unsee_components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def finish(
    status: PipelineTaskFinalStatus,
):
    """Close the MLflow run of the pipeline run as that ended, unless KFP's MLflow plugin does it.

    Args:
        status: How the pipeline ended, filled in by KFP.
    """
    from unsee.tracking.mlflow import finish_tagged_parent

    finish_tagged_parent(succeeded=status.state == "SUCCEEDED")
