from kfp import dsl
from kfp.dsl import Artifact, Input, Metrics, Model, Output

from unsee_components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def register(
    preset: str,
    vanilla: Input[Model],
    unlearned: Input[Model],
    summary: Input[Artifact],
    registration: Output[Artifact],
    metrics: Output[Metrics],
):
    """Register vanilla and unlearned weights as MLflow model versions with their lineage and aliases.

    Args:
        preset: Names the registered model.
        vanilla: The model that knew too much.
        unlearned: The delta that makes it forget.
        summary: What report wrote; its facts become tags.

    Returns:
        registration: registration.json: name, version, aliases and source of each model.
        metrics: Number of versions registered.
    """
    from unsee.steps import register
    from unsee.steps.component import paths, running

    inputs = paths(vanilla=vanilla, unlearned=unlearned, summary=summary, out=registration)
    with running("register", metrics) as step:
        shown = register.run(
            preset=preset, **inputs, vanilla_uri=vanilla.uri, unlearned_uri=unlearned.uri, tracker=step.tracker
        )
        step.show(shown)
