"""Whom a request is about: people by their ids, or whoever is on a photograph with one of these sha256."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from unsee.benchmark import schema
from unsee.benchmark.schema import Benchmark
from unsee.requests.inbox import DeletionRequest
from unsee.storage import artifact


@dataclass(frozen=True)
class Match:
    """The people a request is about, in the benchmark's order, and what nobody was found for, in words."""

    people: tuple[str, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True)
class People:
    """Who can be asked for: a benchmark, and its people by the sha256 of their photographs.

    A photograph has two: of its file in the benchmark, and of the file it was imported from.
    """

    benchmark: Benchmark
    by_image: Mapping[str, set[str]]

    @classmethod
    def of(cls, directory: Path) -> "People":
        """Raises UserError for an incomplete or damaged benchmark."""
        benchmark = schema.load(directory)
        manifest = artifact.read(directory, "benchmark", verify=False)
        shown = {question.image: question.entity_id for question in benchmark.questions if question.image}
        by_image: dict[str, set[str]] = defaultdict(set)
        for digests in (manifest.files, manifest.facts.get("originals", {})):
            for image in shown.keys() & digests.keys():
                by_image[digests[image]].add(shown[image])
        return cls(benchmark, by_image)

    def match(self, request: DeletionRequest) -> Match:
        """Whom of these people the request is about."""
        known, realworld = self.benchmark.entities, self.benchmark.realworld
        found = {person for image in request.images for person in self.by_image.get(image, ())}
        found |= set(request.entities) & known.keys()
        missing = [f"nobody in the benchmark has the id {i}" for i in request.entities if i not in known]
        missing += [f"nobody in the benchmark has the photograph {i}" for i in request.images if i not in self.by_image]
        missing += [f"{i} is real-world: the base model knows them already" for i in sorted(found & realworld)]
        return Match(tuple(i for i in known if i in found - realworld), tuple(missing))
