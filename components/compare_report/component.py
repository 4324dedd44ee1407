from kfp import dsl
from kfp.dsl import HTML, Artifact, Input, Metrics, Output

from unsee_components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def compare_report(
    seeds: Input[list[Artifact]],
    report: str,
    comparison: Output[Artifact],
    page: Output[HTML],
    metrics: Output[Metrics],
):
    """Compare the methods over all seeds, beside the paper's numbers.

    Args:
        seeds: What compare-methods gathered with each seed.
        report: What the page shows: compare, or the same for candidates of a sweep, a frontier or a search.

    Returns:
        comparison: comparison.json, comparison.csv and a self-contained page; of a search, what was chosen too.
        page: The page once more, shown by the KFP UI.
        metrics: Each method's mean distance to the retrained model, and what the people who stay lost.
    """
    import shutil
    from pathlib import Path

    from unsee.comparison.reports import PAGES
    from unsee.steps import compare_report
    from unsee.steps.component import running

    with running("compare-report", metrics) as step:
        out = Path(comparison.path)
        step.show(compare_report.run([Path(seed.path) for seed in seeds], report, out, step.tracker))
        shutil.copyfile(out / PAGES[report], page.path)
