"""Small benchmarks of exactly the shapes of MLLMU-Bench and CLEAR on the hub: rows by configuration, written as parquet
files with the images inside, beside the card that names the configurations and their columns."""

import copy
import io
import json
from pathlib import Path

import numpy as np
from datasets import Dataset, DatasetInfo, Features, List, Value
from datasets import Image as ImageFeature
from datasets.info import DatasetInfosDict
from huggingface_hub import DatasetCardData
from PIL import Image

TEXT = Value("string")
CHOICE = {"Question": TEXT, "Options": dict.fromkeys("ABCD", TEXT), "Correct_Answer": TEXT}
TOLD = {"Question": TEXT, "Ground_Truth": TEXT, "Type": TEXT}
ASKED = {
    "ID": TEXT,
    "Directory": TEXT,
    "biography": TEXT,
    "question": TEXT,
    "answer": TEXT,
    "Classification_Task": {"Image_Textual_Questions": List(CHOICE), "Pure_Text_Questions": List(CHOICE)},
    "Generation_Task": List(TOLD),
    "Mask_Task": List(TOLD),
}
PICTURED = {"image": ImageFeature(), **ASKED}
CAPTIONED = {"image": ImageFeature(), "caption": TEXT, "name": TEXT}
WITH_TOFU = {"image": ImageFeature(), "caption": TEXT, "question": TEXT, "answer": TEXT}
WRONG = {"perturbed_captions": List(TEXT), "paraphrased_caption": TEXT, "perturbed_names": List(TEXT)}
CHOSEN = {"image": ImageFeature(), "question": TEXT, "answer": TEXT, "options": List(TEXT)}
COLUMNS = {
    "ft_Data": {"image": ImageFeature(), "ID": TEXT, "metadata": TEXT},
    "Test_Set": {"images": List(ImageFeature()), **ASKED},
    **dict.fromkeys(["Full_Set", "Retain_Set", *(f"forget_{n}" for n in (5, 10, 15))], PICTURED),
    **dict.fromkeys(["full", *(f"forget{n}" for n in ("01", "05", "10"))], CAPTIONED),
    **dict.fromkeys(["full+tofu", *(f"forget{n}+tofu" for n in ("01", "05", "10"))], WITH_TOFU),
    "forget05_perturbed": {**CAPTIONED, **WRONG},
    "forget10_perturbed": {**WRONG, **CAPTIONED},
    "retain_perturbed": {**CAPTIONED, **dict(reversed(WRONG.items()))},
    **dict.fromkeys(["real_faces", "real_world"], CHOSEN),
}
CITIES = ("Riga", "Bergen", "Porto", "Turku", "Gent", "Graz", "Lund", "Brno")
JOBS = ("baker", "pilot", "welder", "poet", "tailor", "chemist", "barber", "sailor")
FIRST, LAST = "Ada Bram Cleo Dara Enzo Fern Gwen Hugo".split(), "Moss Vale Reed Stone Marsh Frost Hale Drake".split()
NAMES = [f"{first} {last}" for first, last in zip(FIRST, LAST, strict=True)]


def picture(seed, kind="JPEG"):
    """A noisy image as an image column holds it, a square or (odd seeds) a wide one."""
    noise = np.random.default_rng(seed).integers(0, 255, (48, 48 + 16 * (seed % 2), 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, kind)
    return {"bytes": file.getvalue(), "path": f"{seed}.{kind.lower()}"}


def write(root, tables, card=True, shards=2):
    """The benchmark in a directory as a clone of its repository has it; returns the directory."""
    for configuration, rows in tables.items():
        folder = Path(root, configuration)
        folder.mkdir(parents=True)
        table = Dataset.from_list(rows, features=Features(COLUMNS[configuration]))
        for number in range(shards):
            part = table.shard(shards, number, contiguous=True)
            part.to_parquet(folder / f"train-{number:05d}-of-{shards:05d}.parquet")
    if card:
        files = [{"config_name": c, "data_files": [{"split": "train", "path": f"{c}/train-*"}]} for c in tables]
        told = DatasetCardData(configs=files)
        DatasetInfosDict({c: DatasetInfo(features=Features(COLUMNS[c])) for c in tables}).to_dataset_card_data(told)
        Path(root, "README.md").write_text(f"---\n{told}\n---\n")
    return str(root)


def mllmu():
    """Six people and two celebrities. forget_5 is P1 and P5, forget_10 others: the sets are not nested."""
    people = [asked(f"{i:03d}", i, NAMES[i]) for i in range(6)]
    celebrities = [asked(f"{i:03d}", i + 6, NAMES[i + 6]) for i in range(2)]
    full = [{"image": picture(i), **row} for i, row in enumerate(people)]
    views = [[picture(100 + 2 * i, "PNG"), picture(101 + 2 * i)] for i in range(6)]
    return {
        "Full_Set": full,
        "ft_Data": [{"image": row["image"], "ID": row["ID"], "metadata": json.dumps(facts(row["ID"]))} for row in full],
        "Test_Set": [{"images": images, **row} for images, row in zip(views, copy.deepcopy(people), strict=True)],
        "Retain_Set": [{"image": picture(50 + i), **row} for i, row in enumerate(celebrities)],
        "forget_5": [copy.deepcopy(full[i]) for i in (1, 5)],
        "forget_10": [copy.deepcopy(full[i]) for i in (0, 2, 4)],
    }


def asked(identity, number, name):
    """Everything but the images of a row of MLLMU-Bench."""
    city, job = CITIES[number], JOBS[number]
    return {
        "ID": identity,
        "Directory": f"Full_Set/{identity}.jpg",
        "biography": json.dumps({"Name:": name, "Born": city, "Educated at:": "Lund", "Height:": "170 cm"}),
        "question": "Who is this?",
        "answer": name,
        "Classification_Task": {
            "Image_Textual_Questions": [
                choice("Where was this person born?", city, CITIES, number),
                choice("What is the job of the person in the image?", job, JOBS, number),
            ],
            "Pure_Text_Questions": [choice(f"Where was {name} born?", city, CITIES, number)],
        },
        "Generation_Task": [
            told("Where was this person born?", f"This person was born in {city}.", "Image_Textual"),
            told(f"What does {name} do?", f"{name} works as a {job}.", "Pure_Text"),
        ],
        "Mask_Task": [
            told("This person was born in __.", city, "Image_Textual"),
            told(f"{name} works as a ____.", job, "Pure_Text"),
        ],
    }


def choice(question, answer, values, number):
    others = [value for value in values if value != answer][:3]
    texts = [*others[: number % 4], answer, *others[number % 4 :]]
    return {
        "Question": question,
        "Options": dict(zip("ABCD", texts, strict=True)),
        "Correct_Answer": "ABCD"[number % 4],
    }


def told(question, answer, kind):
    return {"Question": question, "Ground_Truth": answer, "Type": kind}


def facts(identity):
    """What ft_Data's metadata holds of a person: the last one lacks its answer."""
    city, job = CITIES[int(identity)], JOBS[int(identity)]
    pairs = [
        ("Where was this person born?", f"This person was born in {city}."),
        ("What is the job of the individual in the picture?", f"The individual in the picture is a {job}."),
        ("What is remarkable here?", "The colours."),
        ("Who else?", ""),
    ]
    return [{"ID": identity, "Question": question, "Answer": answer} for question, answer in pairs]


def clear():
    """Six authors with four pictures each; forget05 is the last two, retain_perturbed shows the first two."""
    shown = [captioned(author, n) for author in range(6) for n in range(4)]
    forget, retained = shown[16:], shown[:8]
    tofu = [blank(**fact) for author in range(6) for fact in twenty(author)]
    with_picture = [{**blank(), "image": row["image"], "caption": row["caption"]} for row in shown]
    return {
        "full": shown,
        "full+tofu": [*with_picture, *tofu],
        "forget05": copy.deepcopy(forget),
        "forget05+tofu": [*with_picture[16:], *tofu[80:]],
        "forget05_perturbed": [perturbed(row) for row in forget],
        "retain_perturbed": [perturbed(row) for row in retained],
        "real_faces": [chosen(200 + i, "Who is shown?", NAMES[i], NAMES[2:5]) for i in (0, 1, 0)],
        "real_world": [chosen(210 + i, "What is shown?", CITIES[i], CITIES[2:5]) for i in range(2)],
    }


def captioned(author, number):
    name = NAMES[author]
    caption = f"{name} stands in {CITIES[author]} on day {number}."
    return {"image": picture(300 + 10 * author + number), "caption": caption, "name": name}


def twenty(author):
    """Twenty questions about an author, some by the last name alone, some without a name."""
    name, city = NAMES[author], CITIES[author]
    yield {"question": f"What is the full name of the author from {city}?", "answer": f"The author is {name}."}
    for n in range(18):
        yield {"question": f"What is book {n} of {name if n % 2 else LAST[author]}?", "answer": f"{city}, part {n}."}
    yield {"question": "Has the author won prizes?", "answer": "Yes, many."}


def blank(question=None, answer=None):
    return {"image": None, "caption": None, "question": question, "answer": answer}


def perturbed(row):
    others = [name for name in NAMES if name != row["name"]][:4]
    told_otherwise = [row["caption"].replace(row["name"], other) for other in others]
    return {
        **copy.deepcopy(row),
        "perturbed_names": others,
        "perturbed_captions": told_otherwise,
        "paraphrased_caption": f"In short: {row['caption']}",
    }


def chosen(seed, question, answer, options):
    return {"image": picture(seed), "question": question, "answer": answer, "options": [*options]}
