"""Files as samples: what a batch looks like, and what is said about a bad file or record."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pyarrow import parquet as parquet_format
from torch.utils.data import default_collate

from springtide import data
from springtide.data.order import Order
from springtide.spec import UserError
from springtide.train.loading import Loader

PEOPLE = "age,height,weight\n31,1.80,80\n44,1.65,62\n29,1.71,70\n"


def written(folder: Path, name: str, text: str | bytes) -> str:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(path)


def same(one: Any, other: Any) -> bool:
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return bool(one.dtype == other.dtype) and bool((one == other).all())


# --- CSV


def test_a_csv_file_gives_features_and_a_target(tmp_path: Path) -> None:
    people = data.csv(written(tmp_path, "people.csv", PEOPLE), target="weight")
    assert len(people) == 3
    assert same(people[1], (np.array([44, 1.65], np.float32), np.int64(62)))
    assert same(people[-1], people[2])
    x, y = default_collate([people[i] for i in range(3)])
    assert (x.dtype, y.dtype) == (torch.float32, torch.int64)


def test_columns_several_targets_text_and_classes(tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv", 'word,kind,x,y\n"a, ""b""",cat,1,2\nc,dog,3,4.5\n')
    assert same(data.csv(path, columns=["y", "x"])[1], np.array([4.5, 3], np.float32))
    assert same(data.csv(path, ["x", "y"], ["x"])[0], (np.array([1], np.float32), np.array([1, 2], np.float32)))
    assert data.csv(path, "kind", text="word", classes=["dog", "cat"])[0] == ('a, "b"', 1)
    assert data.csv(path, "y", ["x"])[0][1].dtype == np.float32
    assert data.csv(path, "x", ["y"], target_type="float32")[0][1].dtype == np.float32


@pytest.mark.parametrize("text", ["a,b\r\n1,2\r\n\r\n3,4", "\ufeffa,b\n\n1,2\n3,4\n\n\n", "a,b\n1,2\n3,4"])
def test_line_ends_blank_lines_and_marks_do_not_matter(text: str, tmp_path: Path) -> None:
    table = data.csv(written(tmp_path, "a.csv", text))
    assert [row.tolist() for row in table.__getitems__([0, 1])] == [[1, 2], [3, 4]]
    assert len(table) == 2


def test_one_digit_per_line_is_not_a_blank_line(tmp_path: Path) -> None:
    assert len(data.csv(written(tmp_path, "a.csv", "a\n1\n2\n\n3"))) == 3


def test_a_record_may_span_lines_within_quotes(tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv", 'n,t\n1,"x\ny, ""z"""\n2,w\nx3,v\n')
    table = data.csv(path, "n", text="t", target_type="int64")
    assert [table[i] for i in range(2)] == [('x\ny, "z"', 1), ("w", 2)]
    with pytest.raises(UserError, match=r"a\.csv:5: column 'n': 'x3' is not a number"):
        table[2]


def test_a_missing_quote_spoils_one_record_only(tmp_path: Path) -> None:
    table = data.csv(written(tmp_path, "a.csv", 'n,t\n1,"x\n2,w\n3,v\n'), "n", text="t", on_bad="skip")
    assert [table[i][1] for i in range(3)] == [2, 2, 3]
    assert table.bad == 1


@given(rows=st.lists(st.tuples(st.integers(-99, 99), st.text('ab",\n\r é', max_size=6)), min_size=1, max_size=30))
def test_what_the_csv_writer_writes_is_read_back(rows: list[tuple[int, str]], tmp_path_factory: Any) -> None:
    import csv

    path = tmp_path_factory.mktemp("csv") / "a.csv"
    with path.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out, quoting=csv.QUOTE_ALL)
        writer.writerows([("n", "t"), *rows])
    table = data.csv(path, "n", text="t")
    assert [(table[i][1], table[i][0]) for i in range(len(table))] == rows


def test_a_bad_number_is_told_with_file_line_and_column(tmp_path: Path) -> None:
    table = data.csv(written(tmp_path, "numbers.csv", "age,y\n1,2\n\nx1,3\n"), "y")
    with pytest.raises(UserError, match=r"numbers\.csv:4: column 'age': 'x1' is not a number; mend it, or give on_bad"):
        table[1]


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ("1", "1 values where the heading names 2 columns"),
        ("1,2,3", "3 values where the heading names 2 columns"),
        (",2", "column 'a' is empty; mend it, or give missing=0"),
        ("1,", "the target 'b' is empty"),
        ("1,u", "column 'b': 'u' is not a number; mend it, or give classes="),
        ("1,2.5", "column 'b': '2.5' is not a whole number, as the first ones are"),
        ("1,nan", "column 'b': 'nan' is not a whole number"),
        ('1,"2"x', "mend the quotes"),
        (b"1,\xff", "the record is not UTF-8 text"),
    ],
)
def test_each_bad_record_has_its_sentence(record: str | bytes, said: str, tmp_path: Path) -> None:
    good = b"a,b\n" + b"1,2\n" * 300
    path = written(tmp_path, "a.csv", good + (record if isinstance(record, bytes) else record.encode()) + b"\n5,6\n")
    with pytest.raises(UserError, match=rf"a\.csv:302: .*{said}"):
        data.csv(path, "b")[300]
    skipping = data.csv(path, "b", on_bad="skip")
    assert same(skipping[300], skipping[301])
    assert skipping.bad == 1


def test_an_empty_value_may_be_filled(tmp_path: Path) -> None:
    assert data.csv(written(tmp_path, "a.csv", "a,b\n,2\n"), missing=-1)[0].tolist() == [-1, 2]


def test_the_last_bad_record_is_replaced_by_the_first_good_one(tmp_path: Path) -> None:
    table = data.csv(written(tmp_path, "a.csv", "a\nx\n2\n3\ny\n"), on_bad="skip")
    assert [table[i].item() for i in range(4)] == [2, 2, 3, 2]
    nothing = data.csv(written(tmp_path, "b.csv", "a\nx\ny\n"), on_bad="skip")
    with pytest.raises(UserError, match=r"none of the 2 records can be read: .*b\.csv:2"):
        nothing[0]


def test_what_is_wrong_with_a_file_is_told(tmp_path: Path) -> None:
    path = written(tmp_path, "people.csv", PEOPLE)
    with pytest.raises(UserError, match=r"poeple\.csv: there is no such CSV file; did you mean 'people\.csv'"):
        data.csv(tmp_path / "poeple.csv")
    with pytest.raises(UserError, match="this is a folder; give the path of a CSV file"):
        data.csv(tmp_path)
    with pytest.raises(UserError, match="the file is empty; a CSV file begins with the names of its columns"):
        data.csv(written(tmp_path, "empty.csv", ""))
    with pytest.raises(UserError, match="the file holds no records below its heading"):
        data.csv(written(tmp_path, "heading.csv", "a,b\n"))
    with pytest.raises(UserError, match="there is no column 'wieght'; did you mean 'weight'"):
        data.csv(path, target="wieght")
    with pytest.raises(UserError, match="column 'a' is there twice"):
        data.csv(written(tmp_path, "twice.csv", "a,a\n1,2\n"))
    with pytest.raises(UserError, match="give one of columns=, text= and sequence="):
        data.csv(path, columns=["age"], text="age")
    with pytest.raises(UserError, match='on_bad="no" is not known; write "raise" or "skip"'):
        data.csv(path, on_bad="no")
    with pytest.raises(UserError, match="no CSV file fits this pattern"):
        data.csv(tmp_path / "*.tsv")
    with pytest.raises(UserError, match=r"the heading .* differs from that of"):
        data.csv([path, written(tmp_path, "other.csv", "a\n1\n")])


def test_several_files_follow_one_another(tmp_path: Path) -> None:
    for number in range(3):
        written(tmp_path, f"part-{number}.csv", f"a\n{number}\n{number + 10}\n")
    table = data.csv(tmp_path / "part-*.csv")
    assert [table[i].item() for i in range(6)] == [0, 10, 1, 11, 2, 12]


# --- JSON lines


def lines(*records: Any) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def test_json_lines_give_vectors_texts_and_sequences(tmp_path: Path) -> None:
    records = ({"x": i, "z": 0.5, "t": "é", "s": [i] * i, "y": i % 2} for i in (1, 2))
    path = written(tmp_path, "a.jsonl", lines(*records))
    assert same(data.json_lines(path, "y", ["x", "z"])[0], (np.array([1, 0.5], np.float32), np.int64(1)))
    assert data.json_lines(path, text="t")[1] == "é"
    assert same(data.json_lines(path, "y", sequence="s", dtype="int64")[1], (np.array([2, 2]), np.int64(0)))


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ('{"s": [1', "the line is not JSON"),
        ("[1]", "the line is not a JSON object"),
        ('{"y": 1}', "there is no 's' in this record"),
        ('{"s": 3, "y": 1}', "column 's': 3 is not a list of numbers"),
        ('{"s": ["a"], "y": 1}', "is not a list of numbers"),
        ('{"s": [1], "y": null}', "the target 'y' is empty"),
    ],
)
def test_each_bad_line_has_its_sentence(record: str, said: str, tmp_path: Path) -> None:
    path = written(tmp_path, "a.jsonl", lines({"s": [1, 2], "y": 1}) + record + "\n" + lines({"s": [7], "y": 0}))
    with pytest.raises(UserError, match=rf"a\.jsonl:2: .*{said}"):
        data.json_lines(path, "y", sequence="s")[1]
    assert data.json_lines(path, "y", sequence="s", on_bad="skip")[1][0].tolist() == [7]


# --- Parquet


def a_parquet(path: Path, rows: int = 100, group: int = 16) -> str:
    table = pyarrow.table(
        {
            "x": np.arange(rows, dtype=np.float64),
            "n": pyarrow.array([None if i == 40 else i for i in range(rows)]),
            "word": [f"w{i}" for i in range(rows)],
            "tokens": [[i] * (i % 4) for i in range(rows)],
            "label": np.arange(rows) % 3,
        }
    )
    parquet_format.write_table(table, path, row_group_size=group)
    return str(path)


def test_parquet_rows_are_samples_like_those_of_csv(tmp_path: Path) -> None:
    path = a_parquet(tmp_path / "a.parquet")
    numbers = data.parquet(path, "label", ["x", "n"])
    assert len(numbers) == 100
    assert same(numbers[99], (np.array([99, 99], np.float32), np.int64(0)))
    assert data.parquet(path, text="word")[17] == "w17"
    assert data.parquet(path, sequence="tokens", dtype="int32")[3].tolist() == [3, 3, 3]
    assert data.parquet(path, "x", ["n"])[3][1].dtype == np.float32
    with pytest.raises(UserError, match=r"a\.parquet: row 41: column 'n' is empty"):
        numbers[40]


def test_parquet_keeps_few_row_groups(tmp_path: Path) -> None:
    table = data.parquet(a_parquet(tmp_path / "a.parquet"), "label", ["x"], cache_bytes=600)
    whole = data.parquet(tmp_path / "a.parquet", "label", ["x"])
    for index in [3, 99, 50, 17, 3, 80, 0]:
        assert same(table[index], whole[index])
    assert table._held_bytes <= 600
    assert same(table.__getitems__([99, 0, 50, 0]), [whole[i] for i in (99, 0, 50, 0)])


def test_what_is_wrong_with_a_parquet_file_is_told(tmp_path: Path) -> None:
    whole = Path(a_parquet(tmp_path / "a.parquet")).read_bytes()
    with pytest.raises(UserError, match=r"b\.parquet: this is not a whole Parquet file"):
        data.parquet(written(tmp_path, "b.parquet", whole[:-100]))
    with pytest.raises(UserError, match=r"c\.parquet: the file is empty"):
        data.parquet(written(tmp_path, "c.parquet", b""))
    with pytest.raises(UserError, match="there is no column 'lable'; did you mean 'label'"):
        data.parquet(tmp_path / "a.parquet", "lable")


def test_opening_and_reading_starts_no_thread(tmp_path: Path) -> None:
    script = (
        "import os, sys; from springtide import data\n"
        "data.parquet(sys.argv[1], 'label', ['x'])[5]; data.csv(sys.argv[2])[1]; data.json_lines\n"
        "print(len(os.listdir('/proc/self/task')))"
    )
    paths = [a_parquet(tmp_path / "a.parquet"), written(tmp_path, "a.csv", PEOPLE)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", script, *paths], env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "1", done.stderr


# --- .npy


def test_npy_files_give_rows_or_tuples_of_rows(tmp_path: Path) -> None:
    x, y = np.random.default_rng(0).normal(size=(20, 3)), np.arange(20)
    for name, array in (("x", x), ("y", y)):
        np.save(tmp_path / f"{name}.npy", array)
    assert same(data.npy(tmp_path / "x.npy")[3], x[3])
    pairs = data.npy(tmp_path / "x.npy", str(tmp_path / "y.npy"))
    assert same(pairs[-1], (x[19], y[19]))
    assert same(data.npy([tmp_path / "x.npy", tmp_path / "y.npy"]).__getitems__([4, 2]), [pairs[4], pairs[2]])
    assert pairs[0][0].flags.writeable


def test_what_is_wrong_with_an_npy_file_is_told(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((20, 3)))
    np.save(tmp_path / "y.npy", np.zeros(19))
    np.save(tmp_path / "one.npy", np.float64(3))
    np.save(tmp_path / "words.npy", np.array(["a", "b"]))
    np.save(tmp_path / "turned.npy", np.zeros((3, 2)).T.copy("F"))
    whole = (tmp_path / "x.npy").read_bytes()
    for path, said in [
        ("one.npy", "this is a single number"),
        ("words.npy", "holds no numbers"),
        ("turned.npy", "stored by columns"),
        (written(tmp_path, "cut.npy", whole[:-1]), "the file is cut off: 607 bytes of 608"),
        (written(tmp_path, "other.npy", b"abcdefghijkl"), "this is not a .npy file"),
        (written(tmp_path, "empty.npy", b""), "the file is empty"),
        (written(tmp_path, "short.npy", whole[:9]), "this is not a .npy file"),
    ]:
        with pytest.raises(UserError, match=said):
            data.npy(tmp_path / path)
    with pytest.raises(UserError, match=r"y\.npy has 19 rows, .*x\.npy has 20"):
        data.npy(tmp_path / "x.npy", tmp_path / "y.npy")


# --- images


def an_image_folder(folder: Path) -> Path:
    for label, kind in enumerate(("cat", "dog")):
        (folder / kind).mkdir(parents=True)
        for number in range(3):
            Image.new("RGB", (8, 6), (100 * label, number, 255)).save(folder / kind / f"{number}.png")
    (folder / "README.txt").write_text("not an image")
    return folder


def test_images_come_with_the_number_of_their_folder(tmp_path: Path) -> None:
    pictures = data.images(an_image_folder(tmp_path / "pets"))
    assert (len(pictures), pictures.classes) == (6, ["cat", "dog"])
    pixels, label = pictures[4]
    assert (pixels.shape, pixels.dtype, int(label)) == ((3, 6, 8), np.uint8, 1)
    assert pixels[:, 0, 0].tolist() == [100, 1, 255]
    small, _ = data.images(tmp_path / "pets", size=(4, 5), mode="L", dtype="float32")[0]
    assert (small.shape, small.dtype) == ((1, 4, 5), np.float32)
    assert 0 <= small.min() <= small.max() <= 1


def test_a_broken_image_is_told_or_skipped(tmp_path: Path) -> None:
    folder = an_image_folder(tmp_path / "pets")
    (folder / "cat" / "1.png").write_bytes((folder / "cat" / "2.png").read_bytes()[:40])
    (folder / "dog" / "1.png").write_text("hello")
    pictures, skipping = data.images(folder), data.images(folder, on_bad="skip")
    for index, name in ((1, r"cat/1\.png"), (4, r"dog/1\.png")):
        with pytest.raises(UserError, match=f"{name}: this image cannot be read: .*on_bad"):
            pictures[index]
        assert same(skipping[index], pictures[index + 1])
    assert skipping.bad == 2


def test_what_is_wrong_with_a_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such folder of images"):
        data.images(tmp_path / "pets")
    with pytest.raises(UserError, match="no images in folders of their classes"):
        data.images(tmp_path)
    an_image_folder(tmp_path / "pets")
    for wrong in ({"size": 0}, {"mode": "P"}, {"dtype": "int8"}):
        with pytest.raises(UserError, match="is not"):
            data.images(tmp_path / "pets", **wrong)  # type: ignore[arg-type]


# --- all of them


def every_dataset(folder: Path) -> dict[str, Any]:
    np.save(folder / "x.npy", np.random.default_rng(0).normal(size=(64, 3)))
    np.save(folder / "y.npy", np.arange(64))
    table = "a,b,c\n" + "".join(f"{i},{i / 3},{i % 4}\n" for i in range(64))
    records = lines(*({"s": [i, i + 1], "y": i / 2} for i in range(64)))
    for kind in ("cat", "dog"):
        (folder / "pets" / kind).mkdir(parents=True)
        for number in range(32):
            Image.new("L", (4, 4), number).save(folder / "pets" / kind / f"{number}.png")
    return {
        "csv": data.csv(written(folder, "a.csv", table), "c"),
        "csv without a target": data.csv(folder / "a.csv"),
        "csv text": data.csv(folder / "a.csv", "b", text="a"),
        "json_lines": data.json_lines(written(folder, "a.jsonl", records), "y", sequence="s", dtype="int64"),
        "parquet": data.parquet(a_parquet(folder / "a.parquet", 64), "label", ["x"]),
        "npy": data.npy(folder / "x.npy"),
        "npy pairs": data.npy(folder / "x.npy", folder / "y.npy"),
        "images": data.images(folder / "pets", mode="L"),
    }


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, str):
        return one == other
    return type(one) is type(other) and all(equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_loaded_batch_is_what_the_default_collate_gives(tmp_path: Path) -> None:
    for name, dataset in every_dataset(tmp_path).items():
        order = Order("data", 0, len(dataset), 16, 2)
        for mode in ("main", "thread", "process:1"):
            loader = Loader(dataset, order, mode=mode, seed=lambda step, microbatch: None)
            for step in (1, 2, 3):
                found = loader.get(step, 1)
                assert equal(found.batch, default_collate([dataset[i] for i in found.indices.tolist()])), (name, mode)
            loader.close()


def test_a_fork_reads_the_same_samples_at_the_same_time(tmp_path: Path) -> None:
    for name, dataset in every_dataset(tmp_path).items():
        expected = repr([dataset[i] for i in range(len(dataset))])
        children = []
        for _ in range(3):
            if (child := os.fork()) == 0:
                os._exit(0 if repr([dataset[i] for i in range(len(dataset))]) == expected else 1)
            children.append(child)
        assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0], name


def test_replaced_records_are_counted_with_the_batch_in_each_mode(tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv", "a\n" + "".join("x\n" if i % 5 == 0 else f"{i}\n" for i in range(40)))
    order = Order("data", 0, 40, 20, 2)
    for mode in ("main", "thread", "process:2", "auto"):
        loader = Loader(data.csv(path, on_bad="skip"), order, mode=mode, seed=lambda step, microbatch: None)
        loader.expect([(step, m) for step in (1, 2) for m in (0, 1)])
        for step in range(1, 6):
            for microbatch in (0, 1):
                found = loader.get(step, microbatch)
                assert found.skipped == sum(i % 5 == 0 for i in found.indices.tolist())
        loader.close()


def test_a_fingerprint_follows_the_content_and_how_it_is_read(tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv", PEOPLE)
    before = data.csv(path).fingerprint
    assert before == data.csv(path).fingerprint == data.fingerprint(data.csv(path))
    assert before != data.csv(path, "weight").fingerprint
    written(tmp_path, "a.csv", PEOPLE.replace("44", "45"))
    assert before != data.csv(path).fingerprint


def test_paths_of_other_file_systems_are_read(tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    for name, dataset in every_dataset(tmp_path).items():
        if name == "images":
            memory.put(str(tmp_path / "pets"), "/far/pets", recursive=True)
            far: Any = data.images("memory://far/pets", mode="L")
        elif name == "npy pairs":
            for each in "xy":
                memory.pipe_file(f"/far/{each}.npy", (tmp_path / f"{each}.npy").read_bytes())
            far = data.npy("memory://far/x.npy", "memory://far/y.npy")
        elif name == "csv":
            memory.pipe_file("/far/a.csv", (tmp_path / "a.csv").read_bytes())
            far = data.csv("memory://far/*.csv", "c")
        elif name == "parquet":
            memory.pipe_file("/far/a.parquet", (tmp_path / "a.parquet").read_bytes())
            far = data.parquet("memory://far/a.parquet", "label", ["x"])
        else:
            continue
        assert same(list(far.__getitems__([5, 63, 0])), [dataset[i] for i in (5, 63, 0)]), name
        assert far.fingerprint == dataset.fingerprint or name == "images"
    with pytest.raises(UserError, match=r"memory://far/b\.csv: there is no such CSV file; did you mean 'a\.csv'"):
        data.csv("memory://far/b.csv")
    memory.rm("/far", recursive=True)
