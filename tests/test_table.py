"""table.py: which rows become which samples, and what a table is refused for, line by line."""

import io
import string

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data_loader.data_loaders import CsvDataLoader
from data_loader.folder import FileRules
from data_loader.table import Columns, read_table
from utils.errors import DataError

PNG_BUFFER = io.BytesIO()
Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(PNG_BUFFER, "PNG")


@pytest.fixture
def table(tmp_path):
    """Writes table.csv, and the pictures a.png to f.png beside it."""
    for name in "abcdef":
        (tmp_path / f"{name}.png").write_bytes(PNG_BUFFER.getvalue())

    def write(text, encoding="utf-8"):
        path = tmp_path / "table.csv"
        path.write_bytes(text.encode(encoding))
        return path

    return write


def read(path, columns=None, classes=None, *, training=True):
    rules = FileRules(classes=classes)
    return read_table(path, path.parent, Columns(**(columns or {})), rules, training=training)


def message_of(path, columns=None):
    with pytest.raises(DataError) as caught:
        read(path, columns)
    return str(caught.value)


def samples(data):
    return [
        (path.rsplit("/", 1)[1], data.classes[target]) for path, target in zip(data.paths, data.targets, strict=True)
    ]


def test_rows_are_samples_in_their_order_and_classes_are_sorted(table):
    path = table("path,label\nb.png,dog\na.png,cat\nc.png,dog\n")

    parts = read(path)

    assert samples(parts.train) == [("b.png", "dog"), ("a.png", "cat"), ("c.png", "dog")]
    assert parts.train.classes == ["cat", "dog"]
    assert (parts.validation, parts.test, parts.notes) == (None, None, [])


@pytest.mark.parametrize("name", ["evaluation", "eval", "valid", "val", "validation", " Val "])
def test_split_column_names_the_part_of_each_row(table, name):
    rows = ["a.png,x,train", f"b.png,y,{name}", "c.png,y,TRAIN", f"d.png,x,{name}", "e.png,x,test", "f.png,y,test"]

    parts = read(table("\n".join(["path,label,split", *rows])))

    assert samples(parts.train) == [("a.png", "x"), ("c.png", "y")]
    assert samples(parts.validation) == [("b.png", "y"), ("d.png", "x")]
    assert samples(parts.test) == [("e.png", "x"), ("f.png", "y")]


def test_columns_may_have_other_names_an_other_order_and_company(table):
    path = table(
        "species,mood,file,fold\nfox,sad,a.png,train\nowl,glad,b.png,train\nfox,sad,c.png,val\nowl,,d.png,val\n"
    )

    parts = read(path, {"path": "file", "label": "species", "split": "fold"})

    assert samples(parts.train) == [("a.png", "fox"), ("b.png", "owl")]
    assert samples(parts.validation) == [("c.png", "fox"), ("d.png", "owl")]


def test_images_are_below_image_dir_or_beside_the_table_or_where_an_absolute_path_says(table, tmp_path):
    (tmp_path / "sub").mkdir()
    path = table(f"path,label\n../a.png,x\n{tmp_path}/b.png,y\n")

    parts = read_table(path, tmp_path / "sub", Columns(), FileRules(), training=True)

    assert parts.train.paths == [f"{tmp_path}/sub/../a.png", f"{tmp_path}/b.png"]
    loader = CsvDataLoader(table("path,label\na.png,x\nb.png,y\nc.png,x\nd.png,y\n"), validation_split=2)
    assert loader.dataset.dataset.sample_name(0) == f"{tmp_path}/a.png"


def test_labels_stay_the_text_that_they_are(table):
    path = table("path,label\na.png,NA\nb.png,007\nc.png,7\nd.png,1e3\ne.png,null\nf.png,True\n")

    assert [label for _, label in samples(read(path).train)] == ["NA", "007", "7", "1e3", "null", "True"]


@given(labels=st.lists(st.text(string.ascii_letters + "0189 .,;\"'NÄ가", min_size=1), min_size=2, max_size=6))
@settings(max_examples=60, derandomize=True, deadline=None)
def test_any_text_comes_back_as_a_label_when_quoted(tmp_path_factory, labels):
    labels = [f"x{label}" for label in labels] + ["another"]
    folder = tmp_path_factory.getbasetemp()
    (folder / "a.png").write_bytes(PNG_BUFFER.getvalue())
    rows = ['a.png,"' + label.replace('"', '""') + '"' for label in labels]
    (folder / "table.csv").write_text("\n".join(["path,label", *rows]), encoding="utf-8")

    data = read(folder / "table.csv").train

    assert [data.classes[target] for target in data.targets] == labels
    assert data.classes == sorted(set(labels))


@pytest.mark.parametrize(("encoding", "newline"), [("utf-8-sig", "\n"), ("utf-8-sig", "\r\n"), ("utf-8", "\r\n")])
def test_byte_order_mark_and_windows_line_ends_are_not_part_of_a_name(table, encoding, newline):
    path = table(newline.join(["path,label", "a.png,고양이", "b.png,개", ""]), encoding)

    assert samples(read(path).train) == [("a.png", "고양이"), ("b.png", "개")]


def test_a_test_reads_test_rows_else_validation_rows_else_all_and_maps_classes_by_name(table):
    rows = "path,label,split\na.png,cat,train\nb.png,dog,train\nc.png,dog,val\n"
    classes = ["cat", "cow", "dog"]

    with_test = read(table(rows + "lost.png,dog,train\nd.png,dog,test\n"), classes=classes, training=False)
    with_validation = read(table(rows), classes=classes, training=False)

    assert (with_test.train, with_test.validation) == (None, None)
    assert (samples(with_test.test), with_test.test.targets.tolist()) == ([("d.png", "dog")], [2])
    assert samples(with_validation.validation) == [("c.png", "dog")]
    assert with_validation.notes == [f"{table(rows)} (validation): no images of cat, cow"]
    no_split = read(table("path,label\na.png,dog\n"), classes=classes, training=False)
    assert samples(no_split.train) == [("a.png", "dog")]


def test_parts_with_other_classes_are_refused_with_what_is_missing_and_what_is_not_expected(table):
    path = table("path,label,split\na.png,cat,train\nb.png,dog,train\nc.png,dog,val\nd.png,fox,val\n")

    assert message_of(path).splitlines() == [
        f"{path} (validation): its classes are not the 2 expected (cat, dog)",
        "  missing: cat",
        "  not expected: fox",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,species\na.png,cat\n", "no column 'label'; it has path, species"),
        ("label\ncat\n", "no column 'path'; it has label"),
        ("path;label\na.png;cat\n", "no column 'path'; it has path;label (columns are separated by commas)"),
        ("path\tlabel\na.png\tcat\n", "no column 'path'; it has path\tlabel (columns are separated by commas)"),
        ("path,label\n", "no rows"),
        ("path,label\n\n\n", "no rows"),
        ("", "not a readable CSV file (No columns to parse from file)"),
        (
            "path,label\na.png,cat\nb.png,dog,big\n",
            "not a readable CSV file (Error tokenizing data. C error: Expected 2",
        ),
        ("path,label\na.png,cat,\nb.png,dog,\n", "its rows have more values than the first line has names (2)"),
        ("path,label\nx,a.png,cat\ny,b.png,dog\n", "its rows have more values than the first line has names (2)"),
        ('path,label\na.png,"cat\n', "not a readable CSV file (Error tokenizing data. C error: EOF inside string"),
    ],
)
def test_table_that_cannot_be_used_is_refused_with_the_reason(table, text, message):
    path = table(text)

    assert message_of(path).startswith(f"{path}: {message}")


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("path,label\na.png,cat\nb.png,\n", 3, "'label' is empty (1 such rows)"),
        ("path,label\na.png,cat\n ,dog\nc.png,dog\n,dog\n", 3, "'path' is empty (2 such rows)"),
        ("path,label\na.png,cat\nb.png\n", 3, "'label' is empty (1 such rows)"),
        ("path,label\n\na.png,cat\n\n\nb.png,\n", 6, "'label' is empty (1 such rows)"),
        (
            "path,label,split\na.png,cat,train\nb.png,dog,holdout\n",
            3,
            "'holdout' is not a part; use train, val or test",
        ),
        ("path,label,split\n\na.png,cat,\n", 3, "'' is not a part; use train, val or test"),
    ],
)
def test_row_that_cannot_be_used_is_named_by_its_line(table, text, line, message):
    path = table(text)

    assert message_of(path) == f"{path}:{line}: {message}"


def test_one_class_is_refused(table):
    path = table("path,label\na.png,cat\nb.png,cat\n")

    assert message_of(path) == f"{path} (train): only one class ('cat'); a classifier needs at least two"


def test_table_in_another_encoding_is_refused(table):
    path = table("path,label\na.png,고양이\n", "cp949")

    assert message_of(path).startswith(f"{path}: not a readable CSV file ('utf-8' codec can't decode byte 0xb0")


def test_table_and_images_that_are_not_there_are_named(table, tmp_path):
    assert message_of(tmp_path / "no.csv") == f"{tmp_path}/no.csv: no such file (csv_file)"
    assert message_of(tmp_path) == f"{tmp_path}: is no file (csv_file)"
    path = table("path,label\na.png,cat\nlost.png,dog\n")
    assert message_of(path).splitlines()[0] == f"{tmp_path}/lost.png: no such file"


def test_skipping_leaves_rows_of_bad_images_out_by_name(table, tmp_path):
    path = table("path,label\na.png,cat\nlost.png,dog\nb.png,dog\n")

    parts = read_table(path, tmp_path, Columns(), FileRules(on_bad_image="skip"), training=True)

    assert samples(parts.train) == [("a.png", "cat"), ("b.png", "dog")]
    assert parts.notes == [f"bad image left out: {tmp_path}/lost.png: no such file"]
