"""Every weight has one place, and places of different modules are not one."""

from collections import defaultdict

from unsee.mllm.places import places


def test_every_parameter_has_a_place_and_tower_llm_projector_and_embeddings_are_apart(llava):
    found = defaultdict(set)
    for name, place in places(llava).items():
        found[place].add(name)
    parameters = dict(llava.model.named_parameters())
    assert set().union(*found.values()) == parameters.keys()
    for index in range(4):
        tower, llm = f"model.vision_tower.encoder.layers.{index}.", f"model.language_model.layers.{index}."
        assert found[f"Tower layer {index}"] == {name for name in parameters if name.startswith(tower)}
        assert found[f"LLM layer {index}"] == {name for name in parameters if name.startswith(llm)}
    assert found["Projector"] == {name for name in parameters if "multi_modal_projector" in name}
    embeddings = "model.language_model.embed_tokens.weight"
    assert embeddings in found["LLM outside its layers"]
    assert found["Output layer"] == {"lm_head.weight"} & parameters.keys()
    assert all("vision_tower" in name for name in found["Tower outside its layers"])
