from kfp import dsl
from kfp.dsl import Metrics, Output

from unsee_components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def claim_requests(
    retry: bool,
    metrics: Output[Metrics],
) -> int:
    """Take on the deletion requests that are open in the store that UNSEE_STORE names; never cached.

    Args:
        retry: Whether to take on those that were not honoured, even if there are no others.

    Returns:
        Output: How many requests this run has taken on and not answered.
        metrics: The same.
    """
    from unsee.requests.turn import this_run
    from unsee.steps import claim_requests
    from unsee.steps.component import running
    from unsee.storage.transfer import store_root

    with running("claim-requests", metrics) as step:
        claimed = claim_requests.run(store_root(), this_run(), retry=retry)
        step.show({"claimed_requests": float(claimed)})
    return claimed
