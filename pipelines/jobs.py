"""What `unsee run` and `unsee compare` ask for, checked before anything runs, as jobs for the local engine."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from unsee.benchmark import embedded, schema
from unsee.code import code_digest, directory_digest
from unsee.settings import EMBEDDED, Settings, load_settings, variants
from unsee.storage import artifact
from unsee.unlearning.method import names as method_names
from unsee_pipelines.compare import comparison
from unsee_pipelines.local import Job
from unsee_pipelines.unlearn import unlearning

STEPS_OF_A_SEED = 10
STEPS_OF_A_METHOD = 5


@dataclass(frozen=True)
class Request:
    """What was asked for, whatever the DAG."""

    preset: str = "embedded"
    config: Path | None = None
    assignments: tuple[str, ...] = ()
    benchmark: Path | None = None
    forget: tuple[str, ...] = ()

    def settings(self, method: str, seed: int, assignments: Sequence[str] = ()) -> Settings:
        """Raises UserError for whatever is wrong with them."""
        return load_settings(
            self.preset,
            config=self.config,
            assignments=[*self.assignments, *assignments],
            method=method,
            seed=seed,
            benchmark="" if self.benchmark is None else str(self.benchmark),
        )

    def arguments(self, settings: Settings) -> dict[str, Any]:
        """The arguments that all DAGs have.

        Raises:
            UserError: damaged benchmark, or people who are not in it or cannot be forgotten.
        """
        benchmark, digest = "", ""
        if self.benchmark is None:
            schema.ForgetRequest.resolve(embedded.outline(settings.benchmark), self.forget)
        else:
            directory = self.benchmark.resolve()
            schema.ForgetRequest.resolve(schema.load(directory), self.forget)
            benchmark, digest = str(directory), artifact.read(directory, "benchmark", verify=False).digest
        return {
            "preset": self.preset,
            "overrides": list(self.assignments),
            "config": "" if self.config is None else self.config.read_text(encoding="utf-8"),
            "benchmark": benchmark,
            "benchmark_digest": digest,
            "forget": list(self.forget),
            "code_digest": _identity(settings),
        }


def unlearn_job(request: Request, method: str, seed: int) -> Job:
    """Unlearn by one method at one seed."""
    settings = request.settings(method, seed)
    arguments = {**request.arguments(settings), "method": method, "seed": seed}
    return Job(
        name=method,
        dag=unlearning,
        arguments=arguments,
        parameters=_parameters(arguments, settings),
        published={"report/summary": "report", "register/registration": "registration"},
    )


def compare_job(request: Request, methods: Sequence[str], seeds: int) -> Job:
    """Unlearn by several methods at the seeds from 0 on; a method may be followed by settings of its own.

    Attacks use 20 % of the portraits, as Table 4 does, unless the request says otherwise.
    """
    request = replace(request, assignments=("relearn.percents=[20]", *request.assignments))
    for method in methods:
        name, *own = method.split()
        settings = request.settings(name, 0, own)
    arguments = {**request.arguments(settings), "methods": list(methods), "seeds": list(range(seeds))}
    return Job(
        name="compare",
        dag=comparison,
        arguments=arguments,
        parameters={**_parameters(arguments, request.settings("vkd", 0)), "methods": methods, "seeds": seeds},
        steps=2 + seeds * (STEPS_OF_A_SEED + len(methods) * STEPS_OF_A_METHOD),
        published={"compare-report/comparison": "comparison"},
    )


def expand(methods: str, preset: str) -> list[str]:
    """Names separated by commas; `all` stands for every method but retraining, which is the reference, `ablations` for
    the other names of the preset."""
    every, named = method_names(), variants(preset)
    groups = {"all": [name for name in every if name != "retrain"], "ablations": [n for n in named if n not in every]}
    chosen = [name.strip() for name in methods.split(",") if name.strip()]
    return list(dict.fromkeys(name for part in chosen for name in groups.get(part, [part])))


def _identity(settings: Settings) -> str:
    """What the cache must know besides settings and data: the code, and a base model that is not part of it."""
    base = Path(settings.vanilla.base)
    if settings.vanilla.base == EMBEDDED or not base.is_dir():
        return code_digest()
    return artifact.digest_of([code_digest(), directory_digest(base)])


def _parameters(arguments: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """What pipeline runs are told apart by in MLflow."""
    told = ("method", "seed", "forget", "benchmark_digest", "code_digest")
    source = arguments["benchmark"]
    return {
        **settings.model_dump(exclude={"benchmark"} if source else None),
        **{name: arguments[name] for name in told if name in arguments},
        "benchmark_source": source,
    }
