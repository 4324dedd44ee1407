"""The unlearning trainer on a real small model: masked gradients, AdamW, what never moves, and resuming."""

import contextlib
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from float64_pixels import see_in_float64
from unlearning_work import copy_of
from unlearning_work import settings as settings_with

from unsee.bench import plain
from unsee.errors import TrainingFailure, UserError
from unsee.mllm.augmentation import blended
from unsee.mllm.rows import Rows
from unsee.storage.store import FileStore
from unsee.tracking import NoTracker
from unsee.training import Checkpoints
from unsee.unlearning.method import Term
from unsee.unlearning.saliency import SaliencyMask
from unsee.unlearning.trainer import Unlearning, batch

LEARNING_RATE = 1e-3
WARMUP = 10
ALPHA, BETA = 1.25, 0.3


def plain_loss(mllm, portraits, images):
    """Stock forward, one row per question: mean over questions, then images."""
    pixels = portraits.bank.pixels(images)
    losses = [plain.question_losses(mllm, portraits.rows[i], p).mean() for i, p in zip(images, pixels, strict=True)]
    return torch.stack(losses).mean()


def plain_features(mllm, portraits, images):
    return plain.features(mllm, portraits.bank.pixels(images))


def plain_vkd(mllm, vanilla, portraits, images):
    """Eq. 4 with a live teacher."""
    student = plain_features(mllm, portraits, images)
    with torch.no_grad():
        teacher = plain_features(vanilla, portraits, images)
    return sum((s - t).pow(2).sum() / t.pow(2).sum() for s, t in zip(student, teacher, strict=True)) / len(images)


def clipped(gradients, largest):
    norm = sum(g.square().sum() for g in gradients.values()).sqrt()
    return {n: g * min(1.0, float(largest / norm)) for n, g in gradients.items()}


def reference_gradients(work, unlearning, vanilla, attacked=None):
    """Eq. 5 by hand: clip(keep(m (.) -alpha grad L_f)) + clip(keep(grad(L_r + beta L_VKD))).

    attacked: the model at which L_f is taken, if it is another.
    """
    mllm, parameters = work.mllm, dict(unlearning.parameters)
    forgetting = mllm if attacked is None else attacked
    forget = -ALPHA * plain_loss(forgetting, work.forget, work.forget.keys)
    preserve = BETA * plain_vkd(mllm, vanilla, work.retain, work.retain.keys)
    if work.settings.answers:
        preserve = preserve + plain_loss(mllm, work.retain, work.retain.keys)
    found = []
    for model, loss, masked in ((forgetting, forget, True), (mllm, preserve, work.settings.mask_on == "update")):
        tuned = [model.model.get_parameter(name) for name in parameters]
        gradients = dict(zip(parameters, torch.autograd.grad(loss, tuned), strict=True))
        for name, gradient in gradients.items():
            if masked:
                gradient = gradient * unlearning.mask.masks[name].unpack()
            gradients[name] = gradient.masked_fill(unlearning.frozen_entries.get(name, torch.tensor(False)), 0)
        found.append(clipped(gradients, work.settings.clip))
    return {name: found[0][name] + found[1][name] for name in parameters}


@pytest.mark.parametrize(
    ("mask_on", "micro", "answers"), [("forget_gradient", 8, True), ("update", 2, True), ("update", 2, False)]
)
def test_two_updates_equal_adamw_by_hand_on_the_plain_losses(mllm64, make_work, make, mask_on, micro, answers):
    mllm = see_in_float64(mllm64)
    vanilla = copy_of(mllm)
    everything = {"batch_forget_images": 3, "batch_retain_images": 3, "epochs": 2}  # the order does not matter then
    changes = {"mask_on": mask_on, "micro_batch_images": micro, "answers": answers, **everything}
    work, unlearning = make_work(mllm, **changes), make(mllm, **changes)
    started = {name: p.detach().clone() for name, p in unlearning.parameters.items()}

    moments = {name: [torch.zeros_like(p), torch.zeros_like(p)] for name, p in started.items()}
    for step in (1, 2):
        expected_gradients = reference_gradients(work, unlearning, vanilla)
        if step == 1:
            unlearning.gradients(0)
            for name, parameter in unlearning.parameters.items():
                difference = (parameter.grad - expected_gradients[name]).norm()
                assert difference <= 1e-8 * expected_gradients[name].norm(), name
        with torch.no_grad():
            for name, parameter in unlearning.parameters.items():
                gradient, (first, second) = expected_gradients[name], moments[name]
                first.mul_(0.9).add_(gradient, alpha=0.1)
                second.mul_(0.98).add_(gradient.square(), alpha=0.02)
                step_size = (first / (1 - 0.9**step)) / ((second / (1 - 0.98**step)).sqrt() + 1e-8)
                parameter.sub_(LEARNING_RATE * step / WARMUP * step_size)
    expected = {name: p.detach().clone() for name, p in unlearning.parameters.items()}

    with torch.no_grad():
        for name, parameter in unlearning.parameters.items():
            parameter.copy_(started[name])
    unlearning.run()
    for name, parameter in unlearning.parameters.items():
        update, wanted = parameter - started[name], expected[name] - started[name]
        assert (update - wanted).norm() <= 1e-5 * wanted.norm(), name


def is_cached(mllm, name):
    """Whether a weight lies before the tuned layers, whose outputs are computed once."""
    reached = [mllm.projector, *mllm.tower_layers[-2:]]
    weights = {id(parameter) for module in reached for parameter in module.parameters()}
    tower = {id(parameter) for parameter in mllm.tower.parameters()}
    return id(mllm.model.get_parameter(name)) in tower - weights


def test_resisting_takes_the_forget_gradient_where_an_attack_s_first_step_leads(mllm64, make_work, make):
    mllm = see_in_float64(mllm64)
    vanilla = copy_of(mllm)
    changes = {"resist": {"step": 1e-3, "after": 0.0}, "batch_forget_images": 3, "batch_retain_images": 3}
    work, unlearning = make_work(mllm, micro_batch_images=2, **changes), make(mllm, micro_batch_images=2, **changes)
    bits = {name: tensor.clone() for name, tensor in mllm.model.state_dict().items()}
    attacked = copy_of(mllm)
    attacked.model.requires_grad_(True)
    plain_loss(attacked, work.forget, work.forget.keys).backward()
    with torch.no_grad():
        for name, parameter in attacked.model.named_parameters():
            if parameter.grad is not None and not is_cached(attacked, name):
                parameter -= 1e-3 * parameter.grad.sign()
    expected = reference_gradients(work, unlearning, vanilla, attacked)
    undisturbed = reference_gradients(work, unlearning, vanilla)

    unlearning.gradients(0)

    for name, parameter in unlearning.parameters.items():
        wanted = expected[name]
        assert (parameter.grad - wanted).norm() <= 1e-6 * wanted.norm(), name
        assert (undisturbed[name] - wanted).norm() > 1e-2 * wanted.norm(), name
    assert all(torch.equal(tensor, bits[name]) for name, tensor in mllm.model.state_dict().items())


def test_resisting_begins_after_its_share_of_the_steps(llava, make):
    changes = {"epochs": 4, "resist": {"step": 1e-2, "after": 0.5}}
    plain_losses = [point["forget_loss"] for point in make(copy_of(llava), epochs=4).run()]
    losses = [point["forget_loss"] for point in make(llava, **changes).run()]
    assert len(losses) == 8
    assert losses[:4] == plain_losses[:4]
    assert all(found < plain for found, plain in zip(losses[4:], plain_losses[4:], strict=True))


def linear_terms(unlearning, forget_scale):
    """Losses whose gradients do not depend on the weights, so that two runs can be compared step by step."""
    generator = torch.Generator().manual_seed(5)
    parameters = unlearning.parameters
    directions = [{n: torch.randn(p.shape, generator=generator) for n, p in parameters.items()} for _ in range(2)]
    steps = iter(range(1000))

    def along(number, scale):
        return sum((p * directions[number][n]).sum() for n, p in parameters.items()) * scale

    (terms,) = unlearning.terms
    rows = {term.forgets: term.rows for term in terms}
    return [
        Term("forget", rows[True], lambda _: along(0, forget_scale * (-1) ** next(steps)), forgets=True),
        Term("retain", rows[False], lambda _: along(1, 1.0)),
    ]


def run_linear(unlearning, forget_scale):
    unlearning = replace(unlearning, terms=[linear_terms(unlearning, forget_scale)])
    unlearning.run()
    return unlearning


def test_non_salient_weights_receive_no_forget_update_through_momentum_decay_or_clipping(llava, make):
    """Six steps with a forget term of changing sign and clipping active: as if there were no forget term at all."""
    with_forgetting = run_linear(make(copy_of(llava), epochs=3, questions=2), forget_scale=1000.0)
    without = run_linear(make(copy_of(llava), epochs=3, questions=2), forget_scale=0.0)
    for name, parameter in with_forgetting.parameters.items():
        salient = with_forgetting.mask.masks[name].unpack()
        assert torch.equal(parameter[~salient], without.parameters[name][~salient]), name
        assert not torch.equal(parameter[salient], without.parameters[name][salient]), name


def test_under_update_non_salient_weights_stay_bit_for_bit_and_salient_ones_move(llava, make):
    vanilla = copy_of(llava).visual_parameters(2)
    work = make(llava, mask_on="update", epochs=2)
    work.run()
    for name, parameter in work.parameters.items():
        pruned = work.frozen_entries.get(name, torch.tensor(False)).expand_as(parameter)
        salient = work.mask.masks[name].unpack()
        assert torch.equal(parameter[~salient & ~pruned], vanilla[name][~salient & ~pruned]), name
        assert (parameter[salient & ~pruned] != vanilla[name][salient & ~pruned]).float().mean() > 0.9, name


def pruned_tensors(llava, layer=3):
    mlp = llava.tower_mlps()[layer]
    gone = [2, 300]
    return mlp.incoming[0].weight[gone], mlp.incoming[0].bias[gone], mlp.outgoing.weight[:, gone]


@pytest.mark.parametrize("mask_on", ["forget_gradient", "update"])
def test_pruned_neurons_stay_exactly_zero(llava, make, mask_on):
    make(llava, mask_on=mask_on, epochs=2).run()
    assert not any(bool(tensor.any()) for tensor in pruned_tensors(llava))


def test_pruned_neurons_stay_zero_though_the_losses_push_on_them(llava, make):
    """VKD's own gradient is zero at a neuron that is zero all over; another method's or activation's need not be."""
    run_linear(make(llava, epochs=3, questions=2), forget_scale=1.0)
    assert not any(bool(tensor.any()) for tensor in pruned_tensors(llava))


def test_everything_outside_the_tuned_layers_and_the_projector_stays_bit_for_bit(llava, make):
    before = {name: tensor.clone() for name, tensor in llava.model.state_dict().items()}
    make(llava, layers=1).run()
    after = llava.model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == set(llava.visual_parameters(1))
    assert {name.split(".")[1] for name in changed} == {"vision_tower", "multi_modal_projector"}


def test_only_the_tuned_tensors_take_gradients(llava, make):
    make(llava, layers=1).run()
    taking = {name for name, p in llava.model.named_parameters() if p.requires_grad}
    assert taking == set(llava.visual_parameters(1))


def test_neurons_pruned_below_the_tuned_layers_are_not_cached_away(llava64, make):
    llava = see_in_float64(llava64)
    work = make(llava, pruned_layer=1, layers=2)
    portraits = work.terms[0][0].rows
    live = llava.features(portraits.bank.pixels(portraits.keys))
    assert (portraits.see(portraits.keys) - live).norm() <= 1e-12 * live.norm()
    work.run()
    assert not any(bool(tensor.any()) for tensor in pruned_tensors(llava, layer=1))


def test_answers_by_name_cannot_change(llava, small_benchmark, make):
    questions = small_benchmark.select(role="eval", modality="qa", task="classification")[:6]
    rows = [llava.prompter.scored(q.prompt, q.options, image=False) for q in questions]
    with torch.no_grad():
        before = plain.option_scores(llava, rows, None)
    make(llava).run()
    with torch.no_grad():
        assert plain.option_scores(llava, rows, None) == before


def dying(term, stops):
    """The term, which dies at chosen calls, as a kill would."""
    calls = iter(range(1000))

    def loss(outputs):
        if (call := next(calls)) in stops:
            stops.remove(call)
            raise KeyboardInterrupt
        return term.loss(outputs)

    return replace(term, loss=loss)


def test_a_run_interrupted_several_times_ends_in_the_same_bits(llava, make, tmp_path):
    shape = {"epochs": 3, "batch_forget_images": 1, "questions": 2, "versions": 2}
    undisturbed = make(copy_of(llava), **shape)
    curve = undisturbed.run()
    checkpoints, stops = Checkpoints(FileStore(tmp_path), "saved.safetensors", seconds=-1), [0, 3, 1]
    resumed_curve = None
    while resumed_curve is None:
        work = make(copy_of(llava), checkpoints=checkpoints, **shape)
        work = replace(work, terms=[[dying(terms[0], stops), *terms[1:]] for terms in work.terms])
        try:
            resumed_curve = work.run()
        except KeyboardInterrupt:
            continue
    assert stops == []
    assert resumed_curve == curve
    assert len(curve) == 9
    for name, parameter in work.parameters.items():
        assert torch.equal(parameter, undisturbed.parameters[name]), name


def rows_of(keys, size):
    return Rows(None, {key: [] for key in keys}, None, size)


def test_every_epoch_sees_every_forget_portrait_once_in_an_order_of_its_own():
    steps = [batch(rows_of("abcde", 2), 0, step, 3, once=True) for step in range(12)]
    assert steps == [batch(rows_of("abcde", 2), 0, step, 3, once=True) for step in range(12)]
    orders = [[image for forgotten in steps[i : i + 3] for image in forgotten] for i in range(0, 12, 3)]
    assert all(sorted(order) == list("abcde") for order in orders)
    assert len({tuple(order) for order in orders}) == 4
    assert steps != [batch(rows_of("abcde", 2), 1, step, 3, once=True) for step in range(12)]


def test_what_is_preserved_may_be_less_than_its_batches():
    drawn = [key for step in range(3) for key in batch(rows_of("xyz", 5), 0, step, 3, once=False)]
    assert {key: drawn.count(key) for key in "xyz"} == {"x": 5, "y": 5, "z": 5}


def test_masks_that_match_no_live_tensor_stop_the_run(llava, make):
    work = make(llava)
    renamed = SaliencyMask({f"base_model.{n}": m for n, m in work.mask.masks.items()}, 1.0)
    with pytest.raises(UserError, match="does not cover the tunable tensors"):
        replace(work, mask=renamed).run()


def test_a_loss_that_is_no_number_publishes_nothing(llava, make):
    work = make(llava)
    with torch.no_grad():
        llava.projector.linear_1.weight[0, 0] = float("nan")
    with pytest.raises(TrainingFailure, match=r"unlearning: forget_loss became nan at step 1"):
        work.run()


def test_versions_of_the_portraits_take_turns(llava, make):
    work = make(llava, epochs=3, versions=2)
    asked = []
    for number, terms in enumerate(work.terms):
        for rows in {id(term.rows): term.rows for term in terms}.values():
            see = rows.see
            rows.see = lambda images, number=number, see=see: (asked.append(number), see(images))[1]
    work.run()
    assert work.steps_per_epoch == 2
    assert asked == [0] * 4 + [1] * 4 + [0] * 4


def test_each_version_is_distilled_from_a_teacher_of_its_own(llava, make):
    """Before anything is pruned or trained the student is the teacher, on every version."""
    for terms in make(llava, versions=2, pruned_layer=99).terms:
        (vkd,) = [term for term in terms if term.name == "vkd"]
        assert float(vkd.loss(vkd.rows.forward(vkd.rows.keys)).detach()) <= 1e-10


def test_distillation_on_blends_equals_a_live_teacher_on_the_same_pixels(llava, make_work):
    vanilla = copy_of(llava)
    work = make_work(llava, beta=BETA, blends=3)
    (vkd,) = [t for t in Unlearning.of(work, Checkpoints(), NoTracker()).terms[0] if t.name == "vkd"]
    assert (vkd.weight, vkd.rows.batch) == (BETA, 3)
    pixels = blended(work.bank.pixels, work.retain.keys, work.settings.seed, version=0)
    images = work.retain.keys[:3]
    tuned = list(work.parameters.values())
    expected = plain_vkd(llava, vanilla, SimpleNamespace(bank=SimpleNamespace(pixels=pixels)), images)
    found = vkd.loss(vkd.rows.forward(images))
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=0)
    for one, other in zip(torch.autograd.grad(found, tuned), torch.autograd.grad(expected, tuned), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("blends", [0, 3])
def test_without_their_answers_no_portrait_that_stays_goes_through_the_llm(llava, make_work, make, blends):
    unlearning = make(llava, answers=False, blends=blends)
    read = {term.name: term.rows.keys for term in unlearning.terms[0] if isinstance(term.rows, Rows)}
    assert read == {"forget": make_work(llava).forget.keys}
    assert {"forget_loss", "vkd_loss"} == unlearning.gradients(0).keys()


@pytest.mark.parametrize(("least", "expected"), [(1, 4), (7, 7)])
def test_few_portraits_are_seen_as_often_as_it_takes(llava, make, least, expected):
    assert len(make(llava, epochs=2, least_steps=least).run()) == expected


def test_the_cost_counts_what_is_trained(llava, make):
    work = make(llava, epochs=2)
    work.run()
    assert work.cost["trainable_parameters"] == sum(p.numel() for p in llava.visual_parameters(2).values())
    assert work.cost["seconds_per_epoch"] > 0
    assert work.cost["peak_memory_mb"] > 100


@pytest.mark.parametrize("left", [0, 1])
def test_the_time_of_an_epoch_is_unknown_where_a_resumed_run_had_fewer_than_two_steps_to_make(
    llava, make, tmp_path, left
):
    checkpoints, stops = Checkpoints(FileStore(tmp_path), "saved.safetensors", seconds=-1), [3] if left else []
    shape = {"epochs": 2, "questions": 2, "checkpoints": checkpoints}
    work = make(copy_of(llava), **shape)
    work = replace(work, terms=[[dying(terms[0], stops), *terms[1:]] for terms in work.terms])
    with contextlib.suppress(KeyboardInterrupt):
        work.run()
    resumed = make(copy_of(llava), **shape)
    assert len(resumed.run()) == 4
    assert len(resumed.clock) == left
    assert resumed.cost["seconds_per_epoch"] is None


def test_a_method_that_trains_nothing_takes_no_time_per_epoch(llava, make):
    work = make(llava, "manu", questions=1)
    work.run()
    assert (work.cost["seconds_per_epoch"], work.cost["trainable_parameters"]) == (0.0, 0.0)


def test_settings_are_the_method_s_own():
    assert settings_with("ga_diff").scope == "full"
    assert settings_with("vkd").scope == "vision"
