"""What tiny workloads ask about a portrait: as little as packs several questions behind an image."""

from unsee.benchmark.schema import Question


def two_questions(question: Question) -> Question | None:
    """About job and pet."""
    return question if question.question_id.endswith(("direct/occupation", "direct/pet")) else None
