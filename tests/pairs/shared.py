"""Rows of pairs in several forms, and writers of files and folders."""

import csv
import json

import datasets
import pyarrow
import pyarrow.parquet

ROWS = [
    {"prompt": f"Why {n}?\n", "chosen": f"Because of {n};\n“it is”, so.", "rejected": f"No {n}."}
    for n in range(12)
]


def say(*contents):
    roles = ("user", "assistant")
    return [{"content": text, "role": roles[i % 2]} for i, text in enumerate(contents)]


def hh_row(n):
    """As in Anthropic's HH: two whole dialogues."""
    shared = f"\n\nHuman: Hi {n}.\n\nAssistant: Hello.\n\nHuman: Why?\n\nAssistant:"
    return {"chosen": f"{shared} Because.", "rejected": f"{shared} No."}


def ultrafeedback_row(n):
    """As in HuggingFaceH4/ultrafeedback_binarized: the prompt is text and in both sides, too."""
    return {
        "prompt": f"Why {n}?", "prompt_id": f"{n:x}",
        "chosen": say(f"Why {n}?", "Because."), "rejected": say(f"Why {n}?", "No."),
        "messages": say(f"Why {n}?", "Because."), "score_chosen": 8.5, "score_rejected": 5.0,
    }  # fmt: skip


def trl_row(n):
    """As in trl-lib/ultrafeedback_binarized: the prompt is the messages that both sides share."""
    row = ultrafeedback_row(n)
    return {name: row[name] for name in ("chosen", "rejected", "score_chosen", "score_rejected")}


def write_json(path, rows):
    path.write_text(json.dumps(rows, indent=1), encoding="utf-8")


def write_csv(path, rows, delimiter=","):
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)


def write_parquet(path, rows):
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def write_folder(path, rows):
    datasets.Dataset.from_list(rows).save_to_disk(path)


def write_lines(path, rows):
    path.write_text("\n".join(map(json.dumps, rows)))


WRITERS = {
    "pairs.jsonl": write_lines, "pairs.json": write_json, "pairs.csv": write_csv,
    "pairs.parquet": write_parquet, "folder": write_folder,
}  # fmt: skip


FAULTY = [
    ROWS[0],
    ROWS[1],
    ROWS[0],
    {**ROWS[2], "chosen": " "},
    {**ROWS[3], "rejected": ROWS[3]["chosen"]},
    {**ROWS[1], "chosen": ROWS[1]["rejected"], "rejected": ROWS[1]["chosen"]},
    {**ROWS[4], "rejected": ""},
    ROWS[0],
    ROWS[5],
]


KEPT = [FAULTY[i] for i in (0, 1, 5, 8)]


def saved(path, **splits):
    sets = {name: datasets.Dataset.from_list(rows) for name, rows in splits.items()}
    datasets.DatasetDict(sets).save_to_disk(path)
    return path
