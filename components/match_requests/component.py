from typing import NamedTuple

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Metrics, Output

from unsee_components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def match_requests(
    benchmark: Input[Dataset],
    batch: Output[Artifact],
    metrics: Output[Metrics],
) -> NamedTuple("Matched", [("forget", list), ("people", int)]):
    """Find the people whom the claimed requests are about, and answer those about nobody at once; never cached.

    Args:
        benchmark: Benchmark directory.

    Returns:
        batch: batch.json: the requests to be answered with a model, and their people.
        metrics: Number of people.
        forget: Ids of everybody to be forgotten: the people of these requests and of all earlier ones.
        people: How many they are; 0 if the claimed requests are about nobody.
    """
    from unsee.requests.turn import this_run
    from unsee.steps import match_requests
    from unsee.steps.component import paths, running
    from unsee.storage.transfer import store_root

    with running("match-requests", metrics) as step:
        inputs = paths(benchmark=benchmark, out=batch)
        forget = match_requests.run(store_root(), this_run(), **inputs, tracker=step.tracker)
        step.show({"people": float(len(forget))})
    return (forget, len(forget))
