"""Step claim_requests: take on the deletion requests that are open."""

from unsee.errors import UserError
from unsee.requests import turn
from unsee.tracking.mlflow import is_configured


def run(root: str, run_id: str, *, retry: bool) -> int:
    """How many requests this run has taken on and not answered; claiming again gives the same ones.

    Args:
        root: the store. retry: take on those that were not honoured, even if there are no others.

    Raises:
        UserError: there are open requests, but it is another run's turn; or nothing is tracked, so that no model could
            become the champion.
    """
    claimed = turn.claim(root, run_id, retry=retry)
    if claimed and not is_configured():
        turn.end(root, run_id)
        raise UserError("MLFLOW_TRACKING_URI is not set, so that no model can become the champion; set it")
    return len(claimed)
