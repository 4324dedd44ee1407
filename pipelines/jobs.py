"""What `unsee run`, `requests answer`, `compare`, `sweep`, `frontier` and `search` ask for, checked, as local jobs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from unsee.benchmark import embedded, given, schema
from unsee.code import code_digest, directory_digest
from unsee.comparison import candidates
from unsee.comparison.search import require_tuning_seeds
from unsee.errors import UserError
from unsee.sections import BenchmarkSettings, ImportSettings
from unsee.settings import EMBEDDED, OWN_SECTIONS, TRIED, Settings, load_settings, method_entries, sets
from unsee.storage.artifact import digest_of
from unsee.unlearning.method import names as method_names
from unsee_pipelines.compare import comparison
from unsee_pipelines.continual import continual
from unsee_pipelines.local import Job
from unsee_pipelines.unlearn import unlearning

STEPS_OF_A_SEED = 10
STEPS_OF_A_METHOD = 5


@dataclass(frozen=True)
class Request:
    """What was asked for, whatever the DAG. benchmark: a directory or an address; empty: the preset's own."""

    preset: str = "embedded"
    config: Path | None = None
    assignments: tuple[str, ...] = ()
    benchmark: str = ""
    forget: tuple[str, ...] = ()

    @property
    def entries(self) -> dict[str, dict[str, Any]]:
        """What preset, config and assignments hold of each method."""
        return method_entries(self.preset, self.config, self.assignments)

    def settings(self, method: str, seed: int, assignments: Sequence[str] = ()) -> Settings:
        """Raises UserError for whatever is wrong with them."""
        return load_settings(
            self.preset,
            config=self.config,
            assignments=[*self.assignments, *assignments],
            method=method,
            seed=seed,
            benchmark=self.benchmark,
        )

    def arguments(self, settings: Settings) -> dict[str, Any]:
        """The arguments of the DAGs that forget whom they are told to.

        Raises:
            UserError: damaged benchmark, or people who are not in it or cannot be forgotten.
        """
        if self.benchmark:
            schema.ForgetRequest.resolve(given.outline(self.benchmark), self.forget)
        elif isinstance(settings.benchmark, BenchmarkSettings):
            schema.ForgetRequest.resolve(embedded.outline(settings.benchmark), self.forget)
        return {**self.common_arguments(settings), "forget": list(self.forget)}

    def common_arguments(self, settings: Settings) -> dict[str, Any]:
        """The arguments that all DAGs have. Raises UserError if the benchmark is incomplete."""
        return {
            "preset": self.preset,
            "overrides": list(self.assignments),
            "config": "" if self.config is None else self.config.read_text(encoding="utf-8"),
            "benchmark": given.place(self.benchmark) if self.benchmark else "",
            "benchmark_digest": given.manifest(self.benchmark).digest if self.benchmark else "",
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
        reads=_reads(arguments, settings),
    )


def continual_job(request: Request, method: str, seed: int, **options: bool) -> Job:
    """Unlearn what is asked for in the store that UNSEE_STORE names, as the run that KFP_RUN_ID names.

    Args:
        options: `reference` and `retry` of the DAG.
    """
    settings = request.settings(method, seed)
    arguments = {**request.common_arguments(settings), "method": method, "seed": seed, **options}
    return Job(
        name="continual",
        dag=continual,
        arguments=arguments,
        parameters=_parameters(arguments, settings),
        published={"answer-requests*/answers": "answers"},
        reads=_reads(arguments, settings),
    )


def compare_job(
    request: Request,
    methods: Sequence[str],
    seeds: Sequence[int],
    report: str = "compare",
    attacks: Sequence[int] = (20,),
) -> Job:
    """Unlearn by several methods at these seeds; a method may be followed by settings of its own.

    Args:
        report: what the page shows (`unsee.comparison.PAGES`).
        attacks: percentages of the portraits that attackers use, 20 as in Table 4, unless the request has others.
    """
    if not sets(request.config, "relearn", "percents"):
        request = replace(request, assignments=(f"relearn.percents={list(attacks)}", *request.assignments))
    settings, *_ = [_of_method(request, method, seeds[0]) for method in methods]
    arguments = {**request.arguments(settings), "methods": list(methods), "seeds": list(seeds), "report": report}
    parameters = _parameters(arguments, settings)
    return Job(
        name=report,
        dag=comparison,
        arguments=arguments,
        parameters={
            **{name: value for name, value in parameters.items() if name not in OWN_SECTIONS},
            "methods": list(methods),
            "seeds": list(seeds),
        },
        steps=2 + len(seeds) * (STEPS_OF_A_SEED + len(methods) * STEPS_OF_A_METHOD),
        published={"compare-report/comparison": "comparison"},
        reads=_reads(arguments, settings),
    )


def sweep_job(request: Request, method: str, parameter: str, seeds: Sequence[int]) -> Job:
    """Unlearn by one method at several values of a setting, "unlearn.beta=0,0.3,1,3"."""
    return compare_job(request, candidates.sweep(method, parameter), seeds, report="sweep")


def frontier_job(request: Request, methods: str, seeds: Sequence[int]) -> Job:
    """Unlearn by every method at every value of its strength."""
    found = candidates.frontier(expand(request, methods), request.entries)
    return compare_job(request, found, seeds, report="frontier", attacks=())


def search_job(request: Request, methods: str, budget: int, seeds: str) -> Job:
    """Unlearn by `budget` candidates of every method at tuning seeds, "100,101".

    Raises:
        UserError: seeds that are no numbers, given twice, or reported; or a benchmark of a reported seed.
    """
    words = [seed.strip() for seed in seeds.split(",")]
    numbers = [int(word) for word in words if word.isdecimal()]
    if len({*numbers}) < len(words):
        raise UserError(f"--seeds {seeds!r} are not different numbers; write e.g. --seeds 100,101")
    require_tuning_seeds("--seeds", numbers)

    def as_set(method: str) -> dict[str, Any]:
        return _of_method(request, method, numbers[0]).model_dump()

    found = candidates.draw(expand(request, methods), request.entries, budget, as_set)
    if not request.benchmark:
        require_tuning_seeds("benchmark.seed", [_of_method(request, found[0], seed).benchmark.seed for seed in numbers])
    else:
        facts = given.manifest(request.benchmark).facts
        drawn_from = [facts["seed"]] if facts.get("source") == "embedded" else []
        require_tuning_seeds(f"--benchmark {request.benchmark}", drawn_from)
    return compare_job(request, found, numbers, report="search", attacks=())


def expand(request: Request, methods: str) -> list[str]:
    """`candidates.expand` with the methods there are and those of the request."""
    return candidates.expand(methods, method_names(), request.entries)


def _of_method(request: Request, method: str, seed: int) -> Settings:
    """The settings of a method that settings of its own may follow.

    Raises:
        UserError: it has settings, here or in the request, that reach other methods or a reference, or one twice.
    """
    candidate = candidates.Candidate.parse(method)
    for setting in request.entries.get(candidate.method, {}):
        if setting not in TRIED:
            candidates.require_own(method, setting)
    return request.settings(candidate.method, seed, method.split()[1:])


def _identity(settings: Settings) -> str:
    """What the cache must know besides settings and data: the code, and directories that the settings name."""
    directories = [directory_digest(directory) for directory in _named(settings)]
    return digest_of([code_digest(), *directories]) if directories else code_digest()


def _named(settings: Settings) -> list[Path]:
    """The base model and the published benchmark where they are directories; the first step says what is missing."""
    names = [settings.vanilla.base] if settings.vanilla.base != EMBEDDED else []
    if isinstance(settings.benchmark, ImportSettings):
        names.append(settings.benchmark.source)
    return [Path(name) for name in names if Path(name).is_dir()]


def _reads(arguments: dict[str, Any], settings: Settings) -> tuple[Path, ...]:
    """Directories that steps read."""
    benchmark = given.local_directory(arguments["benchmark"]) if arguments["benchmark"] else None
    return (*filter(None, [benchmark]), *_named(settings))


def _parameters(arguments: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """What pipeline runs are told apart by in MLflow."""
    source = arguments["benchmark"]
    told = ("method", "seed", "forget", "benchmark_digest", "code_digest")
    given = {**{name: arguments[name] for name in told if name in arguments}, "benchmark_source": source}
    return {
        **{name: value for name, value in given.items() if value not in ("", [])},
        **settings.model_dump(exclude={"benchmark"} if source else None),
    }
