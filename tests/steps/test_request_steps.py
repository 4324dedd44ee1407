"""From an inbox to a champion, a journal and certificates: the steps of the continual pipeline, one after another."""

import json

import pytest
from made_run import Accuracies, make_run
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from unsee.errors import UserError
from unsee.requests import inbox, turn
from unsee.requests.journal import Journal
from unsee.requests.turn import Turn
from unsee.steps import answer_requests, claim_requests, match_requests
from unsee.storage import artifact
from unsee.storage.transfer import download
from unsee.tracking import NoTracker
from unsee.tracking.mlflow import start_parent

KEPT = Accuracies(0.26, 0.96, 0.97)
REMEMBERED = Accuracies(0.9, 0.96, 0.97)


@pytest.fixture
def client(database, monkeypatch):
    monkeypatch.delenv("KFP_RUN_ID", raising=False)
    monkeypatch.setenv("MLFLOW_RUN_ID", start_parent("continual", {}))
    return MlflowClient()


@pytest.fixture
def place(tmp_path, monkeypatch, client):
    """A store, which models are uploaded to as well."""
    root = (tmp_path / "store").as_uri()
    monkeypatch.setenv("UNSEE_STORE", root)
    return root


def outcomes(root):
    return {name: answer.outcome for name, answer in Turn.of(Journal(root).read()).answers.items()}


def champion(client):
    try:
        return str(client.get_model_version_by_alias("unsee-embedded", "champion").version)
    except MlflowException:
        return None


class Run:
    """A pipeline run over made artifacts, whose unlearned model is as accurate as told."""

    def __init__(self, root, run_id, folder, unlearned=KEPT):
        self.root, self.run_id, self.folder = root, run_id, folder
        self.made = make_run(folder / "made", unlearned=unlearned, with_retrained=False, seed=len(run_id))

    def claim(self, *, retry=False):
        return claim_requests.run(self.root, self.run_id, retry=retry)

    def match(self):
        self.forget = match_requests.run(
            self.root, self.run_id, self.made["benchmark"], self.folder / "batch", NoTracker()
        )
        return self.forget

    def answer(self):
        given = ("settings", "benchmark", "statistics", "pruning", "evaluations")
        return answer_requests.run(
            root=self.root,
            run_id=self.run_id,
            preset="embedded",
            batch=self.folder / "batch",
            forget=self.forget,
            models={name: self.made[name] for name in ("vanilla", "unlearned")},
            uris={"vanilla": "", "unlearned": ""},
            out=self.folder / "answers",
            tracker=NoTracker(),
            **{name: self.made[name] for name in given},
        )

    def whole(self):
        self.claim()
        self.match()
        self.answer()
        turn.end(self.root, self.run_id)


def test_what_is_honoured_moves_the_champion_and_is_certified_and_recorded(place, client, ask, tmp_path):
    ask(place, "one", "person-00")
    ask(place, "two", "person-01", "person-02", "nobody")
    run = Run(place, "run-1", tmp_path)
    assert run.claim() == 2
    assert run.match() == ["person-00", "person-01", "person-02"]
    assert run.answer()["honoured_requests"] == 2
    found = Turn.of(Journal(place).read()).answers
    assert {name: (a.outcome, a.people) for name, a in found.items()} == {
        "one": ("honoured", ("person-00",)),
        "two": ("honoured", ("person-01", "person-02")),
    }
    version = client.get_model_version_by_alias("unsee-embedded", "champion")
    digest = artifact.read(run.made["unlearned"], "model").digest
    assert version.tags["sha256"] == found["one"].model_sha256 == digest
    assert found["one"].model == f"models:/unsee-embedded/{version.version}"
    download(found["two"].certificate, tmp_path / "certificate", "certificate")
    certified = json.loads((tmp_path / "certificate/certificate.json").read_text())
    assert [person["id"] for person in certified["people"]] == ["person-01", "person-02"]
    assert certified["missing"] == ["nobody in the benchmark has the id nobody"]
    assert certified["follows"]["sha256"] == Journal(place).read()[0].digest
    assert certified["models"]["unlearned"]["sha256"] == digest
    turn.verify(place)
    together = json.loads((tmp_path / "answers/answers.json").read_text())
    assert [person["id"] for person in together["people"]] == run.forget
    parent = client.get_run(client.search_runs(["1"])[0].info.run_id).data
    assert parent.metrics["honoured_requests"] == 2


def test_what_does_not_meet_the_requirements_leaves_the_champion_and_says_why(place, client, ask, tmp_path):
    ask(place, "one", "person-00", "person-01", "person-02", "person-03")
    Run(place, "run-1", tmp_path / "1").whole()
    before = champion(client)
    ask(place, "two", "person-04")
    Run(place, "run-two", tmp_path / "2", REMEMBERED).whole()
    assert champion(client) == before
    assert outcomes(place) == {"one": "honoured", "two": "not_honoured"}
    reason = Turn.of(Journal(place).read()).answers["two"].reason
    assert "answers about the forgotten are as by guessing" in reason
    assert "points above guessing" in reason
    page = (tmp_path / "2/answers/answers.html").read_text()
    assert "not known to be forgotten" in page


def test_everybody_who_asked_before_is_in_the_forget_set_and_measured_again(place, client, ask, tmp_path):
    ask(place, "one", "person-02")
    Run(place, "run-1", tmp_path / "1").whole()
    ask(place, "two", "person-00")
    second = Run(place, "run-2", tmp_path / "2")
    second.whole()
    assert second.forget == ["person-00", "person-02"]
    together = json.loads((tmp_path / "2/answers/answers.json").read_text())
    assert [person["id"] for person in together["people"]] == ["person-00", "person-02"]


def test_what_is_about_nobody_is_answered_at_once_and_nobody_is_to_be_forgotten(place, client, ask, tmp_path):
    ask(place, "one", "nobody")
    inbox.inbox(place).write("two.json", b"{}")
    run = Run(place, "run-1", tmp_path)
    assert run.claim() == 2
    assert run.match() == []
    assert outcomes(place) == {"one": "unmatched", "two": "invalid"}
    assert champion(client) is None


def test_without_the_photographs_of_those_who_asked_before_nothing_is_unlearned(place, client, ask, tmp_path):
    ask(place, "one", "person-05")
    Run(place, "run-1", tmp_path / "1").whole()
    ask(place, "two", "person-00")
    run = Run(place, "run-2", tmp_path / "2")
    run.made = make_run(tmp_path / "3", sizes={"forget": 2, "retain": 3}, with_retrained=False)
    run.claim()
    with pytest.raises(UserError, match="lacks person-05, who asked to be forgotten earlier"):
        run.match()
    assert not (tmp_path / "2/batch").exists()


def test_a_request_that_changed_after_it_was_claimed_is_not_followed(place, client, ask, tmp_path):
    ask(place, "one", "person-00")
    run = Run(place, "run-1", tmp_path)
    run.claim()
    inbox.inbox(place).write("one.json", inbox.inbox(place).read("one.json").replace(b"person-00", b"person-01"))
    with pytest.raises(UserError, match="request one was changed"):
        run.match()


def test_a_step_that_dies_while_answering_is_taken_up_again(place, client, ask, tmp_path, monkeypatch):
    ask(place, "one", "person-00")
    run = Run(place, "run-1", tmp_path)
    run.claim()
    run.match()
    with monkeypatch.context() as patch:
        patch.setattr(answer_requests, "answer", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run.answer()
    assert outcomes(place) == {}
    assert champion(client) == "2"
    run.answer()
    assert outcomes(place) == {"one": "honoured"}
    assert champion(client) == "2"


def test_where_mlflow_fails_last_the_second_attempt_tells_of_the_certificates_that_are_recorded(
    place, client, ask, tmp_path, monkeypatch
):
    ask(place, "one", "person-00")
    run = Run(place, "run-1", tmp_path)
    run.claim()
    run.match()
    with monkeypatch.context() as patch:
        patch.setattr(answer_requests, "log_to_parent", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run.answer()
    run.answer()
    recorded = Turn.of(Journal(place).read()).answers["one"].certificate
    assert json.loads((tmp_path / "answers/answers.json").read_text())["certificates"] == {"one": recorded}


def test_a_run_that_has_ended_moves_no_champion(place, client, ask, tmp_path):
    ask(place, "one", "person-00")
    run = Run(place, "run-1", tmp_path)
    run.claim()
    run.match()
    turn.end(place, "run-1")
    with pytest.raises(UserError, match="run run-1 has no claim"):
        run.answer()
    assert champion(client) is None


def test_where_nothing_is_tracked_nothing_is_claimed_for_long(place, ask, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.delenv("MLFLOW_RUN_ID")
    ask(place, "one", "person-00")
    with pytest.raises(UserError, match="MLFLOW_TRACKING_URI is not set"):
        claim_requests.run(place, "run-1", retry=False)
    assert Turn.of(Journal(place).read()).run is None


def test_real_models_are_answered_with_a_reference_beside_them(place, client, ask, tiny_run, tmp_path):
    ask(place, "one", "P001", "P002")
    assert claim_requests.run(place, "run-1", retry=False) == 1
    forget = match_requests.run(place, "run-1", tiny_run["benchmark"], tmp_path / "batch", NoTracker())
    sections = ("vanilla", "statistics", "prune", "unlearn", "evaluation")
    models = ("vanilla", "retrained", "unlearned")
    answer_requests.run(
        root=place,
        run_id="run-1",
        preset="embedded",
        settings={name: getattr(tiny_run.settings, name).model_dump_json() for name in sections},
        batch=tmp_path / "batch",
        benchmark=tiny_run["benchmark"],
        forget=forget,
        statistics=tiny_run["statistics"],
        pruning=tiny_run["pruning"],
        models={name: tiny_run[name] for name in models},
        uris={"vanilla": "", "unlearned": ""},
        evaluations={name: tiny_run[f"evaluation-{name}"] for name in models},
        out=tmp_path / "answers",
        tracker=NoTracker(),
    )
    told = json.loads((tmp_path / "answers/answers.json").read_text())
    for model in models:
        metrics = tiny_run.returned[f"evaluation-{model}"]
        of_people = [person["views"]["heldout"][model] for person in told["people"]]
        assert sum(of_people) / 2 == pytest.approx(metrics["forget/vqa/heldout_accuracy"])
    version = client.get_model_version("unsee-embedded", told["models"]["unlearned"]["version"])
    delta = json.loads((tiny_run["unlearned"] / "delta.json").read_text())
    assert version.tags["base_sha256"] == delta["base"]["sha256"]
    assert outcomes(place)["one"] == told["outcome"]
