from kfp import dsl
from kfp.dsl import HTML, Artifact, Input, Metrics, Output

from unsee_components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def compare_report(
    seeds: Input[list[Artifact]],
    comparison: Output[Artifact],
    page: Output[HTML],
    metrics: Output[Metrics],
):
    """Compare the methods over all seeds, beside the paper's numbers.

    Args:
        seeds: What compare-methods gathered with each seed.

    Returns:
        comparison: comparison.json, comparison.csv and a self-contained report.html.
        page: report.html once more, shown by the KFP UI.
        metrics: Each method's mean distance to the retrained model, and what the people who stay lost.
    """
    import shutil
    from pathlib import Path

    from unsee.steps import compare_report
    from unsee.steps.component import running

    with running("compare-report", metrics) as step:
        step.show(compare_report.run([Path(seed.path) for seed in seeds], Path(comparison.path), step.tracker))
        shutil.copyfile(f"{comparison.path}/report.html", page.path)
