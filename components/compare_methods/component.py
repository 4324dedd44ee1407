from kfp import dsl
from kfp.dsl import Artifact, Input, Metrics, Model, Output

from unsee_components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def compare_methods(
    seed: int,
    vanilla_evaluation: Input[Artifact],
    retrained_evaluation: Input[Artifact],
    vanilla_relearning: Input[Artifact],
    retrained_relearning: Input[Artifact],
    models: Input[list[Model]],
    evaluations: Input[list[Artifact]],
    relearnings: Input[list[Artifact]],
    code_digest: str,
    comparison: Output[Artifact],
    metrics: Output[Metrics],
):
    """Gather what was measured of every method with one seed.

    Args:
        seed: The seed of all these models.
        vanilla_evaluation: Scores and predictions of vanilla.
        retrained_evaluation: Scores and predictions of the reference.
        vanilla_relearning: Outcome of the relearning attack on vanilla, a control.
        retrained_relearning: The same on the reference, a control.
        models: The methods' deltas.
        evaluations: The methods' scores and predictions, in the same order.
        relearnings: Outcomes of the relearning attack on the methods' models, in the same order.
        code_digest: Identity of code and library versions: part of the cache key, not read.

    Returns:
        comparison: seed.json and answers.parquet, for compare-report.
        metrics: Each method's distance to the retrained model, and what the people who stay lost.
    """
    from pathlib import Path

    from unsee.steps.compare_methods import Reference, aligned, run
    from unsee.steps.component import paths, running

    vanilla = Reference(**paths(evaluation=vanilla_evaluation, relearning=vanilla_relearning))
    retrained = Reference(**paths(evaluation=retrained_evaluation, relearning=retrained_relearning))
    collected = ([Path(each.path) for each in kind] for kind in (models, evaluations, relearnings))
    references = {"vanilla": vanilla, "retrained": retrained}
    with running(f"compare-methods, seed {seed}", metrics) as step:
        step.show(run(seed, references, aligned(*collected), Path(comparison.path), step.tracker))
