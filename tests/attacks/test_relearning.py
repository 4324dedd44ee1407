"""The relearning attack: what it may use, what it does, and that it leaves the model as it was."""

import numpy as np
import pytest
import torch
from float64_pixels import see_in_float64
from hypothesis import given
from hypothesis import strategies as st

from unsee.attacks.relearning import RelearningAttack, draw_budget, no_result, result
from unsee.bench import plain
from unsee.benchmark.schema import ForgetRequest
from unsee.evaluation.asking import Asked, Examiner
from unsee.sections import RelearnSettings
from unsee.settings import load_settings

PEOPLE = {f"P{p:02d}": tuple(f"P{p:02d}/{i}.png" for i in range(8)) for p in range(20)}

people = st.integers(1, 12).flatmap(
    lambda count: st.tuples(*[st.integers(1, 9)] * count).map(
        lambda sizes: {f"P{p}": tuple(f"P{p}/{i}" for i in range(size)) for p, size in enumerate(sizes)}
    )
)
percents, seeds = st.integers(1, 99), st.integers(0, 2**31)


def relearn_settings(**changes):
    values = {
        "percents": (20,), "samplings": ("image",), "epochs": 1, "batch_images": 4, "learning_rate": 1e-3,
        "choice": "options", "evaluation_batch_images": 3, "compute": {"threads": 1}, "seed": 0,
    }  # fmt: skip
    return RelearnSettings(**{**values, **changes})


@pytest.mark.parametrize(("percent", "count"), [(10, 2), (20, 4), (30, 6)])
def test_person_sampling_takes_a_share_of_the_people_with_all_their_portraits(percent, count):
    budget = draw_budget(PEOPLE, "person", percent, seed=0)
    assert len(budget.people) == count
    assert sorted(budget.images) == sorted(image for person in budget.people for image in PEOPLE[person])


@pytest.mark.parametrize(("percent", "count"), [(10, 16), (20, 32), (30, 48)])
def test_image_sampling_takes_a_share_of_everybody_s_portraits(percent, count):
    budget = draw_budget(PEOPLE, "image", percent, seed=0)
    used = {person: sum(image in budget.images for image in images) for person, images in PEOPLE.items()}
    assert sum(used.values()) == len(set(budget.images)) == count
    assert max(used.values()) - min(used.values()) <= 1
    assert budget.people == {person for person, portraits in used.items() if portraits}


@given(people, percents, seeds, st.sampled_from(["person", "image"]))
def test_a_budget_is_its_share_without_repetition_and_depends_on_the_seed_alone(portraits, percent, seed, sampling):
    budget = draw_budget(portraits, sampling, percent, seed)
    backwards = {person: portraits[person] for person in reversed(portraits)}
    assert draw_budget(portraits, sampling, percent, seed) == budget
    everything = [image for images in portraits.values() for image in images]
    of = len(portraits) if sampling == "person" else len(everything)
    share = round(of * percent / 100)
    if share in (0, of):
        assert isinstance(budget, str)
        return
    assert len(budget.people if sampling == "person" else budget.images) == share
    assert len(set(budget.images)) == len(budget.images)
    assert set(budget.images) <= set(everything)
    assert draw_budget(backwards, sampling, percent, seed) == budget


@given(people, percents, seeds, st.sampled_from(["person", "image"]))
def test_unseen_is_exactly_what_was_not_used(portraits, percent, seed, sampling):
    budget = draw_budget(portraits, sampling, percent, seed)
    if isinstance(budget, str):
        return
    for person, images in portraits.items():
        for image in images:
            assert budget.covers(person, image) == (image in budget.images)
        heldout = f"{person}/heldout"
        assert budget.covers(person, heldout) == (sampling == "person" and person in budget.people)


def test_other_seeds_and_percents_draw_others():
    drawn = {draw_budget(PEOPLE, "person", 20, seed).people for seed in range(5)}
    assert len(drawn) > 1
    assert not draw_budget(PEOPLE, "person", 10, 0).people <= draw_budget(PEOPLE, "person", 10, 1).people


@pytest.mark.parametrize("percent", [10, 20, 30, 90])
def test_one_person_is_too_few_for_person_sampling_and_the_reason_is_given(percent):
    reason = draw_budget({"P1": ("a", "b", "c", "d", "e")}, "person", percent, 0)
    assert f"{percent} % of 1 forget people is" in reason
    assert "too few people" in reason
    empty = no_result(reason)
    assert empty["reason"] == reason
    assert (empty["before"], empty["after"], empty["gap"], empty["gap_unseen"], empty["curve"]) == (None,) * 4 + ([],)


def test_too_few_portraits_are_told_too():
    assert "too few portraits" in draw_budget({"P1": ("a", "b")}, "image", 10, 0)


def test_the_gap_is_the_rise_of_forget_vqa_and_may_be_unknown_for_the_unseen():
    budget = draw_budget(PEOPLE, "person", 10, 0)
    curve = [{"epoch": e, "forget/vqa/accuracy": a, "unseen": None} for e, a in enumerate((0.25, 0.5, 0.75))]
    found = result(curve, budget)
    assert (found["before"], found["after"], found["gap"], found["gap_unseen"]) == (0.25, 0.75, 0.5, None)
    assert found["used"] == {"people": 2, "images": 16}
    assert found["reason"] is None
    assert found["curve"] == curve


@pytest.fixture
def request_(small_benchmark):
    return ForgetRequest.resolve(small_benchmark, [])


def budget_of(benchmark, request, sampling="image", percent=50):
    portraits = {i: [] for i in request.forget}
    for question in benchmark.select(role="train", modality="vqa"):
        if question.entity_id in portraits and question.image not in portraits[question.entity_id]:
            portraits[question.entity_id].append(question.image)
    return draw_budget(portraits, sampling, percent, seed=0)


def bits(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("rank", [None, 4])
@pytest.mark.parametrize("part", ["tower", "projector", "llm"])
def test_an_attack_on_one_part_trains_that_part_alone(llava, small_benchmark, request_, part, rank):
    attack = RelearningAttack(llava, small_benchmark, request_, relearn_settings(parts=[part], rank=rank))
    modules = {"tower": ("model.vision_tower.",), "projector": ("model.multi_modal_projector.",)}
    modules["llm"] = ("model.language_model.", "lm_head.")
    inside = {name for name, _ in llava.model.named_parameters() if name.startswith(modules[part])}
    trained = inside if rank is None else {name for name in inside if ".lora_" in name}
    assert attack.parameters.keys() == trained
    before = {name: tensor for name, tensor in bits(llava.model).items() if name not in trained}
    attack.run(budget_of(small_benchmark, request_))
    assert all(torch.equal(dict(llava.model.state_dict())[name], tensor) for name, tensor in before.items())


@pytest.mark.parametrize("rank", [None, 4])
def test_after_an_attack_the_model_is_back_bit_for_bit_and_a_second_attack_is_the_same(
    llava, small_benchmark, request_, rank
):
    settings = relearn_settings(epochs=2, learning_rate=1e-2, rank=rank)
    attack = RelearningAttack(llava, small_benchmark, request_, settings)
    before = bits(llava.model)
    budget = budget_of(small_benchmark, request_)
    first = attack.run(budget)
    assert all(torch.equal(tensor, before[name]) for name, tensor in llava.model.state_dict().items())
    assert attack.run(budget) == first
    assert [point["epoch"] for point in first["curve"]] == [0, 1, 2]


class Watching(Examiner):
    """Keeps the model's weights at every measurement."""

    def scores(self, asked):
        self.seen = [*getattr(self, "seen", []), bits(self.mllm.model)]
        return super().scores(asked)


def test_the_first_update_is_adamw_s_on_all_parameters_with_the_plain_loss(llava64, small_benchmark, request_):
    llava = see_in_float64(llava64)
    settings = relearn_settings(batch_images=8)
    attack = RelearningAttack(llava, small_benchmark, request_, settings)
    attack.portraits.rows = {image: rows[:3] for image, rows in attack.portraits.rows.items()}
    attack.asked = attack.asked[:4]
    attack.examiner = Watching(llava, attack.bank.pixels, 8)
    budget = budget_of(small_benchmark, request_)
    attack.run(budget)
    before, after = attack.examiner.seen

    parameters = dict(llava.model.named_parameters())
    losses = [
        plain.question_losses(llava, attack.portraits.rows[i], attack.bank.pixels([i])[0]).mean() for i in budget.images
    ]
    torch.stack(losses).mean().backward()
    torch.nn.utils.clip_grad_norm_(parameters.values(), 1.0)
    torch.optim.AdamW(parameters.values(), lr=settings.learning_rate, betas=(0.9, 0.999), weight_decay=0.0).step()
    moved = torch.cat([(after[n] - before[n]).flatten() for n in parameters])
    expected = torch.cat([(parameters[n].detach() - before[n]).flatten() for n in parameters])
    assert expected.norm() > 0
    assert (moved - expected).norm() <= 1e-5 * expected.norm()


def test_low_rank_additions_start_from_the_model_as_it_is_and_move_all_its_parts(llava, small_benchmark, request_):
    whole = RelearningAttack(llava, small_benchmark, request_, relearn_settings())
    before = whole.examiner.scores(whole.asked)
    attack = RelearningAttack(llava, small_benchmark, request_, relearn_settings(rank=4, learning_rate=1e-2))
    assert all(np.array_equal(a, b) for a, b in zip(attack.examiner.scores(attack.asked), before, strict=True))
    attack.examiner = Watching(llava, attack.bank.pixels, 8)
    attack.run(budget_of(small_benchmark, request_))
    start, end = attack.examiner.seen
    moved = {name for name in start if not torch.equal(start[name], end[name])}
    assert moved <= attack.parameters.keys()
    assert moved >= {name for name in attack.parameters if ".lora_B." in name}, "what is zero at first, in every layer"
    parts = (llava.tower_name, llava.projector_name, llava.language_name)
    assert all(any(name.startswith(f"{part}.") for name in moved) for part in parts)


def test_the_attack_is_scored_as_the_evaluation_is():
    changes = ["evaluation.choice=letter", "evaluation.batch_images=5"]
    settings = load_settings("embedded", assignments=changes)
    assert (settings.relearn.choice, settings.relearn.evaluation_batch_images) == ("letter", 5)
    assert load_settings("embedded").relearn.choice == "options"


@pytest.mark.parametrize("choice", ["options", "letter"])
def test_what_is_measured_equals_counting_by_hand(llava, small_benchmark, request_, choice):
    attack = RelearningAttack(llava, small_benchmark, request_, relearn_settings(choice=choice))
    assert attack.examiner.batch_images == 3
    budget = budget_of(small_benchmark, request_, "person")
    found = attack.run(budget)["curve"][0]
    asked = [Asked(q, q.modality, q.image) for q in small_benchmark.select(role="eval", task="classification")]
    asked = [item for item in asked if item.question.entity_id in request_.forget]
    scores = Examiner(llava, attack.bank.pixels, 64, choice).scores(asked)
    right = {item: int(np.argmax(s)) == item.question.answer_index for item, s in zip(asked, scores, strict=True)}

    def accuracy(wanted):
        chosen = [ok for item, ok in right.items() if wanted(item.question)]
        return sum(chosen) / len(chosen)

    assert found == {
        "epoch": 0,
        "forget/vqa/accuracy": accuracy(lambda q: q.view == "train"),
        "forget/vqa/heldout_accuracy": accuracy(lambda q: q.view == "heldout"),
        "forget/qa/accuracy": accuracy(lambda q: q.modality == "qa"),
        "unseen": accuracy(lambda q: q.modality == "vqa" and q.entity_id not in budget.people),
    }


def test_every_model_is_attacked_with_the_same_portraits_in_the_same_order(llava, small_benchmark, request_):
    class Recording(RelearningAttack):
        def _loss(self, images):
            self.used = [*getattr(self, "used", []), tuple(images)]
            return super()._loss(images)

    used = []
    for scale in (1.0, 1.5):
        with torch.no_grad():
            llava.head.weight.mul_(scale)
        attack = Recording(llava, small_benchmark, request_, relearn_settings(epochs=2, batch_images=1))
        attack.run(budget_of(small_benchmark, request_))
        used.append(attack.used)
    assert used[0] == used[1]
    assert len(used[0]) == 6
    assert len(set(used[0])) == 3
