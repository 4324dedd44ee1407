from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Input, Metrics, Model, Output

from unsee_components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def report(
    settings: dict,
    forget: list[str],
    benchmark: Input[Dataset],
    vanilla: Input[Model],
    retrained: Input[Model],
    unlearned: Input[Model],
    statistics: Input[Artifact],
    pruning: Input[Artifact],
    vanilla_evaluation: Input[Artifact],
    retrained_evaluation: Input[Artifact],
    unlearned_evaluation: Input[Artifact],
    vanilla_relearning: Input[Artifact],
    retrained_relearning: Input[Artifact],
    unlearned_relearning: Input[Artifact],
    summary: Output[Artifact],
    page: Output[HTML],
    metrics: Output[Metrics],
):
    """Write what a person reads: summary.json and a self-contained report.html.

    Args:
        settings: Every section's JSON by its name.
        forget: Ids of the people to be forgotten; empty: the benchmark's own forget split.
        benchmark: Benchmark directory.
        vanilla: The model that knew too much.
        retrained: The reference that never knew.
        unlearned: The delta that makes vanilla forget.
        statistics: What collect-statistics measured.
        pruning: The neurons removed.
        vanilla_evaluation: Scores and predictions of vanilla.
        retrained_evaluation: Scores and predictions of the reference.
        unlearned_evaluation: Scores and predictions of the unlearned model.
        vanilla_relearning: Outcome of the relearning attack on vanilla, a control.
        retrained_relearning: The same on the reference, a control.
        unlearned_relearning: The same on the unlearned model.

    Returns:
        summary: summary.json and report.html.
        page: report.html once more, shown by the KFP UI.
        metrics: The final figures: unlearned model and relearning gaps.
    """
    import shutil

    from unsee.steps import component, report

    inputs: dict = component.paths(benchmark=benchmark, vanilla=vanilla, retrained=retrained, unlearned=unlearned)
    inputs |= {**component.paths(statistics=statistics, pruning=pruning, out=summary), "benchmark_uri": benchmark.uri}
    scores = {"vanilla": vanilla_evaluation, "retrained": retrained_evaluation, "unlearned": unlearned_evaluation}
    attacks = {"vanilla": vanilla_relearning, "retrained": retrained_relearning, "unlearned": unlearned_relearning}
    measured: dict = {"evaluations": component.paths(**scores), "relearning": component.paths(**attacks)}
    with component.running("report", metrics) as step:
        step.show(report.run(**inputs, **measured, forget=forget, settings=settings, tracker=step.tracker))
        shutil.copyfile(f"{summary.path}/report.html", page.path)
