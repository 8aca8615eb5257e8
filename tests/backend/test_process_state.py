"""Public functions refuse a process in which TensorFlow cannot run, and have their own error state.

No test here needs a fit. `tests/integration/test_process.py` has those that do.
"""

import os
import warnings

import numpy as np
import pytest
import tensorflow as tf

import bgmm_jd
from bgmm_jd.backend.process_state import runs_tensorflow, with_numpy_defaults

X = np.linspace(-1.0, 1.0, 30)[:, np.newaxis]
DOORS = {
    "fit": lambda: bgmm_jd.fit(X, 2),
    "select": lambda: bgmm_jd.select(X),
    "prior": lambda: bgmm_jd.mixture_prior(2, 1),
    "load": lambda: bgmm_jd.load("absent.nc"),
}
every_door = pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)


def squared_underflow():
    return np.square(np.float64(1e-200))


def blocks_of_underflow():
    yield squared_underflow()
    yield squared_underflow()


@pytest.mark.parametrize("decorate", [runs_tensorflow, with_numpy_defaults])
def test_decorated_function_is_in_numpys_default_state_and_its_caller_is_not(decorate):
    with np.errstate(all="raise"):
        assert decorate(np.geterr)() == {
            "divide": "warn",
            "over": "warn",
            "under": "ignore",
            "invalid": "warn",
        }
        assert decorate(squared_underflow)() == 0.0
        with pytest.raises(FloatingPointError, match="underflow"):
            squared_underflow()


def test_iterator_of_a_decorated_function_is_in_the_default_state_at_each_step():
    with np.errstate(all="raise"):
        found = with_numpy_defaults(blocks_of_underflow)()
        assert next(found) == 0.0
        with pytest.raises(FloatingPointError, match="underflow"):
            squared_underflow()
        assert list(found) == [0.0]


@every_door
def test_call_inside_of_a_traced_function_is_an_error(door):
    with pytest.raises(RuntimeError, match=r"cannot be traced.*Call it outside"):
        tf.function(door)()
    with tf.Graph().as_default(), pytest.raises(RuntimeError, match="cannot be traced"):
        door()


def test_call_inside_of_a_map_of_a_data_set_is_an_error():
    rows = tf.data.Dataset.from_tensor_slices(X)
    with pytest.raises(RuntimeError, match=r"cannot be traced.*Dataset\.map"):
        rows.map(lambda row: bgmm_jd.fit(X, 2))


@every_door
def test_checks_of_each_number_by_tensorflow_are_an_error(door):
    tf.debugging.enable_check_numerics()
    try:
        with pytest.raises(RuntimeError, match=r"Call tf\.debugging\.disable_check_numerics"):
            door()
    finally:
        tf.debugging.disable_check_numerics()


def test_fit_without_compiled_programs_is_an_error_that_names_the_ways_out():
    tf.config.run_functions_eagerly(True)
    try:
        with pytest.raises(RuntimeError, match=r"run_functions_eagerly\(False\), or .*='eager'"):
            bgmm_jd.fit(X, 2, execution="graph")
        with pytest.raises(TypeError, match="callback"):  # a check that comes after it
            bgmm_jd.fit(X, 2, execution="eager", callback=1)
    finally:
        tf.config.run_functions_eagerly(False)


def in_forked_process(function):
    """Return what a function returns in a process that is forked from this one.

    Such a process must not end as this one would, with the tests that it has copied.
    """
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        # Python 3.12 and TensorFlow's other libraries warn of what the test is about.
        warnings.simplefilter("ignore")
        child = os.fork()
    if child == 0:
        text = "the function has raised"
        try:
            text = function()
        finally:
            os.write(writer, text.encode())
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return text


def message(function):
    """Return the text of the RuntimeError that a function raises, or that there was none."""
    try:
        function()
    except RuntimeError as error:
        return str(error)
    return "no error"


forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")


@forks
@every_door
def test_process_forked_after_tensorflow_has_started_is_an_error(door):
    bgmm_jd.mixture_prior(2, 1)  # starts TensorFlow
    found = in_forked_process(lambda: message(door))
    assert found.startswith("this process was forked")
    assert "get_context('spawn') or 'forkserver'" in found
    assert bgmm_jd.mixture_prior(2, 1).event_shape  # this process goes on


@forks
def test_process_forked_from_a_forked_one_is_an_error_too():
    bgmm_jd.mixture_prior(2, 1)
    found = in_forked_process(lambda: in_forked_process(lambda: message(DOORS["prior"])))
    assert found.startswith("this process was forked")
