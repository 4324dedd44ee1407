from typing import NamedTuple

from kfp import dsl

from unsee_components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def sweep_candidates(
    method: str,
    parameter: str,
    code_digest: str,
) -> NamedTuple("Candidates", [("methods", list[str])]):
    """Name the candidates of a sweep: a method at each value of a setting.

    Args:
        method: Unlearning method, which settings of its own may follow, as in "vkd unlearn.bound=7".
        parameter: A setting of `prune` or `unlearn`, and its values, as in "unlearn.beta=0,0.3,1".
        code_digest: Identity of code and library versions: part of the cache key, not read.

    Returns:
        methods: As a comparison names them, "vkd unlearn.beta=0.3".
    """
    from unsee.comparison.candidates import sweep
    from unsee.steps.component import failures_told

    with failures_told("sweep-candidates"):
        return (sweep(method, parameter),)
