from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Metrics, Model, Output

from unsee_components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def unlearn(
    settings: str,
    benchmark: Input[Dataset],
    forget: list[str],
    vanilla: Input[Model],
    retrained: Input[Model],
    statistics: Input[Artifact],
    pruning: Input[Artifact],
    code_digest: str,
    model: Output[Model],
    metrics: Output[Metrics],
    label: str = "",
):
    """Make the vanilla model forget (Eq. 3-5 and 11) and store what changed.

    Args:
        settings: JSON of the `unlearn` settings.
        benchmark: Benchmark directory.
        forget: Ids of the people to be forgotten; empty: the benchmark's own forget split.
        vanilla: The model that knows too much.
        retrained: The reference model, for the methods that look at it.
        statistics: What collect-statistics measured.
        pruning: The neurons to remove.
        code_digest: Identity of code and library versions: part of the cache key, not read.
        label: End of the name of its MLflow run, by which a comparison tells steps apart; empty: none.

    Returns:
        model: A delta on the vanilla model, with history.json, mask.json and pruned.json.
        metrics: How the training ended, and what it cost.
    """
    import json

    from unsee.steps import unlearn
    from unsee.steps.component import paths, running
    from unsee.unlearning.method import settings_of

    section = settings_of(json.loads(settings))
    models = paths(model=vanilla, retrained=retrained, out=model)
    inputs = paths(benchmark=benchmark, statistics=statistics, pruning=pruning)
    with running(f"unlearn{label}", metrics) as step:
        step.show(unlearn.run(section, **inputs, **models, forget=forget, tracker=step.tracker))
