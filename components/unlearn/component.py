from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Metrics, Model, Output

from unsee_components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def unlearn(
    settings: str,
    benchmark: Input[Dataset],
    forget: list[str],
    vanilla: Input[Model],
    statistics: Input[Artifact],
    pruning: Input[Artifact],
    code_digest: str,
    model: Output[Model],
    metrics: Output[Metrics],
):
    """Make the vanilla model forget (Eq. 3-5 and 11) and store what changed.

    Args:
        settings: JSON of the `unlearn` settings.
        benchmark: Benchmark directory.
        forget: Ids of the people to be forgotten; empty: the benchmark's own forget split.
        vanilla: The model that knows too much.
        statistics: What collect-statistics measured.
        pruning: The neurons to remove.
        code_digest: Identity of code and library versions: part of the cache key, not read.

    Returns:
        model: A delta on the vanilla model, with history.json and mask.json.
        metrics: How the training ended.
    """
    from unsee.settings import UnlearnSettings
    from unsee.steps import unlearn
    from unsee.steps.component import paths, running

    section = UnlearnSettings.model_validate_json(settings)
    inputs = paths(benchmark=benchmark, model=vanilla, statistics=statistics, pruning=pruning, out=model)
    with running("unlearn", metrics) as step:
        step.show(unlearn.run(section, **inputs, forget=forget, tracker=step.tracker))
