from kfp import dsl
from kfp.dsl import Dataset, Metrics, Output

from unsee_components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def prepare_benchmark(
    settings: str,
    source: str,
    source_digest: str,
    code_digest: str,
    benchmark: Output[Dataset],
    metrics: Output[Metrics],
    label: str = "",
):
    """Take over a given benchmark, import a published one, or generate the embedded one.

    Args:
        settings: JSON of the `benchmark` settings; empty when a source is given.
        source: Benchmark to take over, a directory or an address (s3://…); empty: what the settings say.
        source_digest: Digest of the source's manifest: part of the cache key, not read.
        code_digest: Identity of code and library versions: part of the cache key, not read.
        label: End of the name of its MLflow run, by which a comparison tells steps apart; empty: none.

    Returns:
        benchmark: The benchmark directory: questions.parquet, images/ and manifest.json.
        metrics: Counts of people, images and questions.
    """
    from unsee.sections import BENCHMARK
    from unsee.steps import prepare_benchmark
    from unsee.steps.component import paths, running

    given = source or BENCHMARK.validate_json(settings)
    with running(f"prepare-benchmark{label}", metrics) as step:
        step.show(prepare_benchmark.run(given, **paths(out=benchmark), tracker=step.tracker))
