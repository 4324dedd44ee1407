from typing import NamedTuple

from kfp import dsl

from unsee_components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def resolve_settings(
    preset: str,
    method: str,
    overrides: list[str],
    config: str,
    seed: int,
    given_benchmark: str,
    code_digest: str,
    methods: list[str] = [],  # noqa: B006 (KFP takes defaults as they are)
) -> NamedTuple(
    "Sections",
    [
        ("benchmark", str),
        ("vanilla", str),
        ("statistics", str),
        ("prune", str),
        ("unlearn", str),
        ("evaluation", str),
        ("relearn", str),
        ("sections", dict),
        ("of_seed", str),
        ("of_method", str),
    ],
):
    """Turn preset, config and overrides into one JSON section per step, so that each step depends on its own only.

    Args:
        preset: Name of a preset.
        method: Unlearning method, which settings of its own may follow, as in "vkd unlearn.beta=0.3"; empty: the first
            of `methods`, for what all of them share.
        overrides: Assignments such as "unlearn.beta=0.3"; they win over config and preset.
        config: YAML text of the preset's shape; it wins over the preset. Empty: none.
        seed: Seed of everything random that has no seed of its own.
        given_benchmark: Benchmark directory; empty: the preset's own.
        code_digest: Identity of code and library versions: part of the cache key, not read.
        methods: Methods of a comparison.

    Returns:
        benchmark: JSON of what is generated or imported; empty when a benchmark is given.
        vanilla: JSON of how vanilla and retrained are trained.
        statistics: JSON of how statistics are collected.
        prune: JSON of which neurons are removed.
        unlearn: JSON of the unlearning method.
        evaluation: JSON of how answers are scored.
        relearn: JSON of the relearning attack.
        sections: All of these that are used, by name.
        of_seed: Label of steps that a comparison takes once for each seed.
        of_method: Label of steps that it takes for each method and seed.
    """
    from unsee.steps import resolve_settings
    from unsee.steps.component import failures_told

    chosen = method or methods[0]
    with failures_told("resolve-settings"):
        sections = resolve_settings.run(preset, overrides, config, chosen, seed, given_benchmark)
    names = ("benchmark", "vanilla", "statistics", "prune", "unlearn", "evaluation", "relearn")
    return (*(sections.get(name, "") for name in names), sections, f", seed {seed}", f" {chosen}, seed {seed}")
