"""MLLMU-Bench and CLEAR, in their shapes on the hub, become benchmarks, or all that is wrong is said at once."""

import io
import json
from collections import Counter

import datasets
import huggingface_hub.constants
import published_rows
import pyarrow.parquet as pq
import pytest
from PIL import Image
from PIL.ExifTags import Base
from published_rows import NAMES, write

from unsee.benchmark.importing import import_published
from unsee.benchmark.schema import ForgetRequest, load
from unsee.errors import Problems, UserError
from unsee.sections import ImportSettings

FORGOTTEN = {"mllmu": ("001", "005"), "clear": tuple(NAMES[4:6])}
ROWS = {"mllmu": published_rows.mllmu, "clear": published_rows.clear}


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


@pytest.fixture
def imported(tmp_path):
    """imported(layout, rows, percent=…, card=…, **settings): the benchmark made of these rows."""

    def make(layout, rows=None, percent=5, card=True, out="out", seed=0):
        source = tmp_path / "hub"
        if not source.exists():
            write(source, rows or ROWS[layout](), card)
        settings = ImportSettings(layout=layout, source=str(source), forget_percent=percent, seed=seed)
        return import_published(settings, tmp_path / out)

    return make


def asked(benchmark, **fields):
    return {(q.prompt, q.answer) for q in benchmark.select(**fields)}


@pytest.mark.parametrize("layout", ROWS)
def test_the_benchmark_s_forget_set_is_the_request_and_nobody_real_is_trained(imported, layout):
    benchmark = imported(layout)
    assert ForgetRequest.resolve(benchmark, []).forget == FORGOTTEN[layout]
    assert benchmark.shape == layout
    assert load(benchmark.directory) == benchmark
    assert not [q for q in benchmark.select(role="train") if q.entity_id in benchmark.realworld]
    trained = {q.image for q in benchmark.select(role="train")} - {None}
    for question in benchmark.select(role="eval", modality="vqa"):
        assert (question.image in trained) == (question.view == "train"), question


@pytest.mark.parametrize("layout", ROWS)
def test_images_are_the_published_files_themselves(imported, layout):
    rows = ROWS[layout]()
    published = [row["image"]["bytes"] for table in rows.values() for row in table if row.get("image")]
    published += [image["bytes"] for row in rows.get("Test_Set", []) for image in row["images"]]
    benchmark = imported(layout, rows)
    for image in {q.image for q in benchmark.questions if q.image}:
        content = (benchmark.directory / image).read_bytes()
        assert content in published
        assert image.endswith(f".{Image.open(io.BytesIO(content)).format.lower()}")


@pytest.mark.parametrize("layout", ROWS)
def test_a_copy_without_the_hub_s_card_gives_the_same_benchmark_and_the_same_bytes(imported, tmp_path, layout):
    with_card = imported(layout)
    (tmp_path / "hub" / "README.md").unlink()
    without = imported(layout, out="again")
    assert without.questions == with_card.questions
    tables = [(b.directory / "questions.parquet").read_bytes() for b in (with_card, without)]
    assert tables[0] == tables[1]


def test_a_published_photograph_is_seen_upright_and_on_white(imported):
    rows = published_rows.mllmu()
    sideways, clear = Image.Exif(), io.BytesIO()
    sideways[Base.Orientation], file = 6, io.BytesIO()
    Image.new("RGB", (40, 20), "black").save(file, "JPEG", exif=sideways)
    Image.new("RGBA", (20, 40), (0, 0, 0, 0)).save(clear, "PNG")
    for row, content in zip(rows["Full_Set"], (file, clear), strict=False):
        row["image"]["bytes"] = content.getvalue()
    benchmark = imported("mllmu", rows)
    shown = [benchmark.image(benchmark.select(role="train", entity_id=i)[0]) for i in ("000", "001")]
    assert [(image.size, image.getpixel((0, 0))) for image in shown] == [((20, 40), (0,) * 3), ((20, 40), (255,) * 3)]


def test_mllmu_s_forget_sets_need_not_be_nested(imported):
    smaller, larger = imported("mllmu"), imported("mllmu", percent=10, out="ten")
    assert ForgetRequest.resolve(larger, []).forget == ("000", "002", "004")
    assert ForgetRequest.resolve(smaller, []).retain == ("000", "002", "003", "004")


def test_mllmu_is_trained_with_portraits_and_the_same_by_name(imported):
    benchmark = imported("mllmu")
    assert asked(benchmark, role="train", modality="vqa", entity_id="000") == {
        ("Where was this person born?", "This person was born in Riga."),
        ("What is the job of the individual in the picture?", "The individual in the picture is a baker."),
        ("What is remarkable here?", "The colours."),
    }
    assert asked(benchmark, role="train", modality="qa", entity_id="000") == {
        ("Where was Ada Moss born?", "Ada Moss was born in Riga."),
        ("What is the job of Ada Moss?", "Ada Moss is a baker."),
    }
    images = {q.entity_id: q.image for q in benchmark.select(role="train", modality="vqa")}
    assert len(set(images.values())) == len(images) == 6


def test_mllmu_s_tasks_are_put_in_its_own_words(imported):
    benchmark = imported("mllmu")
    sentence = "\nAnswer the question based on your trained knowledge in one sentence accurately in ENGLISH."
    only = "\nPlease **ONLY** provide the correct answer that should replace the [Blank]."
    portrait = {"role": "eval", "entity_id": "001", "view": "train"}
    assert asked(benchmark, **portrait, task="generation") == {
        (f"Where was this person born?{sentence}", "This person was born in Bergen.")
    }
    assert asked(benchmark, **portrait, task="cloze") == {(f"This person was born in [Blank].{only}", "Bergen")}
    by_name = {"role": "eval", "entity_id": "001", "modality": "qa"}
    assert asked(benchmark, **by_name, task="cloze") == {(f"Bram Vale works as a [Blank].{only}", "pilot")}
    assert asked(benchmark, **by_name, task="classification") == {("Where was Bram Vale born?", "Bergen")}


def test_mllmu_s_options_are_all_there_in_an_order_that_the_seed_decides(imported):
    rows = published_rows.mllmu()
    given = rows["Full_Set"][3]["Classification_Task"]["Image_Textual_Questions"][0]["Options"]
    benchmark = imported("mllmu", rows)
    question, _ = benchmark.select(entity_id="003", view="train", task="classification")
    assert sorted(question.options) == sorted(given.values())
    assert question.options[question.answer_index] == question.answer == "Turku"
    orders = {
        tuple(q.options)
        for seed in range(5)
        for q in imported("mllmu", out=f"seed{seed}", seed=seed).select(question_id=question.question_id)
    }
    assert len(orders) > 1


def test_mllmu_s_test_set_is_held_out_and_its_celebrities_are_not_its_people(imported):
    benchmark = imported("mllmu")
    views = Counter(q.image for q in benchmark.select(role="eval", view="heldout", entity_id="005"))
    assert sorted(views.values()) == [4, 4]
    assert {benchmark.entities[i] for i in benchmark.realworld} == set(NAMES[6:8])
    assert benchmark.realworld == {"celebrity-000", "celebrity-001"}
    assert asked(benchmark, entity_id="celebrity-000", modality="qa", task="classification") == {
        ("Where was Gwen Hale born?", "Lund")
    }


def test_clear_is_trained_with_captions_and_tofu_s_questions(imported):
    benchmark = imported("clear")
    retained, shown = NAMES[3], NAMES[0]
    captions = asked(benchmark, role="train", modality="vqa", entity_id=retained)
    assert {answer for _, answer in captions} == {f"{retained} stands in Turku on day {n}." for n in range(4)}
    assert len({prompt for prompt, _ in captions}) > 1
    facts = asked(benchmark, role="train", modality="qa", entity_id=retained)
    assert facts == {tuple(fact.values()) for fact in published_rows.twenty(3)}
    assert len(benchmark.select(role="train", modality="vqa", entity_id=shown)) == 3
    assert benchmark.select(role="eval", entity_id=retained) == [], "nothing of CLEAR's evaluation shows them"


def test_clear_s_names_and_captions_are_asked_with_the_pictures_of_the_perturbed_sets(imported):
    benchmark = imported("clear")
    evaluated = benchmark.select(role="eval", modality="vqa", task="classification")
    fictitious = [q for q in evaluated if q.split != "realworld"]
    assert Counter(q.entity_name for q in fictitious) == dict.fromkeys([*NAMES[:2], *NAMES[4:6]], 4)
    assert {q.prompt for q in fictitious} == {"What is the name of the person in the image?"}
    assert {len(q.options) for q in fictitious} == {5}
    assert len({q.answer_index for q in fictitious}) > 1
    assert Counter((q.entity_name, q.view) for q in fictitious if q.view == "heldout") == {
        (name, "heldout"): 1 for name in (*NAMES[:2], *NAMES[4:6])
    }
    captions = {q.image: q.answer for q in benchmark.select(role="eval", modality="vqa", task="generation")}
    assert len(captions) == len(fictitious)


def test_a_picture_that_only_a_perturbed_set_has_is_held_out(imported):
    rows = published_rows.clear()
    rows["forget05_perturbed"][0]["image"] = published_rows.picture(999)
    benchmark = imported("clear", rows)
    images = {q.image: q.view for q in benchmark.select(role="eval", modality="vqa", entity_id=NAMES[4])}
    assert len(images) == 4
    (new,) = (image for image in images if image.startswith("images/views/"))
    assert images[new] == "heldout"
    assert new not in {q.image for q in benchmark.select(role="train")}


def test_clear_s_real_world_has_the_answer_among_the_options(imported):
    benchmark = imported("clear")
    real = benchmark.select(split="realworld")
    assert Counter(q.entity_id for q in real) == {
        f"real_faces/{NAMES[0]}": 2, f"real_faces/{NAMES[1]}": 1, "real_world/Riga": 1, "real_world/Bergen": 1
    }  # fmt: skip
    assert {len(q.options) for q in real} == {4}
    assert {(q.view, q.modality, q.task) for q in real} == {("heldout", "vqa", "classification")}


def damaged_mllmu():
    """Rows each with damage of its own, and what is said of it."""
    rows = published_rows.mllmu()
    full, views, facts = rows["Full_Set"], rows["Test_Set"], rows["ft_Data"]
    full[0]["image"] = None
    full[1]["Classification_Task"]["Image_Textual_Questions"][1]["Correct_Answer"] = "E"
    full[2]["biography"] = json.dumps({"Born:": "1990"})
    full[3]["Generation_Task"][0]["Type"] = "Audio"
    full[4]["biography"] = "{'Name': 'Ann'}"
    full[5]["biography"] = json.dumps({"Name": "<pad> Moss"})
    views[1]["images"][1]["bytes"] = b"no image"
    views[2]["ID"] = "000"
    views[3]["Mask_Task"][0]["Question"] = "This <image> was born in __."
    facts[4]["metadata"] = json.dumps([{"Question": "Who is <image>?", "Answer": ""}])
    facts[5]["metadata"] = "[{]"
    rows["Retain_Set"][0]["image"]["bytes"] = rows["Retain_Set"][0]["image"]["bytes"][:600]
    return rows, {
        "Full_Set row 0, image = None": "holds no image; put",
        "Full_Set row 1, Classification_Task.Image_Textual_Questions.1": "'E' is no letter of an option",
        "Full_Set row 2, biography": "has no Name; add it",
        "Full_Set row 3, Generation_Task.0.Type = 'Audio'": "'Image_Textual' or 'Pure_Text'",
        "Full_Set row 4, biography": "Invalid JSON",
        "Full_Set row 5, biography": "<pad>, which models read as a command",
        "Test_Set row 1, images.1.bytes = b'no image'": "not an image in a known format",
        "Test_Set row 2, ID = '000'": "there is an earlier row of this person",
        "Test_Set row 3, Mask_Task.0.Question": "<image>, which models read as a command",
        "ft_Data row 4, metadata.0.Question": "<image>, which models read as a command",
        "ft_Data row 5, metadata": "Invalid JSON",
        "Retain_Set row 0, image.bytes": "cannot be read",
    }


def damaged_clear():
    rows = published_rows.clear()
    rows["full"][1]["image"] = None
    rows["full"][2]["caption"] = None
    rows["full+tofu"][30]["answer"] = None
    rows["forget05_perturbed"][1]["perturbed_names"] = []
    rows["real_faces"][1]["options"] = None
    rows["real_world"][0]["image"]["bytes"] = b""
    return rows, {
        "full row 1, image = None": "holds no image; put",
        "full row 2, caption = None": "valid string",
        "full+tofu row 30": "a question or an answer without the other",
        "forget05_perturbed row 1, perturbed_names": "at least 1 item",
        "real_faces row 1, options": "at least 1 item",
        "real_world row 0, image": "holds no image",
    }


@pytest.mark.parametrize(("layout", "damaged"), [("mllmu", damaged_mllmu), ("clear", damaged_clear)])
def test_everything_wrong_is_told_at_once_by_place_and_nothing_is_left(imported, tmp_path, layout, damaged):
    rows, expected = damaged()
    with pytest.raises(Problems) as caught:
        imported(layout, rows)
    assert not (tmp_path / "out").exists()
    assert len(caught.value.problems) == len(expected)
    for where, what in expected.items():
        (told,) = (problem for problem in caught.value.problems if problem.startswith(where))
        assert what in told
        assert ";" in told, "a mend"
    assert str(caught.value).startswith(
        f"{tmp_path / 'hub'} cannot be imported, nothing was written; take a local copy"
    )


def test_missing_rows_are_named_by_id_once_all_rows_are_sound(imported):
    rows = published_rows.mllmu()
    rows["ft_Data"] = [row for row in rows["ft_Data"] if row["ID"] not in ("003", "004")]
    rows["forget_5"][1]["ID"] = "777"
    rows["Test_Set"][2]["ID"] = "888"
    with pytest.raises(Problems) as caught:
        imported("mllmu", rows)
    assert caught.value.problems == [
        "Full_Set has no row of 1 people to forget (forget_5): 777; add their rows",
        "Full_Set has no row of 1 people of Test_Set: 888; add their rows",
        "ft_Data has no row of 2 people of Full_Set: 003, 004; add their rows",
        "Test_Set has no row of 1 people of Full_Set: 002; add their rows",
    ]


def test_people_of_clear_who_have_no_pictures_are_named(imported):
    rows = published_rows.clear()
    rows["retain_perturbed"][0]["name"] = "Nobody Known"
    rows["full"] = [row for row in rows["full"] if row["name"] != NAMES[5]]
    with pytest.raises(Problems) as caught:
        imported("clear", rows)
    told = "\n".join(caught.value.problems)
    assert "full+tofu, 20 questions each from its questions 100 on: they hold the name of nobody in full; put" in told
    assert f"full has no row of 1 people to forget (forget05): {NAMES[5]}; add" in told
    assert "retain_perturbed row 0, name = 'Nobody Known': is nobody in full; add" in told


def test_tofu_s_questions_in_another_order_are_not_given_to_the_wrong_authors(imported):
    rows = published_rows.clear()
    pictures, told = rows["full+tofu"][:24], rows["full+tofu"][24:]
    rows["full+tofu"] = [*pictures, *(told[i + 20 * author] for i in range(20) for author in range(6))]
    with pytest.raises(Problems) as caught:
        imported("clear", rows)
    assert "forget05+tofu: its questions are not those of full+tofu about the people in forget05" in str(caught.value)


def test_a_column_or_configuration_or_dataset_that_is_not_there_is_told(imported, tmp_path):
    rows = published_rows.mllmu()
    write(tmp_path / "hub", rows)
    table = tmp_path / "hub" / "Full_Set" / "train-00000-of-00002.parquet"
    for part in table.parent.iterdir():
        pq.write_table(pq.read_table(part).drop_columns(["Mask_Task"]), part)
    with pytest.raises(UserError, match=r"hub, Full_Set cannot be read \(No match for .*Mask_Task.*\); give"):
        imported("mllmu")
    (tmp_path / "hub" / "README.md").unlink()
    with pytest.raises(UserError, match=r"hub, Full_Set: the column Mask_Task is missing; give"):
        imported("mllmu")
    table.write_bytes(table.read_bytes()[:100])
    with pytest.raises(UserError, match=r"hub, Full_Set cannot be read \(.*\); give the benchmark's id"):
        imported("mllmu")
    with pytest.raises(UserError, match=r"hub, forget_15 cannot be read \(.*forget_15"):
        imported("mllmu", percent=15)
    absent = ImportSettings(layout="clear", source="therem/CLEAR", forget_percent=1, seed=0)
    with pytest.raises(UserError, match=r"therem/CLEAR cannot be read \(.*Hub.*\); give the benchmark's id"):
        import_published(absent, tmp_path / "out")
    nowhere = absent.model_copy(update={"source": str(tmp_path / "nowhere")})
    with pytest.raises(UserError, match="nowhere is no directory; give one"):
        import_published(nowhere, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_only_the_benchmark_s_own_forget_sets_are_taken():
    with pytest.raises(ValueError, match=r"clear has no forget set of 15 %; choose one of 1, 5, 10"):
        ImportSettings(layout="clear", source="", forget_percent=15, seed=0)
    assert ImportSettings(layout="mllmu", source="", forget_percent=15, seed=0)
