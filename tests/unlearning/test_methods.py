"""Every method's losses and one update against a few lines on transformers' stock forward, in float64."""

import math
import weakref
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from float64_pixels import see_in_float64
from unlearning_work import copy_of

from unsee.bench import plain
from unsee.errors import UserError
from unsee.mllm import checkpoint
from unsee.mllm.augmentation import augmented
from unsee.mllm.packing import pack_training
from unsee.tracking import NoTracker
from unsee.training import Checkpoints, Optimisation, Training
from unsee.unlearning import method as methods
from unsee.unlearning import references
from unsee.unlearning.methods.manu import activation_measures
from unsee.unlearning.references import AnswerDistributions, AnswerLosses
from unsee.unlearning.trainer import Unlearning

ALL = {"batch_forget_images": 3, "batch_retain_images": 3, "batch_people": 1, "clip": 1e9}
RATE, ADAM_EPSILON = 1e-3, 1e-8
INSTRUCTION = "You do not know {name}."


EACH_FAMILY = pytest.mark.parametrize("family", ["llava", "qwen2_vl"])


@pytest.fixture
def family():
    return "llava"


@pytest.fixture
def vanilla(mllm64):
    return see_in_float64(mllm64)


@pytest.fixture
def student(vanilla):
    return copy_of(vanilla)


def disturb(mllm):
    """Move away from vanilla, as some steps of training would."""
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for parameter in mllm.model.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)


def stock_logs(mllm, rendered, pixels):
    """log p of every token at the answer tokens of one question [T, V], by the stock forward on a row of its own."""
    ids = torch.tensor([rendered.prompt + rendered.answers[0]])
    inputs = mllm.model_inputs(ids, None if pixels is None else pixels[None])
    logits = mllm.model(**inputs, use_cache=False).logits[0]
    return logits[len(rendered.prompt) - 1 : -1].log_softmax(dim=-1)


def mean_over(rows, of, mllm, pixels_of):
    """Mean over questions, then rows, of `of(log-probabilities [T, V], answer ids [T])`."""
    means = []
    for key, questions in rows.rows.items():
        pixels = pixels_of(key) if rows.see else None
        values = [of(stock_logs(mllm, q, pixels), torch.tensor(q.answers[0]), key, q) for q in questions]
        means.append(torch.stack(values).mean())
    return torch.stack(means).mean()


class Reference:
    """The formulas. `student` has moved, `vanilla` has not."""

    def __init__(self, work, vanilla):
        self.work, self.vanilla, self.student = work, vanilla, work.mllm

    def pixels(self, key):
        return self.work.bank.pixels([key])[0]

    def loss(self, rows):
        return mean_over(rows, lambda log, ids, *_: F.nll_loss(log, ids), self.student, self.pixels)

    def kl(self, rows):
        def of(log, _ids, key, question):
            with torch.no_grad():
                wanted = stock_logs(self.vanilla, question, self.pixels(key) if rows.see else None)
            return (wanted.exp() * (wanted - log)).sum(dim=1).mean()

        return mean_over(rows, of, self.student, self.pixels)

    def npo(self, rows, beta):
        def of(log, ids, key, question):
            with torch.no_grad():
                before = stock_logs(self.vanilla, question, self.pixels(key)).gather(1, ids[:, None]).sum()
            ratio = log.gather(1, ids[:, None]).sum() - before
            return -2 / beta * F.logsigmoid(-beta * ratio)

        return mean_over(rows, of, self.student, self.pixels)


def zero(reference):
    return 0 * sum(p.sum() for p in reference.student.model.parameters())


# method -> settings, forgetting and preserving total by the formula
FORMULAS = {
    "ga": ({}, lambda r, w: -r.loss(w.forget), lambda r, _: zero(r)),
    "ga_diff": ({}, lambda r, w: -r.loss(w.forget), lambda r, w: r.loss(w.retain) + r.loss(w.retain_by_name)),
    "kl_min": ({}, lambda r, w: -r.loss(w.forget), lambda r, w: r.kl(w.retain) + r.kl(w.retain_by_name)),
    "kl_min, both": (
        {"forget_term": "kl"},
        lambda r, w: -r.kl(w.forget),
        lambda r, w: r.kl(w.retain) + r.kl(w.retain_by_name),
    ),
    "npo": ({"beta": 0.4}, lambda r, w: r.npo(w.forget, 0.4), lambda r, _: zero(r)),
    "npo_retain": (
        {"beta": 0.9},
        lambda r, w: r.npo(w.forget, 0.9),
        lambda r, w: r.loss(w.retain) + r.loss(w.retain_by_name),
    ),
    "ga_diff, vision": ({"scope": "vision"}, lambda r, w: -r.loss(w.forget), lambda r, w: r.loss(w.retain)),
}


def together(work):
    return Unlearning.of(work, Checkpoints(), NoTracker())


def assert_gradients(unlearning, expected):
    for name, parameter in unlearning.parameters.items():
        wanted = expected[name]
        found = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        wanted = torch.zeros_like(parameter) if wanted is None else wanted
        assert (found - wanted).norm() <= 1e-8 * max(float(wanted.norm()), 1e-6), name


def assert_one_update(unlearning, expected):
    """The gradients, and where AdamW's first step leads: the learning rate against every gradient's sign."""
    assert_gradients(unlearning, expected)
    before = {name: parameter.detach().clone() for name, parameter in unlearning.parameters.items()}
    Training(unlearning.parameters, unlearning.gradients, Optimisation(1, RATE), "one update").run()
    for name, parameter in unlearning.parameters.items():
        gradient = torch.zeros_like(parameter) if expected[name] is None else expected[name]
        step = RATE * gradient / (gradient.abs() + ADAM_EPSILON)
        torch.testing.assert_close(parameter.detach(), before[name] - step, rtol=0, atol=1e-4 * RATE)


def gradients_of(total, parameters):
    found = torch.autograd.grad(total, list(parameters.values()), allow_unused=True)
    return dict(zip(parameters, found, strict=True))


@EACH_FAMILY
@pytest.mark.parametrize("name", FORMULAS)
def test_losses_gradients_and_an_update_are_those_of_the_formula(vanilla, student, make_work, name):
    changes, forgetting, preserving = FORMULAS[name]
    work = make_work(student, name.partition(",")[0], questions=2, **ALL, **changes)
    unlearning = together(work)
    disturb(student)
    losses = unlearning.gradients(0)
    reference = Reference(work, vanilla)
    forget, preserve = forgetting(reference, work), preserving(reference, work)
    for forgets, expected in ((True, forget), (False, preserve)):
        found = sum(t.weight * losses[f"{t.name}_loss"] for t in unlearning.terms[0] if t.forgets == forgets)
        assert found == pytest.approx(float(expected.detach()))
    assert_one_update(unlearning, gradients_of(forget + preserve, unlearning.parameters))


@EACH_FAMILY
def test_mmunlearner_masks_the_ascent_by_the_fisher_ratio_of_every_named_parameter(vanilla, student, make_work):
    work = make_work(student, "mmunlearner", questions=2, **ALL, mask={"fraction": 0.3}, alpha=2.0)
    unlearning = together(work)
    assert unlearning.mask.masks.keys() == dict(student.model.named_parameters()).keys()
    reference = Reference(work, vanilla)
    forget = gradients_of(-2.0 * reference.loss(work.forget), unlearning.parameters)
    others = [work.forget_by_name, work.retain, work.retain_by_name]
    preserve = gradients_of(sum(reference.loss(rows) for rows in others), unlearning.parameters)
    expected = {}
    for name, parameter in unlearning.parameters.items():
        nothing = torch.zeros_like(parameter)
        masked = (forget[name] if forget[name] is not None else nothing) * unlearning.mask.masks[name].unpack()
        expected[name] = masked + (preserve[name] if preserve[name] is not None else nothing)
    unlearning.gradients(0)
    assert_one_update(unlearning, expected)


@pytest.mark.parametrize("unit", ["image", "question"])
def test_mmunlearner_s_mask_is_the_ratio_of_mean_squared_gradients_per_sample(student, make_work, unit):
    work = replace(make_work(student, "mmunlearner", questions=2, **ALL, mask={"value": 1.0}), fisher_unit=unit)
    mask = together(work).mask
    reference = Reference(work, student)

    def fisher(rows):
        total = {name: torch.zeros_like(p) for name, p in student.model.named_parameters()}
        samples = list(rows.rows.items())
        if unit == "question":
            samples = [(key, [question]) for key, questions in samples for question in questions]
        for key, questions in samples:
            one = type("One", (), {"rows": {key: questions}, "see": rows.see})
            for name, g in gradients_of(reference.loss(one), dict(student.model.named_parameters())).items():
                total[name] += 0 if g is None else g.square()
        return {name: t / len(samples) for name, t in total.items()}

    forget = fisher(work.forget)
    others = [fisher(rows) for rows in (work.forget_by_name, work.retain, work.retain_by_name)]
    for name, packed in mask.masks.items():
        ratio = forget[name] / sum(other[name] for other in others)
        felt = forget[name] > 1e-24  # a key's bias, say, has no gradient but rounding
        assert not felt.any() or (packed.unpack() == (ratio >= 1.0))[felt].float().mean() > 0.9999, name


def teacher_of(work, version=0):
    """The distributions VGID imitates on a version of the portraits, [T, V] over all forget rows."""
    unlearning = together(work)
    (term,) = [term for term in unlearning.terms[version] if term.forgets]
    reference = term.loss.args[0]
    assert isinstance(reference, AnswerDistributions)
    return reference(work.forget.forward(work.forget.keys))


def noised_by_hand(portrait, noise, generator):
    if noise == "gaussian":
        return portrait + 0.5 * portrait.std() * torch.randn(portrait.shape, generator=generator)
    return portrait.min() + (portrait.max() - portrait.min()) * torch.rand(portrait.shape, generator=generator)


@pytest.mark.parametrize("noise", ["gaussian", "uniform"])
@pytest.mark.parametrize("version", [0, 1])
def test_vgid_s_teacher_is_vanilla_on_noised_portraits_with_the_instruction_before_the_question(
    student, make_work, monkeypatch, noise, version
):
    """Each portrait noised on its own scale, whichever others are looked at beside it."""
    monkeypatch.setattr(references, "CHUNK", 2)
    settings = {"instruction": INSTRUCTION, "noise": noise, "noise_level": 0.5, "draws": 2, "versions": 2}
    work = make_work(student, "vgid", questions=2, **ALL, **settings)
    found = teacher_of(work, version).exp()
    keys, shares = work.forget.keys, []
    assert len(keys) == 3
    for draw in range(2):
        generator = torch.Generator().manual_seed(work.settings.seed + draw)
        shown = augmented(work.bank, work.settings.seed, version)(keys)
        noised = torch.stack([noised_by_hand(portrait, noise, generator) for portrait in shown])
        rows = []
        for question in work.benchmark.select(role="train", modality="vqa"):
            if question.entity_id in work.request.forget:
                prompt = f"You do not know {question.entity_name}. {question.prompt}"
                rendered = student.prompter.trained(prompt, question.answer, image=True)
                rows.append(stock_logs(student, rendered, noised[keys.index(question.image)]).exp())
        shares.append(torch.cat(rows))
    torch.testing.assert_close(found, (shares[0] + shares[1]) / 2, rtol=1e-6, atol=1e-9)


def test_removing_either_intervention_changes_vgid_s_teacher(student, make_work):
    def teacher(**changes):
        return teacher_of(make_work(student, "vgid", questions=2, **ALL, **changes)).exp()

    plain_answers = teacher(instruction="", noise="none")
    both, seen, told = teacher(), teacher(noise="none"), teacher(instruction="")
    work_rows = make_work(student, "ga", questions=2, **ALL).forget
    vanilla = AnswerDistributions.of(student.head, work_rows)
    torch.testing.assert_close(plain_answers, vanilla(work_rows.forward(work_rows.keys)).exp())
    for one, other in ((both, seen), (both, told), (seen, told), (both, plain_answers), (seen, plain_answers)):
        assert (one - other).abs().sum(dim=1).mean() > 1e-2


def test_vgid_tells_what_its_teacher_still_knows_with_neither_intervention_with_each_and_with_both(student, make_work):
    work = make_work(student, "vgid", questions=2, **ALL, instruction=INSTRUCTION, noise_level=3.0, draws=1)
    asked = [
        question
        for question in work.benchmark.select(role="eval", modality="vqa", view="train", task="classification")
        if question.entity_id in work.request.forget
    ]

    def right(question, told, noised):
        generator = torch.Generator().manual_seed(work.settings.seed)
        portraits = dict.fromkeys(asked_of.image for asked_of in asked)
        shown = work.bank.pixels(list(portraits))
        noise = torch.stack([3.0 * p.std() * torch.randn(p.shape, generator=generator) for p in shown])
        pixels = dict(zip(portraits, shown + noise if noised else shown, strict=True))
        prompt = f"You do not know {question.entity_name}. {question.prompt}" if told else question.prompt
        logs = []
        for option in question.options:
            rendered = student.prompter.scored(prompt, [option], image=True)
            found = stock_logs(student, rendered, pixels[question.image])
            logs.append(found.gather(1, torch.tensor(rendered.answers[0])[:, None]).mean())
        return int(torch.stack(logs).argmax()) == question.answer_index

    interventions = {
        "neither": (False, False),
        "noise": (False, True),
        "instruction": (True, False),
        "both": (True, True),
    }
    assert together(work).told == {
        f"teacher_accuracy/{name}": pytest.approx(sum(right(q, *which) for q in asked) / len(asked))
        for name, which in interventions.items()
    }


@EACH_FAMILY
def test_vgid_distils_on_forget_portraits_and_holds_vanilla_on_what_stays(vanilla, student, make_work):
    work = make_work(student, "vgid", questions=2, **ALL, forget_weight=2.0, retain_weight=0.5)
    unlearning, wanted = together(work), teacher_of(work)
    disturb(student)
    losses = unlearning.gradients(0)
    outputs = work.forget.forward(work.forget.keys)
    tokens = (wanted.exp() * (wanted - outputs.log_probabilities)).sum(dim=1)
    forget, reference = outputs.mean(outputs.question_means(tokens)), Reference(work, vanilla)
    retain, by_name = reference.kl(work.retain), reference.kl(work.retain_by_name)
    for name, expected in (("forget", forget), ("retain", retain), ("retain_by_name", by_name)):
        assert losses[f"{name}_loss"] == pytest.approx(float(expected.detach()))
    assert_one_update(unlearning, gradients_of(2.0 * forget + 0.5 * (retain + by_name), unlearning.parameters))


@pytest.mark.parametrize("name", ["kl_min", "vgid"])
@pytest.mark.parametrize("scope", ["full", "vision"])
def test_all_references_share_one_output_layer_that_is_copied_only_where_it_is_trained(student, make_work, name, scope):
    unlearning = together(make_work(student, name, questions=1, **ALL, scope=scope, versions=2))
    references_taken = [term.loss.args[0] for terms in unlearning.terms for term in terms if hasattr(term.loss, "args")]
    assert len(references_taken) >= 2
    (head,) = {id(reference.head): reference.head for reference in references_taken}.values()
    assert (head is student.head) == (scope == "vision")
    before = head.weight.clone()
    disturb(student)
    assert torch.equal(head.weight, before) == (scope == "full")


@pytest.fixture
def retrained(vanilla, tmp_path):
    """Another model in float32, saved in tmp_path / "retrained"."""
    other = copy_of(vanilla)
    disturb(other)
    other.model.float()
    checkpoint.save_full(other, tmp_path / "retrained")
    return other


def test_npo_s_reference_may_be_the_retrained_model(retrained, student, make_work, tmp_path):
    changes = {"reference": "retrained", "retrained": tmp_path / "retrained", "versions": 2}
    work = make_work(student, "npo", questions=2, **ALL, **changes)
    for version, rows in enumerate(work.forget_seen_by("retrained")):
        found, pixels = AnswerLosses.of(rows), augmented(work.bank, work.settings.seed, version)
        for key, questions in work.forget.rows.items():
            for value, question in zip(found.losses[key], questions, strict=False):
                logs = stock_logs(retrained, question, pixels([key])[0].float())
                expected = -logs.gather(1, torch.tensor(question.answers[0])[:, None]).sum()
                assert float(value) == pytest.approx(float(expected), rel=1e-4)
    with pytest.raises(UserError, match="there is no retrained model"):
        replace(work, retrained=None).forget_seen_by("retrained")


def test_the_retrained_model_is_loaded_once_for_all_versions_and_gone_before_training(
    retrained, student, make_work, tmp_path, monkeypatch
):
    loaded, load = [], checkpoint.load_full

    def watched(path, compute):
        loaded.append(weakref.ref(made := load(path, compute)))
        return made

    monkeypatch.setattr(checkpoint, "load_full", watched)
    changes = {"reference": "retrained", "retrained": tmp_path / "retrained", "versions": 2}
    unlearning = together(make_work(student, "npo", questions=2, **ALL, **changes))
    assert len(unlearning.terms) == 2
    assert [model() for model in loaded] == [None]


def test_each_version_s_npo_is_measured_against_vanilla_on_the_same_version(student, make_work):
    """Nothing has changed yet: the ratio is 1 on each."""
    unlearning = together(make_work(student, "npo", questions=2, **ALL, versions=2, beta=0.4))
    for (term,) in unlearning.terms:
        found = float(term.loss(term.rows.forward(term.rows.keys)).detach())
        assert found == pytest.approx(2 / 0.4 * math.log(2))


def test_retraining_takes_the_retrained_model_s_weights(retrained, student, make_work, tmp_path):
    work = make_work(student, "retrain", retrained=tmp_path / "retrained")
    assert together(work).run() == []
    for name, tensor in student.model.state_dict().items():
        torch.testing.assert_close(tensor.float(), retrained.model.state_dict()[name], rtol=0, atol=0)
    with pytest.raises(UserError, match="needs the retrained model"):
        together(replace(work, retrained=None))


@EACH_FAMILY
def test_manu_s_measures_are_those_of_the_stock_forward(student, make_work):
    rows = make_work(student, "manu", questions=2, **ALL).forget
    mlps = student.tower_mlps()
    found = activation_measures(mlps, rows)
    seen = {}
    hooks = [m.outgoing.register_forward_pre_hook(lambda _, x, i=m.layer: seen.setdefault(i, x[0])) for m in mlps]
    for mlp in mlps:
        expected = torch.zeros_like(found[mlp.layer])
        for key in rows.keys:
            seen.clear()
            plain.features(student, rows.bank.pixels([key]))
            z = seen[mlp.layer].flatten(0, -2)
            share = (z > 0).to(z.dtype).mean(dim=0)
            expected += torch.stack([z.abs().mean(0), share, z.var(0, unbiased=False), z.pow(2).mean(0).sqrt()])
        torch.testing.assert_close(found[mlp.layer], (expected / len(rows.keys)).detach())
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize("asked", ["forget", "forget_by_name"])
def test_manu_s_measures_of_every_llm_layer_are_those_of_the_stock_forward_over_all_tokens(student, make_work, asked):
    rows = getattr(make_work(student, "manu", questions=2, **ALL), asked)
    mlps, seen = student.llm_mlps(), {}
    found = activation_measures(mlps, rows)
    hooks = [m.outgoing.register_forward_pre_hook(lambda _, x, i=m.layer: seen.setdefault(i, x[0])) for m in mlps]
    of_rows = {mlp.layer: [] for mlp in mlps}
    for key in rows.keys:
        prefix = len(pack_training([rows.rows[key]], student.pad).prefix)
        pixels = rows.bank.pixels([key]) if rows.see else None
        tokens = {mlp.layer: [] for mlp in mlps}
        for number, question in enumerate(rows.rows[key]):
            seen.clear()
            ids = torch.tensor([question.prompt + question.answers[0][:-1]])
            student.model(input_ids=ids, pixel_values=pixels, use_cache=False)
            for layer, z in seen.items():
                tokens[layer].append(z[0, prefix if number else 0 :])
        for layer, z in ((layer, torch.cat(parts)) for layer, parts in tokens.items()):
            share = (z > 0).to(z.dtype).mean(dim=0)
            of_rows[layer].append(
                torch.stack([z.abs().mean(0), share, z.var(0, unbiased=False), z.pow(2).mean(0).sqrt()])
            )
    for hook in hooks:
        hook.remove()
    for layer, expected in of_rows.items():
        torch.testing.assert_close(found[layer], torch.stack(expected).mean(dim=0).to(found[layer]).detach())


@EACH_FAMILY
def test_manu_prunes_the_asked_share_of_tower_and_llm_neurons_and_trains_nothing(student, make_work):
    work = make_work(student, "manu", questions=2, **ALL, fraction=0.1, layers=1)
    before = {name: tensor.clone() for name, tensor in student.model.state_dict().items()}
    unlearning = together(work)
    assert unlearning.run() == []
    for part, mlps in {"Tower": student.tower_mlps(), "LLM": student.llm_mlps()}.items():
        gone = torch.cat([(mlp.outgoing.weight == 0).all(dim=0) for mlp in mlps])
        assert torch.equal(torch.cat([unlearning.pruned[part][mlp.layer] for mlp in mlps]), gone)
        assert float(gone.float().mean()) == pytest.approx(0.1, abs=0.01)
        for mlp in mlps:
            dead = (mlp.outgoing.weight == 0).all(dim=0)
            assert not any(bool(linear.weight[dead].any()) for linear in mlp.incoming)
    after = student.model.state_dict()
    assert {n.split(".")[-2] for n in before if not torch.equal(before[n], after[n])} <= {
        "fc1", "fc2", "gate_proj", "up_proj", "down_proj",
    }  # fmt: skip


ORDERS = ("prune_then_mask", "mask_then_prune", "parallel", "never")


@pytest.mark.parametrize("order", ORDERS)
def test_the_orders_of_pruning_and_masked_fine_tuning(mllm, make, order):
    started = copy_of(mllm)
    work = make(mllm, order=order, epochs=2)
    mlp = mllm.tower_mlps()[3]
    assert bool(mlp.outgoing.weight[:, [2, 300]].any()) == (order != "prune_then_mask")
    work.run()
    told = {layer: gone.nonzero().flatten().tolist() for layer, gone in work.pruned.get("Tower", {}).items()}
    weight, vanilla = mlp.outgoing.weight[:, [2, 300]], started.tower_mlps()[3].outgoing.weight[:, [2, 300]]
    if order == "prune_then_mask":
        assert told == {3: [2, 300]}
        assert not weight.any()
    elif order == "never":
        assert work.pruned == {}
        assert (weight - vanilla).abs().max() < 0.1 < vanilla.abs().max()
    elif order == "parallel":
        assert told == {3: [2, 300]}
        assert 0 < weight.abs().max() < 0.1 < vanilla.abs().max()
    else:
        gone = torch.cat([(m.outgoing.weight == 0).all(dim=0) for m in mllm.tower_mlps(2)])
        assert torch.equal(torch.cat([work.pruned["Tower"][layer] for layer in (2, 3)]), gone)
        assert float(gone.float().mean()) == pytest.approx(0.1, abs=0.01)


def test_without_beta_there_is_no_teacher_and_without_mask_none(mllm, make):
    work = make(mllm, beta=0.0, mask=None)
    assert [term.name for term in work.terms[0]] == ["forget", "retain"]
    assert work.mask is None


def test_every_module_is_a_method_and_unknown_ones_are_told():
    assert {methods.find(name).__module__.rpartition(".")[2] for name in methods.names()} == set(methods.names())
    with pytest.raises(UserError, match=r"method 'forgetting' is unknown; choose one of ga, ga_diff, kl_min"):
        methods.find("forgetting")
