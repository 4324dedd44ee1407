"""The unlearning trainer on a real small model: masked gradients, AdamW, what never moves, and resuming."""

import copy
from dataclasses import replace

import pytest
import torch
from float64_pixels import see_in_float64

from unsee.bench import plain
from unsee.benchmark.schema import ForgetRequest
from unsee.errors import TrainingFailure, UserError
from unsee.mllm.families import Llava
from unsee.settings import UnlearnSettings
from unsee.steps.unlearn import assemble
from unsee.tracking import NoTracker
from unsee.training import Checkpoints
from unsee.unlearning.objective import Losses
from unsee.unlearning.saliency import BitMask, SaliencyMask
from unsee.unlearning.trainer import image_batches

LEARNING_RATE = 1e-3
WARMUP = 10
ALPHA, BETA = 1.25, 0.3


def unlearn_settings(**changes):
    values = {
        "method": "vkd", "alpha": ALPHA, "beta": BETA, "mask": {"fraction": 0.5}, "mask_on": "forget_gradient",
        "bound": "none", "layers": 2, "epochs": 1, "least_steps": 1, "versions": 1,
        "batch_forget_images": 2, "batch_retain_images": 2,
        "micro_batch_images": 8, "learning_rate": LEARNING_RATE, "clip": 0.5, "decay": 0.0, "threads": 1,
        "seed": 0,
    }  # fmt: skip
    return UnlearnSettings(**{**values, **changes})


@pytest.fixture
def request_(small_benchmark):
    """One person to forget, one to retain, and their portraits only."""
    first, second, *_ = small_benchmark.entities
    return ForgetRequest((first,), (second,), ())


def random_mask(parameters, seed=0):
    generator = torch.Generator().manual_seed(seed)
    masks = {n: BitMask.pack(torch.rand(p.shape, generator=generator) < 0.5) for n, p in parameters.items()}
    return SaliencyMask(masks, 1.0)


def pruned_neurons(layer):
    flags = torch.zeros(512, dtype=torch.bool)
    flags[[2, 300]] = True
    return {layer: flags}


def make(llava, benchmark, request, checkpoints=None, questions=3, pruned_layer=3, **changes):
    """An assembled run on up to `questions` questions per portrait, with neurons pruned in one layer."""
    settings = unlearn_settings(**changes)
    mask, pruned = random_mask(llava.visual_parameters(settings.layers)), pruned_neurons(pruned_layer)
    work = assemble(settings, benchmark, request, llava, mask, pruned, checkpoints or Checkpoints(), NoTracker())
    for portraits in (work.forget, work.retain):
        portraits.rows = {image: rows[: questions - i % 2] for i, (image, rows) in enumerate(portraits.rows.items())}
    return work


def plain_loss(llava, portraits, images):
    """Stock forward, one row per question: mean over questions, then images."""
    pixels = portraits.bank.pixels(images)
    losses = [plain.question_losses(llava, portraits.rows[i], p).mean() for i, p in zip(images, pixels, strict=True)]
    return torch.stack(losses).mean()


def plain_features(llava, portraits, images):
    return llava.model.get_image_features(pixel_values=portraits.bank.pixels(images)).pooler_output


def plain_vkd(llava, vanilla, portraits, images):
    """Eq. 4 with a live teacher."""
    student = plain_features(llava, portraits, images)
    with torch.no_grad():
        teacher = plain_features(vanilla, portraits, images)
    return sum((s - t).pow(2).sum() / t.pow(2).sum() for s, t in zip(student, teacher, strict=True)) / len(images)


def clipped(gradients, largest):
    norm = sum(g.square().sum() for g in gradients.values()).sqrt()
    return {n: g * min(1.0, float(largest / norm)) for n, g in gradients.items()}


def reference_gradients(work, vanilla):
    """Eq. 5 by hand: clip(keep(m (.) -alpha grad L_f)) + clip(keep(grad(L_r + beta L_VKD)))."""
    llava, parameters = work.forget.mllm, dict(work.parameters)
    forget = -ALPHA * plain_loss(llava, work.forget, work.forget.images)
    preserve = plain_loss(llava, work.retain, work.retain.images)
    preserve = preserve + BETA * plain_vkd(llava, vanilla, work.retain, work.retain.images)
    found = []
    for loss, masked in ((forget, True), (preserve, work.settings.mask_on == "update")):
        gradients = dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True))
        for name, gradient in gradients.items():
            if masked:
                gradient = gradient * work.mask.masks[name].unpack()
            gradients[name] = gradient.masked_fill(work.frozen_entries.get(name, torch.tensor(False)), 0)
        found.append(clipped(gradients, work.settings.clip))
    return {name: found[0][name] + found[1][name] for name in parameters}


@pytest.mark.parametrize(("mask_on", "micro"), [("forget_gradient", 8), ("update", 2)])
def test_two_updates_equal_adamw_by_hand_on_the_plain_losses(llava64, small_benchmark, request_, mask_on, micro):
    llava = see_in_float64(llava64)
    vanilla = Llava(copy.deepcopy(llava.model), llava.tokenizer, llava.image_processor)
    everything = {"batch_forget_images": 3, "batch_retain_images": 3, "epochs": 2}  # the order does not matter then
    work = make(llava, small_benchmark, request_, mask_on=mask_on, micro_batch_images=micro, **everything)
    started = {name: p.detach().clone() for name, p in work.parameters.items()}

    moments = {name: [torch.zeros_like(p), torch.zeros_like(p)] for name, p in started.items()}
    for step in (1, 2):
        expected_gradients = reference_gradients(work, vanilla)
        if step == 1:
            work.gradients(0)
            for name, parameter in work.parameters.items():
                difference = (parameter.grad - expected_gradients[name]).norm()
                assert difference <= 1e-8 * expected_gradients[name].norm(), name
        with torch.no_grad():
            for name, parameter in work.parameters.items():
                gradient, (first, second) = expected_gradients[name], moments[name]
                first.mul_(0.9).add_(gradient, alpha=0.1)
                second.mul_(0.98).add_(gradient.square(), alpha=0.02)
                step_size = (first / (1 - 0.9**step)) / ((second / (1 - 0.98**step)).sqrt() + 1e-8)
                parameter.sub_(LEARNING_RATE * step / WARMUP * step_size)
    expected = {name: p.detach().clone() for name, p in work.parameters.items()}

    with torch.no_grad():
        for name, parameter in work.parameters.items():
            parameter.copy_(started[name])
    work.run()
    for name, parameter in work.parameters.items():
        update, wanted = parameter - started[name], expected[name] - started[name]
        assert (update - wanted).norm() <= 1e-5 * wanted.norm(), name


class Linear:
    """An objective whose gradients do not depend on the weights, so that two runs can be compared step by step."""

    def __init__(self, parameters, forget_scale):
        generator = torch.Generator().manual_seed(5)
        self.parameters, self.forget_scale, self.step = parameters, forget_scale, 0
        self.directions = [
            {n: torch.randn(p.shape, generator=generator) for n, p in parameters.items()} for _ in range(2)
        ]

    def _along(self, directions, scale):
        total = sum((p * directions[n]).sum() for n, p in self.parameters.items()) * scale
        return Losses(total, {})

    def forget(self, _outputs):
        self.step += 1
        return self._along(self.directions[0], self.forget_scale * (-1) ** self.step)

    def preserve(self, _outputs):
        return self._along(self.directions[1], 1.0 + self.step)


def with_objective(work, objective):
    return replace(work, looks=[replace(look, objective=objective) for look in work.looks])


def run_linear(llava, benchmark, request, forget_scale, **changes):
    work = make(llava, benchmark, request, questions=2, epochs=3, **changes)
    linear = Linear(work.parameters, forget_scale)
    with_objective(work, linear).run()
    return work


def copy_of(llava):
    return Llava(copy.deepcopy(llava.model), llava.tokenizer, llava.image_processor)


def test_non_salient_weights_receive_no_forget_update_through_momentum_decay_or_clipping(
    llava, small_benchmark, request_
):
    """Six steps with a forget term of changing sign and clipping active: as if there were no forget term at all."""
    with_forgetting = run_linear(copy_of(llava), small_benchmark, request_, forget_scale=1000.0)
    without = run_linear(copy_of(llava), small_benchmark, request_, forget_scale=0.0)
    for name, parameter in with_forgetting.parameters.items():
        salient = with_forgetting.mask.masks[name].unpack()
        assert torch.equal(parameter[~salient], without.parameters[name][~salient]), name
        assert not torch.equal(parameter[salient], without.parameters[name][salient]), name


def test_under_update_non_salient_weights_stay_bit_for_bit_and_salient_ones_move(llava, small_benchmark, request_):
    vanilla = copy_of(llava).visual_parameters(2)
    work = make(llava, small_benchmark, request_, mask_on="update", epochs=2)
    work.run()
    for name, parameter in work.parameters.items():
        pruned = work.frozen_entries.get(name, torch.tensor(False)).expand_as(parameter)
        salient = work.mask.masks[name].unpack()
        assert torch.equal(parameter[~salient & ~pruned], vanilla[name][~salient & ~pruned]), name
        assert (parameter[salient & ~pruned] != vanilla[name][salient & ~pruned]).float().mean() > 0.9, name


@pytest.mark.parametrize("mask_on", ["forget_gradient", "update"])
def test_pruned_neurons_stay_exactly_zero(llava, small_benchmark, request_, mask_on):
    work = make(llava, small_benchmark, request_, mask_on=mask_on, epochs=2)
    work.run()
    mlp = llava.tower_mlps()[3]
    for tensor in (mlp.incoming[0].weight[[2, 300]], mlp.incoming[0].bias[[2, 300]], mlp.outgoing.weight[:, [2, 300]]):
        assert torch.equal(tensor, torch.zeros_like(tensor))


def test_pruned_neurons_stay_zero_though_the_objective_pushes_on_them(llava, small_benchmark, request_):
    """VKD's own gradient is zero at a neuron that is zero all over; another method's or activation's need not be."""
    run_linear(llava, small_benchmark, request_, forget_scale=1.0)
    mlp = llava.tower_mlps()[3]
    for tensor in (mlp.incoming[0].weight[[2, 300]], mlp.incoming[0].bias[[2, 300]], mlp.outgoing.weight[:, [2, 300]]):
        assert torch.equal(tensor, torch.zeros_like(tensor))


def test_everything_outside_the_tuned_layers_and_the_projector_stays_bit_for_bit(llava, small_benchmark, request_):
    before = {name: tensor.clone() for name, tensor in llava.model.state_dict().items()}
    work = make(llava, small_benchmark, request_, layers=1)
    work.run()
    after = llava.model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == set(llava.visual_parameters(1))
    assert {name.split(".")[1] for name in changed} == {"vision_tower", "multi_modal_projector"}


def test_only_the_tuned_tensors_take_gradients(llava, small_benchmark, request_):
    make(llava, small_benchmark, request_, layers=1).run()
    taking = {name for name, p in llava.model.named_parameters() if p.requires_grad}
    assert taking == set(llava.visual_parameters(1))


def test_neurons_pruned_below_the_tuned_layers_are_not_cached_away(llava64, small_benchmark, request_):
    llava = see_in_float64(llava64)
    work = make(llava, small_benchmark, request_, pruned_layer=1, layers=2)
    live = llava.features(work.forget.bank.pixels(work.forget.images))
    found = work.looks[0].source.features(work.forget.images)
    assert (found - live).norm() <= 1e-12 * live.norm()
    work.run()
    mlp = llava.tower_mlps()[1]
    assert not mlp.incoming[0].weight[[2, 300]].any()
    assert not mlp.outgoing.weight[:, [2, 300]].any()


def test_answers_by_name_cannot_change(llava, small_benchmark, request_):
    questions = small_benchmark.select(role="eval", modality="qa", task="classification")[:6]
    rows = [llava.prompter.scored(q.prompt, q.options, image=False) for q in questions]
    with torch.no_grad():
        before = plain.option_scores(llava, rows, None)
    make(llava, small_benchmark, request_).run()
    with torch.no_grad():
        assert plain.option_scores(llava, rows, None) == before


class Interrupting:
    """An objective that dies at chosen calls, as a kill would."""

    def __init__(self, objective, stops):
        self.objective, self.stops, self.calls = objective, stops, 0

    def forget(self, outputs):
        if self.calls in self.stops:
            self.stops.remove(self.calls)
            raise KeyboardInterrupt
        self.calls += 1
        return self.objective.forget(outputs)

    def preserve(self, outputs):
        return self.objective.preserve(outputs)


def test_a_run_interrupted_several_times_ends_in_the_same_bits(llava, small_benchmark, request_, tmp_path):
    shape = {"epochs": 3, "batch_forget_images": 1, "questions": 2}
    undisturbed = make(copy_of(llava), small_benchmark, request_, **shape)
    curve = undisturbed.run()
    checkpoints, stops = Checkpoints(tmp_path / "saved.safetensors", seconds=-1), [0, 3, 1]
    resumed_curve = None
    while resumed_curve is None:
        work = make(copy_of(llava), small_benchmark, request_, checkpoints, **shape)
        work = with_objective(work, Interrupting(work.looks[0].objective, stops))
        try:
            resumed_curve = work.run()
        except KeyboardInterrupt:
            continue
    assert stops == []
    assert resumed_curve == curve
    assert len(curve) == 9
    for name, parameter in work.parameters.items():
        assert torch.equal(parameter, undisturbed.parameters[name]), name


def test_every_epoch_sees_every_forget_portrait_once_in_an_order_of_its_own():
    settings, forget, retain = unlearn_settings(batch_forget_images=2), list("abcde"), list("uvwxyz")
    steps = [image_batches(settings, forget, retain, step) for step in range(12)]
    assert steps == [image_batches(settings, forget, retain, step) for step in range(12)]
    orders = [[image for forgotten, _ in steps[i : i + 3] for image in forgotten] for i in range(0, 12, 3)]
    assert all(sorted(order) == forget for order in orders)
    assert len({tuple(order) for order in orders}) == 4
    assert all(len(preserved) == 2 for _, preserved in steps)
    assert steps != [image_batches(unlearn_settings(seed=1), forget, retain, step) for step in range(12)]


def test_masks_that_match_no_live_tensor_stop_the_run(llava, small_benchmark, request_):
    work = make(llava, small_benchmark, request_)
    renamed = SaliencyMask({f"base_model.{n}": m for n, m in work.mask.masks.items()}, 1.0)
    with pytest.raises(UserError, match="does not cover the tunable tensors"):
        replace(work, mask=renamed).run()


def test_a_loss_that_is_no_number_publishes_nothing(llava, small_benchmark, request_):
    work = make(llava, small_benchmark, request_)
    with torch.no_grad():
        llava.projector.linear_1.weight[0, 0] = float("nan")
    with pytest.raises(TrainingFailure, match=r"unlearning: forget_loss became nan at step 1"):
        work.run()


def test_the_retain_set_may_be_smaller_than_its_batches():
    settings = unlearn_settings(batch_forget_images=1, batch_retain_images=5)
    preserved = [image for step in range(3) for image in image_batches(settings, list("abc"), list("xyz"), step)[1]]
    assert {image: preserved.count(image) for image in "xyz"} == {"x": 5, "y": 5, "z": 5}


def test_versions_of_the_portraits_take_turns_each_with_its_own_teacher(llava, small_benchmark, request_):
    work = make(llava, small_benchmark, request_, epochs=3, versions=2)
    asked = []
    for number, look in enumerate(work.looks):
        see = look.source.features
        look.source.features = lambda images, number=number, see=see: (asked.append(number), see(images))[1]
    work.run()
    assert work.steps_per_epoch == 2
    assert asked == [0] * 4 + [1] * 4 + [0] * 4
    first, second = (torch.stack(list(look.objective.teacher.values())) for look in work.looks)
    assert 0 < (first - second).norm() < 0.5 * first.norm()


@pytest.mark.parametrize(("least", "expected"), [(1, 4), (7, 7)])
def test_few_portraits_are_seen_as_often_as_it_takes(llava, small_benchmark, request_, least, expected):
    work = make(llava, small_benchmark, request_, epochs=2, least_steps=least)
    assert len(work.run()) == expected
