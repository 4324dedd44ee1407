"""`--preset auto`: what models of 100 million parameters and more get beside a preset, and what a file says stays."""

import json

import pytest
import torch
from tiny_families import TINY

from unsee.errors import UserError
from unsee.mllm import checkpoint
from unsee.plan import auto, plan
from unsee.settings import load_settings

WIDE = {"hidden_size": 2048, "intermediate_size": 8192, "num_attention_heads": 16, "head_dim": 128}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The folder of a LLaVA of 200 million parameters, without its weights."""
    folder = tmp_path_factory.mktemp("auto") / "model"
    checkpoint.save_full(TINY["llava"](), folder)
    (folder / "model.safetensors").unlink()
    config = json.loads((folder / "config.json").read_text())
    config["text_config"] |= {**WIDE, "num_hidden_layers": 3}
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


def test_it_takes_the_machine_s_threads_and_keeps_activations(model, small_benchmark):
    preset, own = auto.Asked(model, small_benchmark.directory).preset()
    settings = load_settings(preset, assignments=own)
    assert preset == "llava-1.5-7b-mllmu"
    assert settings.unlearn.compute.threads == torch.get_num_threads()
    assert not settings.vanilla.compute.checkpointing


def test_what_a_file_of_settings_says_stays(model, small_benchmark, tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text("{compute: {threads: 7, checkpointing: true}, prune: {layers: 2}}")
    preset, own = auto.Asked(model, small_benchmark.directory, config=file).preset()
    settings = load_settings(preset, config=file, assignments=own)
    assert (settings.prune.layers, settings.unlearn.layers) == (2, 1)
    assert (settings.vanilla.compute.threads, settings.vanilla.compute.checkpointing) == (7, True)


def test_activations_are_computed_twice_where_there_is_no_memory_to_keep_them(model, small_benchmark, monkeypatch):
    made = []

    def planned(*given, **more):
        made.append(plan(*given, only=["build-vanilla"], **more))
        return made[-1]

    monkeypatch.setattr(auto, "plan", planned)
    monkeypatch.setattr(auto, "free_on", lambda _: auto.LOW_RANK * made[0].steps["build-vanilla"].peak_device_bytes - 2)
    many = ("vanilla.batch_questions=32", "vanilla.micro_batch_questions=32")
    preset, assignments = auto.Asked(model, small_benchmark.directory, assignments=many).fitting()
    assert [found.compute["checkpointing"] for found in made] == [False, True]
    assert load_settings(preset, assignments=assignments).vanilla.compute.checkpointing


def test_training_low_rank_additions_on_the_cpu_must_have_more_than_planned(model, small_benchmark, monkeypatch):
    made = []

    def planned(*given, **more):
        made[:] = made or [plan(*given, only=["build-vanilla", "collect-statistics"], **more)]
        return made[0]

    def free(_device):
        return 1.5 * made[0].steps["build-vanilla"].peak_device_bytes

    monkeypatch.setattr(auto, "plan", planned)
    monkeypatch.setattr(auto, "free_on", free)
    with pytest.raises(UserError, match="does not fit: the step build-vanilla needs") as refused:
        auto.Asked(model, small_benchmark.directory).fitting()
    steps = made[0].steps
    assert (steps["build-vanilla"].low_rank, steps["collect-statistics"].low_rank) == (True, False)
    assert f"needs {1.75 * steps['build-vanilla'].peak_device_bytes / 2**30:.1f} GiB" in str(refused.value)
