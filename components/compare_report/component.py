from kfp import dsl
from kfp.dsl import HTML, Artifact, Input, Metrics, Output

from unsee_components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def compare_report(
    seeds: Input[list[Artifact]],
    report: str,
    methods: list[str],
    preset: str,
    overrides: list[str],
    config: str,
    comparison: Output[Artifact],
    page: Output[HTML],
    metrics: Output[Metrics],
):
    """Compare the methods over all seeds, beside the paper's numbers.

    Args:
        seeds: What compare-methods gathered with each seed.
        report: What the page shows: compare, or the same for candidates of a sweep, a frontier or a search.
        methods: The methods, each with its own settings, if it has any.
        preset: Name of the settings started from.
        overrides: Settings changed for all methods.
        config: Settings changed, as YAML text of the preset's shape; it says what was searched, too.

    Returns:
        comparison: comparison.json, comparison.csv and a self-contained page; of a search, what was chosen too.
        page: The page once more, shown by the KFP UI.
        metrics: Each method's mean distance to the retrained model, and what the people who stay lost.
    """
    import shutil
    from pathlib import Path

    from unsee.comparison.reports import PAGES
    from unsee.steps import compare_report, resolve_settings
    from unsee.steps.component import running

    with running("compare-report", metrics) as step:
        gathered, out = [Path(seed.path) for seed in seeds], Path(comparison.path)
        searched = resolve_settings.searched(preset, overrides, config, methods)
        step.show(compare_report.run(gathered, report, out, step.tracker, searched))
        shutil.copyfile(out / PAGES[report], page.path)
