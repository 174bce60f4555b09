"""Files of each format: what is read, and how a broken file is named."""

import json

import pytest

from adadpo_mini import InputError, load_pairs
from tests.pairs.shared import (
    ROWS,
    hh_row,
    write_csv,
    write_lines,
    write_parquet,
)

pytestmark = pytest.mark.usefixtures("quiet")


BROKEN = {
    "no comma.json": ('[{"a": 1} {"a": 2}]', "row 1"),
    "cut short.json": ('[{"prompt": "a", "chosen": "b', "row 1: not valid JSON"),
    "no end.json": ('[\n{"prompt": "a", "chosen": "b", "rejected": "c"}\n', "row 2: a comma is"),
    "more.json": ('[{"prompt": "a", "chosen": "b", "rejected": "c"}] 3', "text after the end"),
    "number.json": ('[{"prompt": "a", "chosen": "b", "rejected": "c"}, 3]', "row 2: expected an"),
    "empty array.json": (" [ ]", "has no pairs"),
    "too few.csv": ('prompt,chosen,rejected\n"a\nb",c,d\na,b\n', "row 2 has 2 cells, .* has 3"),
    "too many.csv": ("prompt,chosen,rejected\na,b,c,d\n", "row 1 has 4 cells"),
    "open quote.csv": ('prompt,chosen,rejected\na,b,c\n"a,b,c\n', "row 2: not valid CSV"),
    "empty.csv": ("", "no column 'chosen'"),
    "only a header.csv": ("prompt,chosen,rejected\n", "has no pairs"),
    "text.parquet": ("prompt", "cannot be read"),
}


@pytest.mark.parametrize(("name", "text", "words"), [(n, *v) for n, v in BROKEN.items()])
def test_what_is_broken_is_named_by_file_row_and_fault(tmp_path, name, text, words):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=words) as caught:
        load_pairs(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_other_encodings_are_told_wherever_in_the_file(tmp_path):
    for name, lead in (("a.csv", b"prompt,chosen,rejected\n"), ("b.json", b"[")):
        (tmp_path / name).write_bytes(lead + b'"Gr\xfc\xdfe"')
        with pytest.raises(InputError, match=f"{name}: not UTF-8"):
            load_pairs(tmp_path / name)


def test_a_csv_may_have_a_byte_order_mark_semicolons_tabs_or_no_prompt(tmp_path):
    path = tmp_path / "pairs.csv"
    write_csv(path, ROWS, delimiter=";")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert list(load_pairs(path)) == ROWS
    write_csv(tmp_path / "pairs.tsv", ROWS, delimiter="\t")
    assert list(load_pairs(tmp_path / "pairs.tsv")) == ROWS
    write_csv(path, [hh_row(n) for n in range(3)])
    assert [pair["chosen"] for pair in load_pairs(path)] == [" Because."] * 3


def test_words_that_stand_for_nothing_elsewhere_are_text_in_a_csv(tmp_path):
    row = {"prompt": "NA", "chosen": "null", "rejected": "1"}
    write_csv(tmp_path / "pairs.csv", [row])
    assert list(load_pairs(tmp_path / "pairs.csv")) == [row]


def test_a_json_file_may_hold_json_lines(tmp_path):
    write_lines(tmp_path / "pairs.json", ROWS)
    loaded = load_pairs(tmp_path / "pairs.json")
    assert list(loaded) == ROWS and loaded.where[1].endswith("line 2")


def test_a_json_array_may_be_cut_anywhere_while_it_is_read(tmp_path):
    """Files are read in pieces of a mebibyte; the filler moves that border over all of a row."""
    row = {"prompt": "Grüße\n", "chosen": "“it is”, so", "rejected": 'a \\ [1, {"b": 2}]'}
    text = f",\n {json.dumps(row)},\n {json.dumps({**row, 'chosen': '[]'})} ]\n"
    filler = {"prompt": "", "chosen": "a", "rejected": "b"}
    for cut in range(len(text) + 1):
        size = (1 << 20) - cut - len(f"[{json.dumps(filler)}")
        first = {**filler, "prompt": "x" * size}
        (tmp_path / "pairs.json").write_text(f"[{json.dumps(first)}{text}")
        assert list(load_pairs(tmp_path / "pairs.json"))[1:] == [row, {**row, "chosen": "[]"}], cut


@pytest.mark.parametrize("rest", ['"chosen": "Because', '"chosen": "a", "rejected": ["b"'])
def test_a_large_json_array_that_is_cut_short_is_named_by_its_row(tmp_path, rest):
    rows = [{"prompt": f"{n} {'x' * 9999}", "chosen": "a", "rejected": "b"} for n in range(250)]
    text = "".join(f"{json.dumps(row)}, " for row in rows)
    (tmp_path / "pairs.json").write_text(f'[{text}{{"prompt": "why", {rest}')
    with pytest.raises(InputError, match="row 251: not valid JSON"):
        load_pairs(tmp_path / "pairs.json")


def test_a_missing_column_is_told_with_those_there_are(written):
    path = written([{"prompt": "Why?", "good": "So.", "bad": "No."}])
    words = "good" if path.suffix in (".csv", ".parquet", "") else "row 1|line 1"
    with pytest.raises(InputError, match=f"'chosen'.*({words})|({words}).*'chosen'"):
        load_pairs(path)


def test_numbers_are_no_text(tmp_path):
    path = tmp_path / "pairs.parquet"
    write_parquet(path, [{"prompt": "a", "chosen": 1, "rejected": 2}])
    with pytest.raises(InputError, match="row 1: chosen is not text but int"):
        load_pairs(path)
