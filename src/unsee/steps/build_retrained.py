"""Fine-tune the base on everyone except the forget people's portraits: the reference that unlearning imitates."""

from collections.abc import Sequence
from pathlib import Path

from unsee.benchmark.schema import ForgetRequest, load
from unsee.launching import in_processes
from unsee.sections import AnyFinetuning
from unsee.steps.build_vanilla import build
from unsee.tracking import Tracker


@in_processes
def run(
    settings: AnyFinetuning, benchmark: Path, forget: Sequence[str], out: Path, tracker: Tracker
) -> dict[str, float]:
    """Write the retrained model to `out`. Returns its last training losses."""
    request = ForgetRequest.resolve(load(benchmark, verify=False), forget)
    return build(settings, benchmark, request.forget, out, tracker)
