from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Metrics, Model, Output

from unsee_components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def collect_statistics(
    settings: str,
    benchmark: Input[Dataset],
    forget: list[str],
    model: Input[Model],
    code_digest: str,
    statistics: Output[Artifact],
    metrics: Output[Metrics],
    label: str = "",
):
    """Measure neuron importance (Eq. 6-7) and Fisher information (Eq. 9-10) on the vanilla model.

    Args:
        settings: JSON of the `statistics` settings.
        benchmark: Benchmark directory.
        forget: Ids of the people to be forgotten; empty: the benchmark's own forget split.
        model: The vanilla model.
        code_digest: Identity of code and library versions: part of the cache key, not read.
        label: End of the name of its MLflow run, by which a comparison tells steps apart; empty: none.

    Returns:
        statistics: importance.safetensors, fisher.safetensors and statistics.json; thresholds come later.
        metrics: A summary of the statistics.
    """
    from unsee.sections import StatisticsSettings
    from unsee.steps import collect_statistics
    from unsee.steps.component import paths, running

    section = StatisticsSettings.model_validate_json(settings)
    inputs = paths(benchmark=benchmark, model=model, out=statistics)
    with running(f"collect-statistics{label}", metrics) as step:
        step.show(collect_statistics.run(section, **inputs, forget=forget, tracker=step.tracker))
