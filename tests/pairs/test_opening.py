"""Compressed files, encodings, and cells that are longer than usual."""

import bz2
import csv
import gzip
import json
import lzma

import pytest

from adadpo_mini import InputError, load_pairs
from tests.pairs.shared import ROWS, hh_row, write_csv, write_json, write_lines

pytestmark = pytest.mark.usefixtures("quiet")


@pytest.mark.parametrize(
    ("name", "write"), [("a.jsonl", write_lines), ("a.json", write_json), ("a.csv", write_csv)]
)
def test_files_that_are_compressed_with_gzip_are_read_and_lines_named(tmp_path, name, write):
    write(tmp_path / name, ROWS)
    path = tmp_path / f"{name}.gz"
    path.write_bytes(gzip.compress((tmp_path / name).read_bytes()))
    loaded = load_pairs(path)
    assert list(loaded) == ROWS
    assert loaded.where[2] == f"{path}, {'line' if name == 'a.jsonl' else 'row'} 3"
    path.rename(tmp_path / name)
    assert list(load_pairs(tmp_path / name)) == ROWS, "without the ending .gz"


def test_hh_as_it_is_published_is_read(tmp_path):
    path = tmp_path / "train.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(json.dumps(hh_row(n)) for n in range(3)).encode()))
    assert [pair["chosen"] for pair in load_pairs(path)] == [" Because."] * 3


def test_a_damaged_or_differently_compressed_file_is_named(tmp_path):
    content = "\n".join(map(json.dumps, ROWS)).encode()
    packed = gzip.compress(content)
    for name, data, words in (
        ("cut.jsonl.gz", packed[:-20], "cannot be read"),
        ("bad.jsonl.gz", packed[:30] + bytes(20) + packed[50:], "cannot be read"),
        ("a.jsonl.bz2", bz2.compress(content), "compressed with bzip2; decompress it, or use gzip"),
        ("a.jsonl.xz", lzma.compress(content), "compressed with xz"),
        ("a.jsonl", b"PK\3\4" + content, "compressed with zip"),
        ("a.parquet.gz", packed, "decompress it with gunzip"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError, match=words) as caught:
            load_pairs(tmp_path / name)
        assert name in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
def test_a_byte_order_mark_tells_the_encoding(tmp_path, encoding):
    for name, write in (("a.jsonl", write_lines), ("a.json", write_json), ("a.csv", write_csv)):
        write(path := tmp_path / name, ROWS)
        path.write_bytes(path.read_bytes().decode().encode(encoding))
        assert list(load_pairs(path)) == ROWS


def test_a_long_cell_of_a_csv_is_read(tmp_path):
    row = {"prompt": "Why?\n", "chosen": "long " * 40_000, "rejected": "No."}
    write_csv(tmp_path / "a.csv", [row, ROWS[0]])
    assert list(load_pairs(tmp_path / "a.csv")) == [row, ROWS[0]]


def test_the_row_numbers_of_a_data_frame_are_no_column_of_their_own(tmp_path):
    (tmp_path / "a.csv").write_text(",prompt,chosen,rejected\n0,a,b,c\n")
    assert load_pairs(tmp_path / "a.csv").report.remarks.text("a") == ""


def test_reading_a_long_cell_leaves_the_limit_of_other_readers_as_it_was(tmp_path):
    before = 131_072  # Python's own limit
    csv.field_size_limit(before)
    long = "word " * 40_000
    path = tmp_path / "long.csv"
    path.write_text(f'prompt,chosen,rejected\nWhy?,"{long}yes","{long}no"\n')
    assert load_pairs(path)[0]["chosen"].startswith(long)
    assert csv.field_size_limit() == before
