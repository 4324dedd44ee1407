"""Training curves in a real store: whatever was trained before a failure is there."""

import pytest
import torch
from mlflow import MlflowClient
from torch import nn

from unsee.errors import TrainingFailure
from unsee.tracking.mlflow import start_parent, step_run
from unsee.training import Optimisation, Training


def test_the_curve_of_a_training_that_fails_is_in_mlflow_up_to_there(store: MlflowClient, monkeypatch):
    monkeypatch.setenv("MLFLOW_RUN_ID", start_parent("run", {}))
    weight = nn.Parameter(torch.ones(1))

    def gradients(step):
        weight.grad = torch.ones(1)
        return {"loss": float("nan") if step == 3 else float(step)}

    with pytest.raises(TrainingFailure), step_run("unlearn") as tracker:
        Training({"weight": weight}, gradients, Optimisation(10, 0.1), "fitting", tracker=tracker).run()
    history = store.get_metric_history(tracker.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(1, 0.0), (2, 1.0), (3, 2.0)]
    assert store.get_run(tracker.run_id).info.status == "FAILED"
