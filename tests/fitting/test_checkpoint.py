"""A fit that was ended goes on from its checkpoint, to the same bits; other files are refused."""

import os
import pathlib
import signal
import subprocess
import sys
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from builders import two_groups_of_unlike_scale
from equal_values import assert_same
from tensorflow_probability import distributions as tfd

import bgmm_jd
from bgmm_jd import Status
from bgmm_jd.fitting.checkpoint import decode_checkpoint, encode_checkpoint
from bgmm_jd.settings import FullDataSettings, OptimizationSettings, Settings, SourceSettings

K, D = 2, 2
# 100 rows to find the optimum with, in two runs from one start, and then passes over all rows.
TWO_PHASES = Settings(
    optimization=OptimizationSettings(
        full_batch_rows=20,
        full_batch_numbers=20,
        subsample_rows=100,
        subsample_rows_per_component=1,
    ),
    full_data=FullDataSettings(most_averaged_passes=12),
)
OPTIONS = {
    "execution": "graph",
    "finish": "none",
    "calibrate": False,
    "progress": False,
    "settings": TWO_PHASES,
}


class Killed(Exception):
    """What a callback raises in place of the death of the process."""


class Watch:
    """A callback that counts the reports of each phase, and may end the fit at one of them."""

    def __init__(self, phase=None, number=1, error=Killed):
        self.counts, self._place, self._error = {}, (phase, number), error

    def __call__(self, progress):
        count = self.counts[progress.phase] = self.counts.get(progress.phase, 0) + 1
        if (progress.phase, count) == self._place:
            raise self._error


@pytest.fixture(scope="module")
def X():
    return two_groups_of_unlike_scale(400)


def fit(X, **options):
    return bgmm_jd.fit(X, K, **OPTIONS | {"init": X[:2], "restarts": 2} | options)


@pytest.fixture(scope="module")
def whole(X):
    """The fit without a checkpoint, and the number of reports of each phase."""
    watch = Watch()
    return fit(X, callback=watch), watch.counts


def assert_same_fit(found, expected):
    """Same bits in all but the time that it took, and the call."""
    own = {"seconds": {}, "provenance": None}
    assert_same(replace(found, **own), replace(expected, **own))


@pytest.mark.parametrize(
    ("phase", "number", "left"),
    [
        ("optimization", 2, {"starts": 0}),  # within the first run, which begins anew
        ("passes", 1, {"starts": 0, "optimization": 0}),
        ("passes", 3, {"starts": 0, "optimization": 0}),
        ("elbo", 1, {"starts": 0, "optimization": 0, "passes": 0}),
    ],
)
def test_ended_fit_is_resumed_to_the_same_bits(X, whole, tmp_path, phase, number, left):
    expected, counts = whole
    path = tmp_path / "fit.npz"
    with pytest.raises(Killed):
        fit(X, checkpoint=path, callback=Watch(phase, number))
    again = Watch()
    found = fit(X, checkpoint=path, callback=again)
    assert_same_fit(found, expected)
    assert again.counts.get("starts", 0) == left["starts"]
    assert again.counts.get("optimization", 0) == left.get("optimization", counts["optimization"])
    if phase == "passes":
        assert again.counts["passes"] == counts["passes"] - number
    assert os.listdir(tmp_path) == ["fit.npz"]


def test_fit_that_was_ended_between_two_runs_does_not_repeat_the_first(X, whole, tmp_path):
    expected, counts = whole
    starts = []

    def end_at_second_run(progress):
        if progress.phase == "optimization" and progress.start == 2:
            raise Killed

    with pytest.raises(Killed):
        fit(X, checkpoint=tmp_path / "fit.npz", callback=end_at_second_run)
    found = fit(X, checkpoint=tmp_path / "fit.npz", callback=lambda p: starts.append(p.start))
    assert_same_fit(found, expected)
    assert counts["optimization"] > starts.count(2) > 0


def test_interrupted_fit_keeps_what_it_has_and_is_resumed_by_the_same_call(X, whole, tmp_path):
    expected, counts = whole
    path = str(tmp_path / "fit.npz")
    with pytest.warns(bgmm_jd.StatusWarning, match="interrupted"):
        found = fit(X, checkpoint=path, callback=Watch("passes", 2, KeyboardInterrupt))
    assert found.status is Status.INTERRUPTED
    again = Watch()
    assert_same_fit(fit(X, checkpoint=path, callback=again), expected)
    assert again.counts["passes"] == counts["passes"] - 2


def test_fit_interrupted_in_a_later_run_keeps_no_passes_of_an_earlier_one(X, whole, tmp_path):
    """The later run might have been the better one."""
    path = tmp_path / "fit.npz"

    def interrupt_second_run(progress):
        if progress.phase == "optimization" and progress.start == 2:
            raise KeyboardInterrupt

    with pytest.warns(bgmm_jd.StatusWarning, match="interrupted"):
        fit(X, checkpoint=path, callback=interrupt_second_run)
    with np.load(path, allow_pickle=False) as file:
        assert not [name for name in file.files if "continued." in name or "passes." in name]
    assert_same_fit(fit(X, checkpoint=path), whole[0])


def test_complete_fit_is_kept_and_only_finished_by_a_second_call(X, whole, tmp_path):
    path = tmp_path / "fit.npz"
    assert_same_fit(fit(X, checkpoint=path), whole[0])
    before, again = path.read_bytes(), Watch()
    found = fit(X, checkpoint=path, calibrate=True, callback=again)
    assert again.counts == {"elbo": 1, "calibration": 1}
    assert found.calibrated
    assert_same(found.restarts, whole[0].restarts)
    assert path.read_bytes() == before
    with np.load(path, allow_pickle=False) as file:  # as any other npz file
        assert "state.runs.0.params.means.loc" in file.files


def test_fit_that_goes_on_from_another_is_resumed_in_its_passes(X, whole, tmp_path):
    grown = np.concatenate([X, X[:50] + 0.01])
    options = {"init": None, "restarts": None, "start": whole[0]}
    expected = fit(grown, **options)
    path = tmp_path / "fit.npz"
    with pytest.raises(Killed):
        fit(grown, checkpoint=path, callback=Watch("passes", 2), **options)
    again = Watch()
    assert_same_fit(fit(grown, checkpoint=path, callback=again, **options), expected)
    assert again.counts["passes"] == len(expected.elbo_trace) - 2


# --- The death of the process ---------------------------------------------------------------------

# Dies at a report, or with a new file written that has not yet taken the place of the one before.
DYING_FIT = """
import os, signal, sys
import numpy as np
sys.path.insert(0, sys.argv[1])
import test_checkpoint

def die():
    os.kill(os.getpid(), signal.SIGKILL)

phase, number = sys.argv[3], int(sys.argv[4])
calls, replace = [], os.replace

def replace_or_die(*arguments):
    calls.append(arguments)
    if phase == "replace" and len(calls) == number:
        die()
    replace(*arguments)

class Death(test_checkpoint.Watch):
    def __call__(self, progress):
        try:
            super().__call__(progress)
        except test_checkpoint.Killed:
            die()

os.replace = replace_or_die
X = test_checkpoint.two_groups_of_unlike_scale(400)
test_checkpoint.fit(X, checkpoint=sys.argv[2], callback=Death(phase, number))
raise SystemExit("the fit did not die")
"""
TESTS = pathlib.Path(__file__).parents[1]


def die_in_a_child(path, phase, number):
    """Run the fit in a process of its own, which is killed at a point."""
    command = [sys.executable, "-c", DYING_FIT, str(pathlib.Path(__file__).parent), str(path)]
    paths = os.pathsep.join([str(TESTS.parent), str(TESTS), os.environ.get("PYTHONPATH", "")])
    child = subprocess.run(
        [*command, phase, str(number)],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert child.returncode == -signal.SIGKILL, child.stderr


@pytest.mark.slow
def test_killed_fit_is_resumed_to_the_same_bits_in_another_process(X, whole, tmp_path):
    """Killed in the second run, in the third pass, and as it writes one of the last states.

    The states are written before the first run, with the starts, after each of two runs and each
    pass, of which the last twelve are averaged, and with the result of the passes.
    """
    expected, counts = whole
    in_averaging = 4 + counts["passes"] + 5
    points = [
        ("optimization", counts["optimization"] - 1),
        ("passes", 3),
        ("replace", in_averaging),
    ]
    for phase, number in points:
        path = tmp_path / phase / "fit.npz"
        path.parent.mkdir()
        die_in_a_child(path, phase, number)
        assert len(list(path.parent.iterdir())) == (2 if phase == "replace" else 1)
        again = Watch()
        assert_same_fit(fit(X, checkpoint=path, callback=again), expected)
        passes_left = {"optimization": counts["passes"], "passes": counts["passes"] - 3}
        assert again.counts.get("passes", 0) == passes_left.get(phase, 0)


# --- Files that are refused -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def path(X, tmp_path_factory):
    """Return the checkpoint of a fit that was ended before its starts were known."""
    path = tmp_path_factory.mktemp("checkpoint") / "fit.npz"
    with pytest.raises(Killed):
        fit(X, checkpoint=path, callback=Watch("starts"))
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"X": two_groups_of_unlike_scale(401)}, "it is of another X"),
        ({"X": two_groups_of_unlike_scale(400).astype(np.float32)}, "another X"),
        ({"sample_weight": 1.0 + np.arange(400) % 2}, "another sample_weight"),
        ({"K": 3, "init": None}, "K=2 and not 3, another init"),
        ({"covariance": "full"}, "covariance=diag and not full"),
        ({"prior": bgmm_jd.mixture_prior(K, D, dtype="float64")}, "another prior"),
        ({"seed": 1}, "seed=0 and not 1"),
        ({"restarts": 1}, "restarts=2 and not 1"),
        ({"max_steps": 100}, "max_steps=20000 and not 100"),
        ({"optimizer": "adam"}, "optimizer=natural and not adam"),
        ({"execution": "xla"}, "execution=graph and not xla"),
        ({"batch_size": 400}, "batch_size=None and not 400"),
        ({"missing": "marginalize"}, "missing=None and not marginalize"),
        ({"settings": replace(TWO_PHASES, full_data=FullDataSettings())}, "another settings"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_checkpoint_of_another_fit_is_refused_by_name(X, path, change, message):
    before = path.read_bytes()
    options = OPTIONS | {"X": X, "K": K, "init": X[:2], "restarts": 2} | change
    with pytest.raises(ValueError, match=f"fit.npz is the checkpoint of another fit.*{message}"):
        bgmm_jd.fit(checkpoint=path, **options)
    assert path.read_bytes() == before


def test_checkpoint_of_a_source_is_refused_where_a_row_outside_of_the_sample_differs(X, tmp_path):
    """A row that is far from the others, and so plays no part in their location and scatter."""
    sampled = bgmm_jd.sample_rows(bgmm_jd.batches(lambda: [X]), 100, seed=0)
    row = next(n for n in range(len(X)) if not (sampled == X[n]).all(axis=1).any())
    settings = replace(TWO_PHASES, sources=SourceSettings(numbers_in_memory=1))

    def fit_with(sds):
        rows = X.copy()
        rows[row] = X.mean(axis=0) + sds * X.std(axis=0)
        source = bgmm_jd.batches(lambda: [rows])
        options = OPTIONS | {"settings": settings, "init": X[:2], "callback": Watch("starts")}
        bgmm_jd.fit(source, K, checkpoint=tmp_path / "fit.npz", **options)

    with pytest.raises(Killed):
        fit_with(sds=50.0)
    with pytest.raises(ValueError, match="it is of another X"):
        fit_with(sds=51.0)
    with pytest.raises(Killed):
        fit_with(sds=50.0)


def test_checkpoint_of_another_version_is_refused_by_name(X, path, tmp_path):
    found = decode_checkpoint(path.read_bytes(), "the file")
    older = found._replace(identity={**found.identity, "numpy": "1.26.0"})
    (tmp_path / "old.npz").write_bytes(encode_checkpoint(older))
    with pytest.raises(ValueError, match=r"numpy=1\.26\.0 and not .*same versions.*start=post"):
        fit(X, checkpoint=tmp_path / "old.npz")


def own_prior(width):
    """Return a prior of the user's own, made anew."""

    def model():
        root = tfd.JointDistributionCoroutine.Root
        ones = np.ones((K, D))
        yield root(tfd.Dirichlet(np.full(K, 2.0), name="weights"))
        yield root(tfd.Independent(tfd.Normal(0.0 * ones, width), 2, name="means"))
        yield root(tfd.Independent(tfd.Gamma(2.0 * ones, 1.0), 2, name="precisions"))

    return tfd.JointDistributionCoroutine(model)


def test_prior_of_the_users_own_is_recognised_by_its_density(X, tmp_path):
    path = tmp_path / "fit.npz"
    with pytest.raises(Killed):
        fit(X, prior=own_prior(90.0), checkpoint=path, callback=Watch("starts"))
    with pytest.raises(Killed):
        fit(X, prior=own_prior(90.0), checkpoint=path, callback=Watch("starts"))
    with pytest.raises(ValueError, match="it is of another prior"):
        fit(X, prior=own_prior(91.0), checkpoint=path)


def cut_short(data):
    return data[: len(data) // 2]


def with_another_byte(data):
    return data[:200] + bytes([data[200] ^ 1]) + data[201:]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut_short, "cut short"),
        (with_another_byte, "damaged or was altered"),
        (lambda data: b"", "not an npz file"),
        (lambda data: b"CDF" + data, "not an npz file"),
    ],
)
def test_damaged_checkpoint_is_an_error_that_says_so(X, path, tmp_path, damage, message):
    (tmp_path / "bad.npz").write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=rf"bad\.npz is not a checkpoint.*{message}.*begin anew"):
        fit(X, checkpoint=tmp_path / "bad.npz")


def test_npz_file_of_another_program_is_refused_and_left_alone(X, tmp_path):
    np.savez(tmp_path / "mine.npz", rows=X)
    before = (tmp_path / "mine.npz").read_bytes()
    with pytest.raises(ValueError, match="of another program"):
        fit(X, checkpoint=tmp_path / "mine.npz")
    assert (tmp_path / "mine.npz").read_bytes() == before
    assert zipfile.is_zipfile(tmp_path / "mine.npz")


def test_path_that_cannot_be_written_is_an_error_before_the_fit(X, tmp_path):
    watch = Watch()
    with pytest.raises(FileNotFoundError, match="does not exist; make it first"):
        fit(X, checkpoint=tmp_path / "nowhere" / "fit.npz", callback=watch)
    with pytest.raises(TypeError, match="checkpoint must be a str"):
        fit(X, checkpoint=3, callback=watch)
    assert watch.counts == {}
