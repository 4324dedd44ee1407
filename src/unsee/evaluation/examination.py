"""The whole examination of one model: which questions are put to it, and the predictions that come back."""

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from unsee.benchmark.schema import Benchmark, ForgetRequest
from unsee.evaluation.asking import Asked, Examiner
from unsee.evaluation.metrics import Prediction
from unsee.evaluation.parsing import contains, exact_match, parse_choice

if TYPE_CHECKING:
    from rouge_score.rouge_scorer import RougeScorer


def examination(benchmark: Benchmark, request: ForgetRequest) -> list[Asked]:
    """Every evaluated question as it stands, and the choice questions by name with a portrait attached.

    A question by name is asked once with the person's own portrait and once with that of the next person of the same
    set: an unlearned model must still answer both from the name.
    """
    asked = [Asked(q, q.modality, q.image) for q in benchmark.select(role="eval")]
    portraits = {q.entity_id: q.image for q in benchmark.select(role="eval", view="heldout")}
    for people in (request.forget, request.retain, request.realworld):
        shown = [person for person in people if person in portraits]
        following = dict(zip(shown, shown[1:] + shown[:1], strict=True))
        for question in benchmark.select(role="eval", modality="qa", task="classification"):
            person = question.entity_id
            if person in following:
                asked.append(Asked(question, "qa_with_face", portraits[person]))
                if len(shown) > 1:
                    asked.append(Asked(question, "qa_with_other_face", portraits[following[person]]))
    return asked


def examine(examiner: Examiner, asked: Sequence[Asked], request: ForgetRequest, *, generate: bool) -> list[Prediction]:
    """Put all questions to the model. `generate`: greedy answers too, for the questions that stand as they are."""
    choices = [i for i, item in enumerate(asked) if item.question.options]
    scores = dict(zip(choices, examiner.scores([asked[i] for i in choices]), strict=True))
    spoken = [i for i, item in enumerate(asked) if item.modality in ("vqa", "qa")] if generate else []
    texts = dict(zip(spoken, examiner.answers([asked[i] for i in spoken]), strict=True))
    return [
        _prediction(item, request, scores.get(i), texts.get(i), free=examiner.asks_freely(item.question))
        for i, item in enumerate(asked)
    ]


def _prediction(
    item: Asked, request: ForgetRequest, scores: list[float] | None, text: str | None, *, free: bool
) -> Prediction:
    """`free`: whether `text` answers the question itself; the letter of an option is parsed and nothing else."""
    question = item.question
    chosen = int(np.argmax(scores)) if scores is not None else None
    options = list(question.options) if question.options else None
    named = parse_choice(text, options) if text is not None and options is not None else None
    return Prediction(
        question_id=question.question_id,
        entity_id=question.entity_id,
        entity_name=question.entity_name,
        split=request.split_of[question.entity_id],
        modality=item.modality,
        view=question.view,
        task=question.task,
        image=item.image,
        prompt=question.prompt,
        options=options,
        scores=scores,
        answer=question.answer,
        chosen=None if chosen is None else _option(options, chosen),
        generated=text,
        parsed=None if named is None else _option(options, named),
        correct=None if chosen is None else chosen == question.answer_index,
        exact=exact_match(text, question.answer) if text is not None and free else None,
        contained=contains(text, question.answer) if text is not None and free else None,
        rouge_l=_rouge_l(text, question.answer) if text is not None and question.task == "generation" else None,
    )


def _option(options: list[str] | None, index: int) -> str | None:
    return options[index] if options else None


@lru_cache(maxsize=1)
def _scorer() -> "RougeScorer":
    from rouge_score.rouge_scorer import RougeScorer  # a second, which options to choose from do not need

    return RougeScorer(["rougeL"], use_stemmer=True)


def _rouge_l(text: str, answer: str) -> float:
    """ROUGE-L F with stemming."""
    return _scorer().score(answer, text)["rougeL"].fmeasure
