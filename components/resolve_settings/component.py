from typing import List, NamedTuple

from kfp import dsl

from unsee_components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def resolve_settings(
    preset: str,
    method: str,
    overrides: List[str],
    config: str,
    seed: int,
    code_digest: str,
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
    ],
):
    """Turn preset, config and overrides into one JSON section per step, so that each step depends on its own only.

    Args:
        preset: Name of a preset.
        method: Unlearning method.
        overrides: Assignments such as "unlearn.beta=0.3"; they win over config and preset.
        config: YAML text of the preset's shape; it wins over the preset. Empty: none.
        seed: Seed of everything random that has no seed of its own.
        code_digest: Identity of code and library versions: part of the cache key, not read.
    """
    from unsee.steps import resolve_settings
    from unsee.steps.component import failures_told

    with failures_told("resolve-settings"):
        sections = resolve_settings.run(preset, overrides, config, method, seed)
    names = ("benchmark", "vanilla", "statistics", "prune", "unlearn", "evaluation", "relearn")
    return tuple(sections[name] for name in names)
