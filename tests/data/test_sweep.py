"""Tables in: long and wide, CSV and Parquet, every fault with row and column; and what a Sweep gives back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet as pq

from bayes_l2l.data import tables
from bayes_l2l.data.columns import ColumnMap, as_column_map
from bayes_l2l.data.rates import error_rates
from bayes_l2l.data.sweep import Sweep, read_points, read_sweep
from bayes_l2l.errors import DataError, SpecError, TableError

HEADER = "run_id,train_set,eval_set,params,tokens,loss"
GOOD = ["r1,a,a,1e8,2e9,3.5", "r1,a,b,1e8,2e9,3.7", "r2,a,a,2e8,4e9,3.2", "r3,b,a,1e8,2e9,3.6"]
WIDE = {
    "columns": {"train_set": "data", "params": "N", "tokens": "D", "run_id": "id"},
    "losses": {"code": "code_loss", "web": "web_loss"},
    "own": {"a": "web"},
}
WIDE_HEADER = "id,data,N,D,web_loss,code_loss,seed"
WIDE_GOOD = ["1,a,1e8,2e9,3.5,1.5,7", "2,a,2e8,4e9,3.2,1.2,8", "3,b,1e8,2e9,3.6,1.6,9"]


@pytest.fixture
def csv(tmp_path):
    """Write lines to a file and return its path."""

    def write(*lines: str, header: str = HEADER, name: str = "runs.csv") -> Path:
        path = tmp_path / name
        path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
        return path

    return write


def faults(path: Path, **options: object) -> list[str]:
    with pytest.raises(TableError) as refused:
        read_sweep(path, **options)
    assert str(refused.value).startswith(f"{path.name} is refused: {len(refused.value.faults)} fault")
    return list(refused.value.faults)


def long_frame(n: int = 3) -> pd.DataFrame:
    """Three training sets on a grid of n sizes, each evaluated on all three."""
    rows = [
        {
            "run_id": f"{train}{i}",
            "train_set": train,
            "eval_set": evaluation,
            "params": 1e8 * 2**i,
            "tokens": 2e9 * 2**i,
            "loss": 4 - 0.3 * i + 0.2 * (train != evaluation),
        }
        for train in "abc"
        for i in range(n)
        for evaluation in "abc"
    ]
    return pd.DataFrame(rows)


# good tables


def test_long_csv(csv):
    sweep = read_sweep(csv(*GOOD))
    assert list(sweep.table) == [
        "run_id",
        "train_set",
        "eval_set",
        "params",
        "tokens",
        "flops",
        "loss",
        "metric",
    ]
    assert list(sweep.table["run_id"]) == ["r1", "r1", "r2", "r3"]
    assert list(sweep.table["loss"]) == [3.5, 3.7, 3.2, 3.6]
    assert list(sweep.table["flops"]) == [1.2e18, 1.2e18, 4.8e18, 1.2e18]
    assert set(sweep.table["metric"]) == {"loss"}
    for name in ("params", "tokens", "flops", "loss"):
        assert sweep.table[name].dtype == np.float64
    assert sweep.table.index.equals(pd.RangeIndex(4))
    assert sweep.name == "runs.csv"
    assert (len(sweep), sweep.n_runs, sweep.train_sets, sweep.eval_sets) == (4, 3, ["a", "b"], ["a", "b"])


def test_parquet_reads_as_csv_does(csv, tmp_path):
    path = csv(*GOOD)
    pd.read_csv(path).to_parquet(tmp_path / "runs.parquet")
    pd.testing.assert_frame_equal(read_sweep(tmp_path / "runs.parquet").table, read_sweep(path).table)


def test_optional_and_other_columns_are_carried(csv):
    header = f"{HEADER},loss_se,n_items,chance,lr,host,flops"
    sweep = read_sweep(
        csv("r1,a,a,1e8,2e9,3.5,0.01,100,0.75,3e-4,x,", "r2,a,a,2e8,4e9,3.2,,,,1e-4,,5e18", header=header)
    )
    assert list(sweep.table)[7:] == ["loss_se", "metric", "n_items", "chance", "lr", "host"]
    assert list(sweep.table["lr"]) == [3e-4, 1e-4]
    assert list(sweep.table["host"]) == ["x", ""]
    assert list(sweep.table["flops"]) == [1.2e18, 5e18]
    assert sweep.table["loss_se"].isna().tolist() == [False, True]


def test_names_stay_text(csv):
    sweep = read_sweep(csv("007,1,NA,1e8,2e9,3.5", "008,1,NA,2e8,4e9,3.2"))
    assert list(sweep.table.iloc[0])[:3] == ["007", "1", "NA"]


def test_numbers_are_read_exactly(csv):
    sweep = read_sweep(csv("r1,a,a,613607808,13146290776.44766,2.6557900905609131", *GOOD[2:]))
    assert sweep.table.loc[0, "tokens"] == 13146290776.44766
    assert sweep.table.loc[0, "loss"] == 2.6557900905609131


def test_blank_lines_byte_order_mark_and_padding(csv):
    path = csv("", " r1 , a,a, 1e8 ,2e9,3.5", ",,,,,", "r2,a,a,2e8,4e9,3.2")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    sweep = read_sweep(path)
    assert list(sweep.table["run_id"]) == ["r1", "r2"]
    assert list(sweep.table["train_set"]) == ["a", "a"]


def test_runs_without_a_name_are_named_by_what_they_are():
    table = long_frame().drop(columns="run_id")
    sweep = Sweep.from_table(table)
    assert sweep.n_runs == 9
    assert sweep.table.loc[0, "run_id"] == "a N=100000000 D=2000000000"


def test_a_run_is_known_by_training_set_and_name(csv):
    sweep = read_sweep(csv("1,a,a,1e8,2e9,3.5", "2,a,a,2e8,4e9,3.2", "1,b,b,4e8,2e9,3.5"))
    assert sweep.n_runs == 3


def test_input_is_not_changed():
    table = long_frame()
    before = table.copy(deep=True)
    Sweep.from_table(table).up_to(1e18).table.drop(columns="loss")
    pd.testing.assert_frame_equal(table, before)


def test_frame_with_any_index_and_integers():
    table = long_frame().astype({"params": int, "tokens": int}).set_index(pd.Index([5] * 27))
    assert len(Sweep.from_table(table)) == 27


def test_flops_do_not_overflow_integers():
    table = long_frame().astype({"params": int, "tokens": int})
    table[["params", "tokens"]] *= [100, 1000]
    assert Sweep.from_table(table).table["flops"].min() == pytest.approx(6 * 1e10 * 2e12)


@settings(max_examples=30, deadline=None)
@given(order=st.permutations(range(27)), named=st.booleans())
def test_row_order_changes_nothing_but_order(order, named):
    table = long_frame() if named else long_frame().drop(columns="run_id")
    table.loc[3, "loss"] = 3.25
    reference, permuted = Sweep.from_table(table), Sweep.from_table(table.iloc[order])
    pd.testing.assert_frame_equal(permuted.table, reference.table.iloc[order].reset_index(drop=True))
    assert permuted.notes == reference.notes
    assert permuted.summary() == reference.summary()
    pd.testing.assert_frame_equal(permuted.wide(), reference.wide())
    pd.testing.assert_frame_equal(permuted.pairs("a", "b@c"), reference.pairs("a", "b@c"))
    pd.testing.assert_frame_equal(permuted.cells, reference.cells)


# refused tables


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("r9,a,a,lots,2e9,3.5", "row 6, column 'params': 'lots' is not a number"),
        ('r9,a,a,"1,00",2e9,3.5', "row 6, column 'params': '1,00' is not a number"),
        ("r9,a,a,0,2e9,3.5", "row 6, column 'params': 0 must be above 0"),
        ("r9,a,a,1e8,-2e9,3.5", "row 6, column 'tokens': -2e+09 must be above 0"),
        ("r9,a,a,1e8,inf,3.5", "row 6, column 'tokens': inf is not finite"),
        ("r9,a,a,1e8,1e999,3.5", "row 6, column 'tokens': inf is not finite"),
        ("r9,a,a,,2e9,3.5", "row 6, column 'params': blank or NaN"),
        ("r9,a,a,1e8,2e9,", "row 6, column 'loss': blank or NaN"),
        ("r9,a,a,1e8,2e9,NaN", "row 6, column 'loss': blank or NaN"),
        ("r9,a,a,1e8,2e9,0.0", "row 6, column 'loss': 0 must be above 0"),
        ("r9,a,a,1e8,2e9,-3.5", "row 6, column 'loss': -3.5 must be above 0"),
        ("r9,a,a,1e8,2e9,-inf", "row 6, column 'loss': -inf is not finite"),
        ("r9,,a,1e8,2e9,3.5", "row 6, column 'train_set': blank"),
        ("r9,a, ,1e8,2e9,3.5", "row 6, column 'eval_set': blank"),
        (",a,a,1e8,2e9,3.5", "row 6, column 'run_id': blank"),
        (
            "r1,a,a,1e8,2e9,3.4",
            "row 6: a second value for run 'r1' on 'a' (the first is in row 2); "
            "keep one, or give repeated runs and checkpoints their own run_id",
        ),
        (
            "r1,a,c,3e8,2e9,3.4",
            "row 6: run 'r1' has params 3e+08, but 1e+08 in an earlier row; "
            "give every run and checkpoint its own run_id",
        ),
        (
            "r1,a,c,1e8,3e9,3.4",
            "row 6: run 'r1' has tokens 3e+09, but 2e+09 in an earlier row; "
            "give every run and checkpoint its own run_id",
        ),
    ],
)
def test_one_bad_row(csv, line, fault):
    found = faults(csv(*GOOD, line))
    # a run of two sizes has two compute budgets too
    assert found[0] == fault
    assert found[1:] == [] or all("has flops" in other for other in found[1:])


@pytest.mark.parametrize(
    ("column", "value", "fault"),
    [
        ("flops", "none of your business", "'none of your business' is not a number"),
        ("flops", "0", "0 must be above 0"),
        ("loss_se", "-1", "-1 must be at least 0"),
        ("n_items", "0", "0 must be above 0"),
        ("chance", "25", "25 must be a fraction, at most 1; not percent"),
        ("metric", "acc", "'acc' must be 'loss', 'error' or 'accuracy'"),
    ],
)
def test_bad_optional_values(csv, column, value, fault):
    good = "loss" if column == "metric" else ""
    path = csv(f"{GOOD[0]},{good}", f"{GOOD[2]},{value}", header=f"{HEADER},{column}")
    assert faults(path) == [f"row 3, column {column!r}: {fault}"]


def test_all_faults_at_once(csv):
    found = faults(
        csv(
            "r1,a,a,x,2e9,3.5",
            "r2,a,a,2e8,0,nan",
            "",
            "r3,a,a,2e8,4e9,3.2",
            "r3,a,a,2e8,4e9,3.2",
        )
    )
    assert found == [
        "row 2, column 'params': 'x' is not a number",
        "row 3, column 'tokens': 0 must be above 0",
        "row 3, column 'loss': blank or NaN",
        "row 6: a second value for run 'r3' on 'a' (the first is in row 5); "
        "keep one, or give repeated runs and checkpoints their own run_id",
    ]


def test_missing_columns_beside_bad_cells(csv):
    path = csv("a,a,x,3.5", "a,a,2e8,3.2", header="train_set,eval_set,Params,loss")
    assert faults(path) == [
        "there is no column 'params'; did you mean 'Params'?",
        "there is no column 'tokens'",
    ]
    path = csv("a,a,x,3.5", "a,a,2e8,0", header="train_set,eval_set,params,loss")
    assert faults(path) == [
        "there is no column 'tokens'",
        "row 2, column 'params': 'x' is not a number",
        "row 3, column 'loss': 0 must be above 0",
    ]


def test_a_wide_table_without_a_mapping(csv):
    assert faults(csv("a,1e8,2e9,3.5", header="train_set,params,tokens,web")) == [
        "there is no column 'loss'",
        "if it has one row a run, say in a mapping file (--columns MAP.toml; columns= in Python) which are losses",
    ]


def test_one_training_set_needs_no_names(csv):
    sweep = read_sweep(csv("1e8,2e9,3.5", "2e8,4e9,3.2", header="params,tokens,loss"))
    assert (sweep.train_sets, sweep.eval_sets) == (["train"], ["train"])
    assert list(sweep.table["loss"]) == [3.5, 3.2]
    several = read_sweep(csv("a,1e8,2e9,3.5", "a,2e8,4e9,3.2", header="train_set,params,tokens,loss"))
    assert several.eval_sets == ["a"]
    tasks = read_sweep(csv("web,1e8,2e9,3.5", "web,2e8,4e9,3.2", header="eval_set,params,tokens,loss"))
    assert (tasks.train_sets, tasks.eval_sets) == (["train"], ["web"])


def test_a_mapping_that_says_whose_own_loss_it_is_names_the_set(csv):
    columns = {"losses": {"val": "loss"}, "own": {"c4": "val"}}
    sweep = read_sweep(csv("1e8,2e9,3.5", "2e8,4e9,3.2", header="params,tokens,loss"), columns=columns)
    assert (sweep.train_sets, sweep.eval_sets) == (["c4"], ["c4"])


def test_names_that_are_only_misspelt_are_not_made_up(csv):
    lines = [f"a,{i}e8,2e9,3.5" for i in (1, 2)]
    assert faults(csv(*lines, header="trainset,params,tokens,loss")) == [
        "there is no column 'train_set'; did you mean 'trainset'?"
    ]
    numbers = [f"3.4,{i}e8,2e9,3.5" for i in (1, 2)]
    assert read_sweep(csv(*numbers, header="train_loss,params,tokens,loss")).train_sets == ["train"]


def test_several_sets_in_a_table_that_names_none_are_noticed(csv):
    found = faults(csv("1e8,2e9,3.5", "1e8,2e9,3.2", header="params,tokens,loss"))
    assert "a second value for run 'train N=100000000 D=2000000000'" in found[0]


def test_a_size_is_taken_from_the_compute(csv):
    sweep = read_sweep(csv("1.2e18,1e8,3.5", "2.4e18,1e8,3.2", header="flops,params,loss"))
    assert list(sweep.table["tokens"]) == pytest.approx([2e9, 4e9])
    assert "info: there is no column 'tokens': taken from the compute, C = 6 N D [size_from_flops]" in [
        str(note) for note in sweep.notes
    ]
    assert sweep.up_to(1e19).notes == sweep.notes
    assert faults(csv("1.2e18,3.5", "2e18,3.2", header="flops,loss"))[:2] == [
        "there is no column 'params'",
        "there is no column 'tokens'",
    ]


def test_constants_of_a_mapping(csv):
    columns = {"columns": {"params": "N", "tokens": "D"}, "constants": {"train_set": "c4", "chance": 0.75}}
    path = csv("1e8,2e9,3.5", "2e8,4e9,3.2", header="N,D,loss")
    table = read_sweep(path, columns=columns).table
    assert (set(table["train_set"]), set(table["eval_set"]), set(table["chance"])) == ({"c4"}, {"c4"}, {0.75})
    wide = {"losses": {"web": "loss"}, "own": {"c4": "web"}, **columns, "constants": {"train_set": "c4"}}
    assert read_sweep(path, columns=wide).eval_sets == ["c4"]
    again = csv("b,1e8,2e9,3.5", "b,2e8,4e9,3.2", header="train_set,N,D,loss")
    with pytest.raises(TableError) as refused:
        read_sweep(again, columns=columns)
    assert refused.value.faults == (
        "there is a column 'train_set', but the column mapping says that it is 'c4' in every row; keep one",
    )


def test_an_optional_column_that_is_nearly_named(csv):
    sweep = read_sweep(csv(*[f"{line},0.01" for line in GOOD], header=f"{HEADER},loss_sd"))
    note = sweep.notes[0]
    assert str(note) == "info: column 'loss_sd' is not used; did you mean 'loss_se'? [near_miss_column]"
    assert list(sweep.table["loss_sd"]) == [0.01] * 4


def test_repeated_columns(csv):
    path = csv(*[f"{line},1" for line in GOOD], header=f"{HEADER},loss")
    assert faults(path) == ["more than one column is called 'loss'; keep one"]
    table = long_frame().assign(x=1).rename(columns={"x": "loss"})
    with pytest.raises(TableError, match="more than one column is called 'loss'; keep one"):
        Sweep.from_table(table)


def test_ragged_rows(csv):
    assert faults(csv(*GOOD, "r9,a,a,1e8,2e9", "r10,a,a,1e8,2e9,3.5,7")) == [
        "row 6 has 5 cells, but the header has 6",
        "row 7 has 7 cells, but the header has 6",
    ]


def test_empty_tables(csv, tmp_path):
    assert faults(csv()) == ["there are no rows below the header"]
    unnamed = csv(header=HEADER.removeprefix("run_id,"), name="unnamed.csv")
    assert faults(unnamed) == ["there are no rows below the header"]
    empty = tmp_path / "empty.csv"
    empty.write_bytes(b"\n")
    assert faults(empty) == ["the file is empty"]


def test_one_run(csv):
    assert faults(csv(*GOOD[:2])) == ["there is only 1 run; a law needs at least 2"]
    assert len(read_sweep(csv(*GOOD[:2]), min_runs=1)) == 2


def test_files_that_are_no_tables(tmp_path):
    for name, content, fault in (
        ("latin.csv", f"{HEADER}\nr1,caf\xe9,a,1,1,1".encode("latin-1"), "it is not UTF-8 text (byte 51)"),
        ("broken.parquet", b"PAR1 and then nothing", "it is damaged or is not a Parquet file"),
    ):
        (tmp_path / name).write_bytes(content)
        assert faults(tmp_path / name) == [fault]
    (tmp_path / "nul.csv").write_bytes(b"a,b\n" + b'"' + b"x" * 200_000 + b'"\n')
    assert faults(tmp_path / "nul.csv")[0].startswith("it cannot be read as CSV: field larger than")


@pytest.mark.parametrize("noted", [b"{}", b"[]", b'{"index_columns": ["x"], "columns": []}', b"", b"no json"])
def test_what_pandas_noted_in_a_parquet_file_does_not_matter(tmp_path, noted):
    table = pa.Table.from_pandas(long_frame(), preserve_index=False).replace_schema_metadata({b"pandas": noted})
    pq.write_table(table, tmp_path / "runs.parquet")
    assert read_sweep(tmp_path / "runs.parquet").wide().equals(Sweep.from_table(long_frame()).wide())


def test_an_index_of_a_parquet_file_is_a_column_if_it_has_a_name(tmp_path):
    long_frame().set_index("run_id").to_parquet(tmp_path / "runs.parquet")
    assert set(read_sweep(tmp_path / "runs.parquet").table["run_id"]) == set(long_frame()["run_id"])
    long_frame()[::-1].to_parquet(tmp_path / "runs.parquet")
    assert list(read_sweep(tmp_path / "runs.parquet").table)[-1] == "metric"


def test_bytes_of_a_parquet_file_are_refused(tmp_path):
    long_frame().assign(train_set=b"\xff").to_parquet(tmp_path / "runs.parquet")
    assert faults(tmp_path / "runs.parquet") == ["column 'train_set' holds bytes; give text"]


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(DataError, match=r"there is no file .*nothing\.csv"):
        read_sweep(tmp_path / "nothing.csv")
    with pytest.raises(DataError, match=r"runs\.xlsx is neither \.csv nor \.parquet; save the table as one"):
        read_sweep(tmp_path / "runs.xlsx")


def test_faults_of_a_frame_go_by_its_index():
    table = long_frame().set_index(pd.Index([f"x{i}" for i in range(27)]))
    table.loc["x4", "loss"] = np.nan
    with pytest.raises(TableError, match=r"index x4, column 'loss': blank or NaN"):
        Sweep.from_table(table)


@pytest.mark.parametrize("cell", [None, pd.NA, pd.NaT, "abc", [1], 10**400, 1j])
def test_any_object_in_a_frame(cell):
    table = long_frame().astype({"loss": object})
    table.at[4, "loss"] = cell
    with pytest.raises(TableError, match="index 4, column 'loss': "):
        Sweep.from_table(table)


def test_sizes_in_billions(csv):
    assert faults(csv("a,a,0.1,2,3.5", "a,a,0.4,8,3.2", header="train_set,eval_set,params,tokens,loss")) == [
        "column 'params': params of 0.1 to 0.4 are too few; give numbers of params, or say under [units] of a "
        "mapping file which thousands, millions or billions they are",
        "column 'tokens': tokens of 2 to 8 are too few; give numbers of tokens, or say under [units] of a mapping "
        "file which thousands, millions or billions they are",
    ]


def test_perplexity(csv):
    lines = [f"r{i},a,{name},{i}e8,2e9,{loss}" for i in range(1, 6) for name, loss in (("a", 3), ("b", 10 + i))]
    (fault,) = faults(csv(*lines))
    assert fault == (
        "column 'loss', evaluation 'b': 5 of 5 losses are too large for nats per token (up to 15 in row 11; "
        "uniform guessing costs about 12.5); say under [units] of a mapping file that it is a perplexity or "
        "percent, or give log(perplexity), and a percentage as a fraction with metric 'error' or 'accuracy'"
    )


def test_percent(csv):
    (fault,) = faults(csv("r1,a,a,1e8,2e9,62.5", "r2,a,a,2e8,4e9,55"))
    assert "2 of 2 losses are too large for nats per token (up to 62.5 in row 2;" in fault


def test_one_absurd_loss(csv):
    (fault,) = faults(csv(*GOOD, "r9,a,a,3e8,2e9,33.1"))
    assert "1 of 4 losses are too large for nats per token (up to 33.1 in row 6;" in fault


def test_a_diverged_run_is_not_a_perplexity(csv):
    assert len(read_sweep(csv(*GOOD, "r9,a,a,3e8,2e9,14"))) == 5


def test_error_rates(csv):
    header = f"{HEADER},metric"
    good = ["r1,a,task,1e8,2e9,0.75,error", "r2,a,task,2e8,4e9,0,error", "r2,a,a,2e8,4e9,3.2,loss"]
    sweep = read_sweep(csv(*good, header=header))
    assert list(sweep.select(metric="error").table["loss"]) == [0.75, 0]
    assert faults(csv(*good, "r3,a,task,1e8,2e9,62,error", header=header)) == [
        "row 5, column 'loss': 62 must be a fraction, at most 1; not percent"
    ]
    assert faults(csv(*good, "r3,a,task,1e8,2e9,2.1,loss", header=header)) == [
        "evaluation 'task' is given both as loss and as error; give the two different names"
    ]


def test_accuracies(csv):
    header = f"{HEADER},metric"
    good = ["r1,a,task,1e8,2e9,0.25,accuracy", "r2,a,task,2e8,4e9,1,accuracy", "r2,a,a,2e8,4e9,3.2,loss"]
    sweep = read_sweep(csv(*good, header=header))
    assert list(sweep.select(metric="accuracy").table["loss"]) == [0.25, 1]
    assert error_rates(sweep.table)["loss"].tolist() == [0.75, 0]
    assert faults(csv(*good, "r3,a,task,1e8,2e9,62,accuracy", header=header)) == [
        "row 5, column 'loss': 62 must be a fraction, at most 1; not percent"
    ]


# mappings and wide tables


def test_wide(csv):
    sweep = read_sweep(csv(*WIDE_GOOD, header=WIDE_HEADER), columns=WIDE)
    assert sweep.n_runs == 3
    assert sweep.eval_sets == ["a", "code"]
    assert list(sweep.select(["b"], ["a"]).table["loss"]) == [3.6]
    assert set(sweep.table["seed"]) == {7, 8, 9}
    assert "web_loss" not in sweep.table
    wide = sweep.wide()
    assert list(wide) == ["run_id", "train_set", "params", "tokens", "flops", "a", "code"]
    assert list(wide["a"]) == [3.5, 3.2, 3.6]


def test_wide_parquet_reads_as_csv_does(csv, tmp_path):
    path = csv(*WIDE_GOOD, header=WIDE_HEADER)
    pd.read_csv(path).to_parquet(tmp_path / "runs.parquet")
    parquet = read_sweep(tmp_path / "runs.parquet", columns=WIDE)
    pd.testing.assert_frame_equal(parquet.table, read_sweep(path, columns=WIDE).table)


def test_own_evaluations_only(csv):
    path = csv(*WIDE_GOOD, header=WIDE_HEADER)
    for sweep in (
        read_sweep(path, columns=WIDE, eval_sets="own"),
        read_sweep(path, columns={**WIDE, "use": "own"}),
    ):
        assert sweep.cells.to_dict("list") == {"train_set": ["a"], "eval_set": ["a"], "n_runs": [2]}
    assert len(read_sweep(path, columns={**WIDE, "use": "own"}, eval_sets="all")) == 6


def test_blank_evaluations_are_counted_not_hidden(csv):
    lines = [WIDE_GOOD[0].replace("1.5", ""), WIDE_GOOD[1].replace("1.2", "NaN"), WIDE_GOOD[2]]
    sweep = read_sweep(csv(*lines, header=WIDE_HEADER), columns=WIDE)
    assert len(sweep) == 4
    assert str(sweep.notes[0]) == ("info: 2 of 6 evaluations are blank and left out, most in 'code' [missing_cells]")
    assert sweep.notes[0].data == {"blank": {"code": 2}}
    assert np.isnan(sweep.wide()["code"].iloc[0])
    assert sweep.notes[0] in sweep.up_to(2e18).notes


def test_wide_faults_name_row_and_column(csv):
    lines = ["1,a,x,2e9,3.5,oops,7", WIDE_GOOD[1], "2,a,2e8,4e9,0,1.6,9"]
    assert faults(csv(*lines, header=WIDE_HEADER), columns=WIDE) == [
        "row 2, column 'N': 'x' is not a number",
        "row 2, column 'code_loss': 'oops' is not a number",
        "row 4, column 'web_loss': 0 must be above 0",
        "row 4: a second value for run '2' on 'code' and 1 more (the first is in row 3); "
        "keep one, or give repeated runs and checkpoints their own run_id",
    ]


def test_wide_without_any_evaluation(csv):
    assert faults(csv("1,a,1e8,2e9,,,7", "2,a,2e8,2e9,,,7", header=WIDE_HEADER), columns=WIDE) == [
        "there are no losses: all 4 cells of the evaluations are blank"
    ]


def test_mapped_columns_that_are_not_there(csv):
    header = WIDE_HEADER.replace("N,", "n,").replace("code_loss", "codeloss")
    assert faults(csv(*WIDE_GOOD, header=header), columns={**WIDE, "keep": ["seeds"]}) == [
        "there is no column 'N', which the column mapping names as params; did you mean 'n'?",
        "there is no column 'seeds', which the column mapping keeps; did you mean 'seed'?",
        "there is no column 'code_loss', which the column mapping names as 'code'; did you mean 'codeloss'?",
    ]


def test_kept_columns(csv):
    path = csv(*WIDE_GOOD, header=WIDE_HEADER)
    assert "seed" in read_sweep(path, columns={**WIDE, "keep": ["seed"]}).table
    assert "seed" not in read_sweep(path, columns={**WIDE, "keep": []}).table


def test_a_column_that_shares_a_canonical_name_does_not_pass_for_it(csv):
    columns = {**WIDE, "columns": {**WIDE["columns"], "flops": "compute"}}
    path = csv(*[f"{line},1e18,5" for line in WIDE_GOOD], header=f"{WIDE_HEADER},compute,flops")
    table = read_sweep(path, columns=columns).table
    assert set(table["flops"]) == {1e18}
    assert set(table["flops_in_table"]) == {5}


def test_errors_of_a_wide_table(csv):
    columns = {**WIDE, "errors": {"task": "task_err"}}
    path = csv(*[f"{line},0.25" for line in WIDE_GOOD], header=f"{WIDE_HEADER},task_err")
    errors = read_sweep(path, columns=columns).select(metric="error").table
    assert set(errors["eval_set"]) == {"task"}
    assert set(errors["loss"]) == {0.25}


def test_a_long_table_with_a_mapping(csv):
    columns = {"columns": {"loss": "nll", "params": "N"}, "own": {"a": "b"}}
    header = HEADER.replace("loss", "nll").replace("params", "N")
    sweep = read_sweep(csv(GOOD[1], GOOD[1].replace("r1", "r2"), header=header), columns=columns, eval_sets="own")
    assert list(sweep.table["eval_set"]) == ["a", "a"]
    assert faults(csv(GOOD[0].replace("3.5", "x"), header=header), columns=columns)[0] == (
        "row 2, column 'nll': 'x' is not a number"
    )


def test_mapping_file(csv, tmp_path):
    path = tmp_path / "map.toml"
    path.write_text(
        'use = "own"\nkeep = ["seed"]\n[columns]\ntrain_set = "data"\nparams = "N"\ntokens = "D"\n'
        'run_id = "id"\n[losses]\nweb = "web_loss"\ncode = "code_loss"\n[own]\na = "web"\n'
    )
    assert as_column_map(path) == ColumnMap(**{**WIDE, "use": "own", "keep": ("seed",), "source": "map.toml"})
    assert len(read_sweep(csv(*WIDE_GOOD, header=WIDE_HEADER), columns=path)) == 2


def test_mapping_files_that_cannot_be_read(tmp_path):
    with pytest.raises(SpecError, match=r"the mapping file .*gone\.toml cannot be read: No such file"):
        as_column_map(tmp_path / "gone.toml")
    (tmp_path / "bad.toml").write_text("use = own")
    with pytest.raises(SpecError, match=r"the mapping file .*bad\.toml is not TOML: .*line 1"):
        as_column_map(str(tmp_path / "bad.toml"))


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (
            {"colums": {}},
            "unknown key 'colums'; did you mean 'columns'? "
            "(known: columns, losses, errors, accuracies, chance, n_items, own, weights, where, constants, units, "
            "use, loss_unit, keep)",
        ),
        ({"columns": 3}, "columns is 3; it must be a table of name = 'column'"),
        ({"losses": {"a": 3}}, "losses.a is 3; it must be a string"),
        ({"constants": {"train_set": ["a"]}}, "constants.train_set is ['a']; it must be a string or a number"),
        (
            {"columns": {"train_set": "x"}, "constants": {"train_set": "a"}},
            "'train_set' is in both [columns] and [constants]; keep one",
        ),
        ({"accuracies": {"a": "x"}, "chance": {"a": "half"}}, "chance.a is 'half'; it must be a number"),
        ({"accuracies": {"a": "x"}, "chance": {"a": 75}}, "chance.a is 75; it must be above 0 and at most 1"),
        ({"losses": {"a": "x"}, "n_items": {"a": 10}}, "n_items.a is of no evaluation in [errors] or [accuracies]"),
        ({"use": "mine"}, "use is 'mine'; it must be 'all' or 'own'"),
        ({"keep": "seed"}, "keep is 'seed'; it must be a list of column names"),
        ({"keep": [1]}, "keep is (1,); it must be a list of column names"),
        (
            {"columns": {"token": "D"}, "losses": {"a": "x"}},
            "unknown name 'token' in [columns]; did you mean 'tokens'? "
            "(known: run_id, step, train_set, params, tokens, flops)",
        ),
        (
            {"losses": {"a": "x", "b": "x"}},
            "column 'x' stands for both losses.a and losses.b",
        ),
        (
            {"losses": {"a": "x"}, "errors": {"a": "y"}},
            "evaluation 'a' stands in both [losses] and [errors]; give the two different names",
        ),
        (
            {"losses": {"web": "x"}, "own": {"a": "webs"}},
            "own.a is 'webs', which is not in [losses]; did you mean 'web'?",
        ),
        (
            {"losses": {"web": "x", "a": "y"}, "own": {"a": "web"}},
            "own.a is 'web', but another evaluation is called 'a'",
        ),
        (
            {"losses": {"web": "x"}, "own": {"a": "web", "b": "web"}},
            "evaluation 'web' is the own one of both 'a' and 'b'; it can be named by one of them only",
        ),
    ],
)
def test_refused_mappings(record, message):
    with pytest.raises(SpecError) as refused:
        as_column_map(record)
    assert str(refused.value) == f"the column mapping is refused: {message}"


# what a Sweep gives back


@pytest.fixture
def sweep():
    return Sweep.from_table(long_frame(), name="grid", provenance="made up")


def test_text(sweep):
    assert repr(sweep) == ("<Sweep grid: 27 rows, 9 runs, 3 training sets, 3 evaluations, 1.2e+18 to 1.92e+19 FLOPs>")
    lines = sweep.summary().splitlines()
    assert lines[0] == repr(sweep)[7:-1]
    assert lines[1:3] == [
        "made up",
        "  a  3 runs, 3 evaluations, 1e+08 to 4e+08 parameters, 2e+09 to 8e+09 tokens",
    ]
    assert lines[-1].startswith("warning: fewer runs than a law has parameters")


def test_cells(sweep):
    assert list(sweep.cells) == ["train_set", "eval_set", "n_runs"]
    assert len(sweep.cells) == 9
    assert set(sweep.cells["n_runs"]) == {3}


def test_pairs_join_on_equal_sizes(sweep):
    less = Sweep.from_table(sweep.table.drop(index=sweep.table.query("run_id == 'b1'").index))
    pairs = less.pairs("a@a", ("c", "b"))
    assert list(pairs) == ["params", "tokens", "x", "y"]
    assert list(pairs["params"]) == [1e8, 4e8]
    assert list(pairs["x"]) == [4, 3.4]
    assert list(pairs["y"]) == pytest.approx([4.2, 3.6])


def test_pairs_average_repeated_runs(sweep):
    again = sweep.table.query("run_id == 'a0'").assign(run_id="a0-again")
    again["loss"] += 0.1
    pairs = sweep.with_rows(again).pairs("a", "b")
    assert len(pairs) == 3
    assert pairs["x"].iloc[0] == pytest.approx(4.05)


def test_cells_by_name():
    table = long_frame().replace({"eval_set": {"c": "c@5shot"}})
    sweep = Sweep.from_table(table, name="grid")
    assert sweep.cell("a") == ("a", "a")
    assert sweep.cell("b@a") == ("b", "a")
    assert sweep.cell("c@5shot@a") == sweep.cell(("c@5shot", "a")) == ("c@5shot", "a")
    with pytest.raises(DataError) as refused:
        sweep.cell("c@5shots@a")
    assert str(refused.value) == (
        "grid has no cell 'c@5shots@a' (evaluation@training set); did you mean 'c@5shot@a'?"
    )
    with pytest.raises(DataError, match="grid has no cell 'c'"):
        sweep.pairs("c", "a")


def test_select(sweep):
    assert sweep.select(["a", "b"]).train_sets == ["a", "b"]
    assert sweep.select("a").train_sets == ["a"]
    assert sweep.select(eval_sets=["c"]).eval_sets == ["c"]
    own = sweep.select(eval_sets="own").table
    assert (own["train_set"] == own["eval_set"]).all()
    assert len(own) == 9
    assert len(sweep.select(eval_sets="all")) == 27
    part = sweep.select(["a"], ["b"])
    assert (part.name, part.provenance, len(part)) == ("grid", "made up", 3)
    assert part.table.index.equals(pd.RangeIndex(3))
    assert [note.data["cells"] for note in part.notes] == [{"b@a": 3}]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train_sets": ["a", "d"]}, "grid has no training set 'd' (it has: a, b, c)"),
        ({"eval_sets": ["C"]}, "grid has no evaluation 'C'; did you mean 'c'? (it has: a, b, c)"),
        ({"metric": "error"}, "nothing is left of grid with these training sets, evaluations and metric"),
    ],
)
def test_select_refuses(sweep, options, message):
    with pytest.raises(DataError) as refused:
        sweep.select(**options)
    assert str(refused.value) == message


def test_no_own_evaluation():
    table = long_frame().replace({"eval_set": {"a": "x", "b": "y", "c": "z"}})
    with pytest.raises(DataError) as refused:
        Sweep.from_table(table, eval_sets="own", name="grid")
    assert str(refused.value) == (
        "grid has no evaluation that is named as its training set; name each training set's own in the "
        "mapping file ([own]), or use all evaluations"
    )


def test_split_by_compute(sweep):
    below, above = sweep.up_to(4.8e18), sweep.above(4.8e18)
    assert set(below.table["flops"]) == {1.2e18, 4.8e18}
    assert set(above.table["flops"]) == {1.92e19}
    assert len(below) + len(above) == len(sweep)
    nothing = sweep.above(1e30)
    assert (len(nothing), nothing.n_runs, nothing.train_sets, nothing.notes) == (0, 0, [], ())
    assert repr(nothing) == "<Sweep grid: 0 rows, 0 runs, 0 training sets, 0 evaluations>"


def test_with_rows(sweep):
    large = pd.DataFrame({"train_set": ["a"], "eval_set": ["a"], "params": [1e10], "tokens": [2e11], "loss": [2.0]})
    both = sweep.with_rows(large)
    assert (len(both), both.name, both.provenance) == (28, "grid", "made up")
    assert both.table["flops"].max() == pytest.approx(1.2e22)
    assert len(sweep) == 27
    simulated = Sweep.from_table(large, min_runs=1, simulated=True, provenance="drawn")
    both = sweep.with_rows(simulated)
    assert (both.simulated, both.provenance) == (True, "made up; drawn")


def test_the_unit_of_losses_goes_with_the_sweep(sweep):
    assert sweep.loss_unit == "nats/token"
    mapped = Sweep.from_table(long_frame(), columns={"loss_unit": "nats/byte"}, name="bytes")
    assert mapped.table.equals(sweep.table)
    large = long_frame().iloc[:1].assign(run_id="new", params=1e10)
    for one in (mapped, mapped.select("a"), mapped.up_to(4.8e18), mapped.with_rows(large)):
        assert one.loss_unit == "nats/byte"
    said = Sweep.from_table(long_frame(), columns={"loss_unit": "nats/byte"}, loss_unit="nats/character")
    assert said.loss_unit == "nats/character"
    with pytest.raises(DataError, match="the losses of bytes are in nats/byte and those of grid in nats/token"):
        sweep.with_rows(mapped)


def test_an_unknown_unit_of_losses_is_refused():
    message = "loss_unit is 'nats/bytes'; did you mean 'nats/byte'? (known: nats/token, nats/byte, nats/character)"
    with pytest.raises(DataError) as refused:
        Sweep.from_table(long_frame(), loss_unit="nats/bytes")
    assert str(refused.value) == message
    with pytest.raises(SpecError) as mapping:
        as_column_map({"loss_unit": "nats/bytes"})
    assert str(mapping.value) == f"the column mapping is refused: {message}"


def test_with_rows_refuses_a_run_that_is_there(sweep):
    with pytest.raises(TableError) as refused:
        sweep.with_rows(sweep.table.iloc[:1])
    assert refused.value.faults == (
        "added index 0: a second value for run 'a0' on 'a' (the first is in index 0); "
        "keep one, or give repeated runs and checkpoints their own run_id",
    )
    with pytest.raises(TableError, match="the added table is refused: 1 fault found"):
        sweep.with_rows(sweep.table.iloc[:1].assign(loss=-1.0))


# points


def test_points(csv, tmp_path):
    path = csv("a,b,1e9,2e10,x", header="train_set,eval_set,params,tokens,why")
    points = read_points(path)
    assert points.to_dict("list") == {
        "train_set": ["a"],
        "eval_set": ["b"],
        "params": [1e9],
        "tokens": [2e10],
    }
    points.to_parquet(tmp_path / "points.parquet")
    pd.testing.assert_frame_equal(read_points(tmp_path / "points.parquet"), points)


def test_points_of_every_set_and_evaluation(csv):
    points = read_points(csv("1e9,2e10", "1e9,4e10", header="params,tokens"))
    assert list(points) == ["params", "tokens"]
    assert len(points) == 2


def test_refused_points(csv):
    with pytest.raises(TableError) as refused:
        read_points(csv(",0,abc", header="train_set,params,token"))
    assert refused.value.faults == (
        "there is no column 'tokens'; did you mean 'token'?",
        "row 2, column 'train_set': blank",
        "row 2, column 'params': 0 must be above 0",
    )


def test_accuracies_of_a_wide_table(tmp_path):
    path = tmp_path / "wide.csv"
    path.write_text("data,N,D,web,quiz\na,1e6,2e7,3.5,0.25\na,2e6,4e7,3.1,0.375\n")
    columns = {
        "columns": {"train_set": "data", "params": "N", "tokens": "D"},
        "losses": {"web": "web"},
        "accuracies": {"quiz": "quiz"},
        "chance": {"quiz": 0.75},
        "n_items": {"quiz": 80},
    }
    table = read_sweep(path, columns=columns).table
    right = table[table["metric"] == "accuracy"]
    assert right["loss"].tolist() == [0.25, 0.375]
    assert (set(right["chance"]), set(right["n_items"])) == ({0.75}, {80.0})
    assert table.loc[table["metric"] == "loss", "chance"].isna().all()
    path.write_text("data,N,D,web,quiz\na,1e6,2e7,3.5,25\na,2e6,4e7,3.1,37.5\n")
    with pytest.raises(TableError, match="column 'quiz': 25"):
        read_sweep(path, columns=columns)


# Large tables


def test_plain_numbers_are_not_looked_at_one_by_one(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    sizes = {"params": rng.uniform(1e7, 1e9, 200), "tokens": rng.integers(10**9, 10**11, 200)}
    frame = pd.DataFrame(sizes).assign(train_set="web", eval_set="web", loss=rng.uniform(2, 4, 200), loss_se=0.01)
    frame.loc[::3, "loss_se"] = np.nan
    frame.to_csv(tmp_path / "runs.csv", index=False)
    monkeypatch.setattr(tables, "_number", lambda cell: pytest.fail(f"{cell} was looked at"))
    read = read_sweep(tmp_path / "runs.csv").table
    for name in ("params", "tokens", "loss", "loss_se"):
        np.testing.assert_array_equal(read[name], frame[name].astype(float))


@pytest.mark.parametrize(
    "cell", ["1_000", " 1000 ", "1e3", "+1000", "1000.0000000000001", "nan", "inf", "x", "-1", ""]
)
def test_a_number_is_what_it_is_beside_plain_ones(cell):
    """Whatever the quick way cannot read is read as it always was, and so is what stands beside it."""
    found, told = [], []
    rows = pd.Series(["row 2", "row 3"])
    quick = tables.numbers(pd.Series([cell, "5"], dtype=object), rows, "c", found, blank_ok=True)
    slow = tables.numbers(
        pd.Series([cell, "5", "?"], dtype=object), pd.Series([*rows, "row 4"]), "c", told, blank_ok=True
    )
    np.testing.assert_array_equal(quick, slow[:2])
    assert found == told[:-1]


def test_a_parquet_file_with_text_that_is_no_text_is_refused(tmp_path):
    """One byte of a name was changed; the libraries read it, and fail when the name is used."""
    path = tmp_path / "runs.parquet"
    pd.DataFrame({"run_id": ["first", "second"]}).to_parquet(path, compression=None)
    path.write_bytes(path.read_bytes().replace(b"second", b"sec\xffnd"))
    with pytest.raises(TableError, match="it is damaged or is not a Parquet file"):
        read_sweep(path)
