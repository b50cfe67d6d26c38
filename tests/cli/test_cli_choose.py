"""`choose` and `plan`."""

from __future__ import annotations

import shlex
from pathlib import Path

import pandas as pd
import pytest
from command_line import refused, table

from bayes_l2l.cli import main


def test_choose_shows_the_table_and_says_whether_it_is_decided(joint, joint_file, capsys):
    status = main(shlex.split(f"choose {joint_file} --eval-set task --flops 1e21 --quantiles 0.05,0.95"))
    shown = capsys.readouterr()
    assert status == (0 if joint.trusted else 1)
    expected = joint.choose(eval_set="task", flops=1e21)
    pd.testing.assert_frame_equal(
        table(shown.out), expected.table(quantiles=[0.05, 0.95]), rtol=1e-6, check_dtype=False
    )
    assert str(expected).splitlines()[0] in shown.err


@pytest.mark.parametrize("which", ["pairs", "crossings"])
def test_choose_shows_other_tables_and_a_picture(which, joint, joint_file, capsys):
    main(
        shlex.split(f"choose {joint_file} --eval-set task --params 1e9 --tokens 1e10 --{which} -o t.csv --plot p.png")
    )
    expected = getattr(joint.choose(eval_set="task", params=1e9, tokens=1e10), which)()
    pd.testing.assert_frame_equal(pd.read_csv("t.csv"), expected, rtol=1e-6, check_dtype=False)
    assert Path("p.png").stat().st_size > 10_000
    assert capsys.readouterr().out == ""


def test_plan_shows_the_batch_or_each_candidate(joint, joint_file, capsys):
    goal = f"plan {joint_file} --budget 1e20 --goal task@starcoder --flops 1e21 --runs 3"
    expected = joint.plan(goal="task@starcoder", budget=1e20, flops=1e21, runs=3)
    main(shlex.split(goal))
    shown = capsys.readouterr()
    pd.testing.assert_frame_equal(table(shown.out), expected.batch, rtol=1e-6, check_dtype=False)
    assert str(expected).splitlines()[0] in shown.err
    main(shlex.split(goal + " --each -o each.csv --plot p.png"))
    pd.testing.assert_frame_equal(pd.read_csv("each.csv"), expected.candidates, rtol=1e-6, check_dtype=False)
    assert Path("p.png").stat().st_size > 10_000


def test_plan_of_a_choice_from_candidates_of_a_file(joint_file, capsys):
    Path("mine.csv").write_text("train_set,params,tokens\nstarcoder,1e8,1e9\nsmollm-corpus,1e8,1e9\n")
    main(shlex.split(f"plan {joint_file} --budget 1e20 --eval-set task --flops 1e21 --candidates mine.csv --each"))
    assert set(table(capsys.readouterr().out)["train_set"]) == {"starcoder", "smollm-corpus"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("choose {} --eval-set tusk --flops 1e21", "did you mean 'task'"),
        ("choose {} --eval-set task --flops 1e21 --weights 1,2", "weights must be 1 positive numbers"),
        ("choose {} --eval-set task --flops 1e21 --plot out.csv", "must end in .png"),
        ("plan {} --budget 1e20 --goal tusk@starcoder --flops 1e21", "tusk"),
        ("plan {} --budget 1e20 --goal starcoder --flops 1e21 -o out.txt", "must end in .csv"),
    ],
)
def test_bad_decisions_are_refused(arguments, said, joint_file, capsys, folder):
    assert said in refused(arguments.format(joint_file), capsys, folder)
