"""Every family's weights are read under the names that its model has for them."""

import torch

from unsee.mllm import checkpoint
from unsee.mllm.stored import changed, weights


def test_a_folder_s_tensors_are_found_by_the_model_s_names(mllm, tmp_path):
    checkpoint.save_full(mllm, tmp_path)
    own = mllm.model.state_dict()
    stored = dict(weights(tmp_path, mllm.model))
    assert all(torch.equal(tensor, own[name]) for name, tensor in stored.items())
    places = {tensor.data_ptr() for tensor in own.values()}
    assert {own[name].data_ptr() for name in stored} == places
    assert not changed(mllm.model, tmp_path)


def test_what_changed_is_found_by_the_model_s_names_tied_tensors_by_all_of_theirs(mllm, tmp_path):
    checkpoint.save_full(mllm, tmp_path)
    with torch.no_grad():
        mllm.language_model.get_input_embeddings().weight[0] += 1
        next(iter(mllm.visual_parameters(None).values())).add_(1)
    found, own = changed(mllm.model, tmp_path), mllm.model.state_dict()
    embedding = mllm.language_model.get_input_embeddings().weight.data_ptr()
    tied = {name for name, tensor in own.items() if tensor.data_ptr() == embedding}
    assert found.keys() == {*tied, next(iter(mllm.visual_parameters(None)))}
    assert all(torch.equal(tensor, own[name]) for name, tensor in found.items())


def test_in_bfloat16_nothing_has_changed_before_training(mllm, tmp_path):
    checkpoint.save_full(mllm, tmp_path)
    mllm.model.to(torch.bfloat16)
    assert not changed(mllm.model, tmp_path)
