"""The command line, run in this process and from the shell."""

import importlib.metadata
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from terminal import run

import bgmm_jd
from bgmm_jd import datasets
from bgmm_jd.backend import compilation_cache
from bgmm_jd.cli.commands import bgmm_jd_command, main
from bgmm_jd.cli.select_command import as_numbers
from bgmm_jd.optimization import svi

ROOT = pathlib.Path(bgmm_jd.__file__).parents[1]


def clusters():
    rng = np.random.default_rng(5)
    return 6.0 * (np.arange(60) % 2)[:, np.newaxis] + rng.standard_normal((60, 2))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "data.csv"
    np.savetxt(path, clusters(), delimiter=",", header="length,width", comments="")
    return path


@pytest.fixture(scope="module")
def fitted(data, tmp_path_factory):
    netcdf = tmp_path_factory.mktemp("out") / "result.nc"
    return run("fit", data, "-k", 2, "-o", netcdf, "--seed", 3), netcdf


def groups_of(path):
    """Return the groups of a netCDF file and its posterior, with either major version of ArviZ."""
    import arviz as az

    if importlib.metadata.version("arviz").startswith("0."):
        idata = az.from_netcdf(path)
        return set(idata.groups()), idata.posterior
    tree = az.from_netcdf(path)
    return set(tree.children), tree["posterior"]


def test_fit_prints_data_status_summary_and_files(fitted):
    outcome, netcdf = fitted
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert lines[:2] == ["data.csv: 60 rows x 2 features, K = 2", "features: length, width"]
    assert sum(line.startswith("How far to trust it: converged") for line in lines) == 1
    rows = [line.split()[0] for line in lines if line.startswith(("weights", "means"))]
    assert rows[:2] == ["weights[0]", "weights[1]"]
    assert len(rows) == 6
    assert {"means[0,", "means[1,"} == {row for row in rows if row.startswith("means")}
    assert sum("length]" in line for line in lines) == sum("width]" in line for line in lines) == 4
    assert "precisions" not in outcome.out  # matrices of many features would fill screens
    assert lines[2].startswith(f"Wrote {netcdf.with_suffix('.fit.nc')} ")  # before all else
    assert lines[-2].startswith(f"Wrote {netcdf} ")
    assert lines[-1].startswith(f"Wrote {netcdf.with_suffix('.png')} ")


def test_fit_refuses_to_keep_programs_where_others_may_write(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    monkeypatch.setattr(compilation_cache, "tensorflow_has_started", lambda: False)
    monkeypatch.setenv("TF_XLA_FLAGS", "")
    outcome = run("fit", data, "-k", 2, "--keep-compiled", shared)
    assert outcome.code == 2
    assert "writable by nobody else" in outcome.err
    assert not (tmp_path / "data.nc").exists()


def test_fit_writes_the_posterior_draws_of_its_seed(fitted, data):
    _, netcdf = fitted
    groups, posterior = groups_of(netcdf)
    assert {"posterior", "prior", "observed_data", "log_likelihood"} <= groups
    X = np.loadtxt(data, delimiter=",", skiprows=1)
    expected = bgmm_jd.fit(X, 2, seed=3).sample(1_000, seed=3)
    np.testing.assert_array_equal(posterior["means"].values[0], expected["means"])


def test_fit_writes_the_figure_as_png(fitted):
    _, netcdf = fitted
    assert netcdf.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_demonstration_fits_both_data_sets_and_writes_their_files(monkeypatch, tmp_path):
    for name in ("three_clusters", "old_faithful"):
        example = getattr(datasets, name)()._replace(X=clusters(), K=2)
        monkeypatch.setattr(datasets, name, lambda example=example: example)
    monkeypatch.chdir(tmp_path)
    outcome = run()
    assert (outcome.code, outcome.err) == (0, "")
    written = {path.name for path in (tmp_path / "bgmm_jd-demo").iterdir()}
    assert written == {
        f"{stem}.{kind}" for stem in ("three_clusters", "old_faithful") for kind in ("nc", "png")
    }
    assert outcome.out.count("How far to trust it: converged") == 2
    assert all(name in outcome.out for name in written)


def interrupt(monkeypatch, at_block):
    """Raise Ctrl-C while the given block of steps, counted from 1, is running."""
    whole, calls = svi.Program.run, []

    def run_or_stop(*arguments):
        calls.append(arguments)
        if len(calls) == at_block:
            raise KeyboardInterrupt
        return whole(*arguments)

    monkeypatch.setattr(svi.Program, "run", run_or_stop)


def test_results_of_an_interrupted_fit_are_written(monkeypatch, data, tmp_path):
    interrupt(monkeypatch, at_block=3)
    outcome = run("fit", data, "-k", 2, "-o", tmp_path / "kept.nc")
    assert (outcome.code, outcome.err) == (1, "")
    assert "How far to trust it: interrupted" in outcome.out
    groups_of(tmp_path / "kept.nc")
    assert (tmp_path / "kept.png").exists()


def test_interrupted_demonstration_ends_after_the_first_data_set(monkeypatch, tmp_path):
    small = datasets.old_faithful()._replace(X=clusters(), K=2)
    monkeypatch.setattr(datasets, "three_clusters", lambda: small)
    interrupt(monkeypatch, at_block=3)
    outcome = run("--out", tmp_path / "demo")
    assert outcome.code == 1
    assert len(list((tmp_path / "demo").iterdir())) == 2


def test_interrupt_before_any_result_writes_nothing(monkeypatch, data, tmp_path):
    def stop(*arguments, **settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(bgmm_jd, "fit", stop)
    outcome = run("fit", data, "-k", 2, "-o", tmp_path / "none.nc")
    assert (outcome.code, outcome.err) == (130, "bgmm_jd: interrupted.\n")
    assert list(tmp_path.iterdir()) == []


def test_error_from_outside_the_library_is_not_taken_for_bad_input(monkeypatch, data, tmp_path):
    monkeypatch.setattr(bgmm_jd, "fit", lambda *arguments, **settings: int("defect"))
    with pytest.raises(ValueError, match="defect"):
        run("fit", data, "-k", 2, "-o", tmp_path / "none.nc")


def test_fit_from_the_shell_writes_its_results(data, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "bgmm_jd", "fit", str(data), "-k", "2", "-o", "out.nc"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "Wrote out.nc" in done.stdout
    _, posterior = groups_of(tmp_path / "out.nc")
    assert posterior["means"].shape == (1, 1_000, 2, 2)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["fit", "absent.csv", "-k", 2], "cannot read absent.csv: No such file"),
        (["fit", ".", "-k", 2], "cannot read ."),
        (["fit", "DATA", "-k", 0], "K must be at least 1"),
        (["fit", "DATA", "-k", 61], "at least K=61 rows; got 60"),
        (["fit", "DATA", "-k", 2, "--batch-size", 61], "batch_size must be from 1 to 60"),
        (["fit", "DATA", "-k", 2, "--seed", -1], "seed"),
        (["fit", "DATA", "-k", 2, "--covariance", "round"], "covariance"),
        (["fit", "DATA", "-k", 2, "-o", "absent/out.nc"], "cannot write absent/out.nc"),
        (["fit", "DATA", "-k", 2, "-o", "."], "cannot write ."),
        (["fit", "DATA", "-k", 2, "--plot", "plot.doc"], "must end in"),
        (["fit", "DATA", "-k", 2, "-o", "DATA"], "all be different files"),
        (["fit", "DATA", "-k", 2, "--save", "data.nc"], "all be different files"),
        (["select", "DATA", "-k", "1:2", "--covariance", "diag,round"], "covariance"),
        (["select", "DATA", "-k", "60:61"], "at least K=61 rows; got 60"),
        (["select", "DATA", "--plot", "plot.doc"], "must end in"),
        (["select", "DATA", "-o", "."], "cannot write ."),
        (["predict", "absent.fit.nc", "DATA"], "cannot read absent.fit.nc: No such file"),
        (["predict", "DATA", "DATA"], "all be different files"),
        (["report", "DATA"], "not a netCDF4 file. Give the file that `bgmm-jd fit` has written"),
        (["compare", "absent.fit.nc"], "cannot read absent.fit.nc"),
        (["compare", "DATA", "DATA"], "each fit must be named once"),
        (["--out", "DATA"], "cannot make the directory"),
    ],
)
def test_bad_input_gives_one_line_and_exit_code_2(monkeypatch, tmp_path, data, argv, message):
    monkeypatch.chdir(tmp_path)
    outcome = run(*(data if argument == "DATA" else argument for argument in argv))
    assert outcome.code == 2
    assert message in outcome.err
    assert outcome.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("program", [main, bgmm_jd_command])
@pytest.mark.parametrize(
    "argv",
    [[], ["fit"], ["select"], ["predict"], ["report"], ["compare"]],
)
def test_help_is_printed_with_the_exit_codes(capsys, program, argv):
    with pytest.raises(SystemExit) as end:
        program([*argv, "--help"])
    assert end.value.code == 0
    assert "exit codes: 0 good; 1 the fit needs attention" in capsys.readouterr().out


def test_version_is_printed(capsys):
    with pytest.raises(SystemExit) as end:
        bgmm_jd_command(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"{bgmm_jd.__version__}\n"


def test_command_without_a_name_prints_the_help_and_fails(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome = run(main=bgmm_jd_command)
    assert outcome.code == 2
    assert outcome.out.startswith("usage: bgmm-jd ")
    assert "say which command" in outcome.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["8:1", "a", "1:", "1.5", ""])
def test_numbers_of_components_are_a_range_or_a_list(capsys, text):
    with pytest.raises(SystemExit) as end:
        bgmm_jd_command(["select", "data.csv", "-k", text])
    assert end.value.code == 2
    assert "1:8 or 2,4,6" in capsys.readouterr().err
    assert as_numbers("2:4") == [2, 3, 4]
    assert as_numbers("2,7,2") == [2, 7]
