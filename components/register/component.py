from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Metrics, Model, Output

from unsee_components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def register(
    forget: list[str],
    benchmark: Input[Dataset],
    vanilla: Input[Model],
    unlearned: Input[Model],
    summary: Input[Artifact],
    registration: Output[Artifact],
    metrics: Output[Metrics],
):
    """Register vanilla and unlearned weights as MLflow model versions with their lineage and aliases.

    Args:
        forget: Ids of the people to be forgotten; empty: the benchmark's own forget split.
        benchmark: Benchmark directory.
        vanilla: The model that knew too much.
        unlearned: The delta that makes it forget.
        summary: What report wrote; its figures become tags.

    Returns:
        registration: registration.json: name, version, aliases and source of each model.
        metrics: Number of versions registered.
    """
    from unsee.steps import register
    from unsee.steps.component import paths, running

    inputs = paths(benchmark=benchmark, vanilla=vanilla, unlearned=unlearned, summary=summary, out=registration)
    with running("register", metrics) as step:
        step.show(register.run(forget, **inputs, tracker=step.tracker))
