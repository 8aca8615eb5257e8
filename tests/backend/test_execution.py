"""Ways to run a function: what is traced, what is shared by the process, and what is cached."""

import logging
import os
import signal

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from bgmm_jd.backend import execution

tfd = tfp.distributions

CACHE_FLAG = "--tf_xla_persistent_cache_directory=unused"
STARTUP_LINE = b"2026-01-01 00:00:00.000000: W file.cc:1] a start-up line\n"


@pytest.mark.parametrize("mode", execution.EXECUTIONS)
def test_compiled_function_returns_what_the_function_returns(mode):
    program = execution.compiled(lambda x, y: {"sum": x + y, "product": x * y}, mode)
    found = program(tf.constant([1.0, 2.0]), tf.constant([3.0, 5.0]))
    np.testing.assert_array_equal(found["sum"], [4.0, 7.0])
    np.testing.assert_array_equal(found["product"], [3.0, 10.0])


@pytest.mark.parametrize(("mode", "calls"), [("xla", 2), ("graph", 2), ("eager", 4)])
def test_compiled_function_is_traced_once_per_shape(mode, calls):
    called = []

    def function(x):
        called.append(x)
        return x + 1.0

    program = execution.compiled(function, mode)
    for size in (2, 2, 3, 2):
        np.testing.assert_array_equal(program(tf.zeros([size])), np.ones(size))
    assert len(called) == calls


@pytest.mark.parametrize(("mode", "runs"), [("xla", False), ("graph", True), ("eager", True)])
def test_only_xla_refuses_an_operation_that_it_cannot_compile(mode, runs):
    program = execution.compiled(lambda x: tf.strings.length(tf.strings.as_string(x)), mode)
    if runs:
        assert program(tf.constant(1234)) == 4
    else:
        with pytest.raises(tf.errors.InvalidArgumentError):
            program(tf.constant(1234))


def test_eager_mode_runs_inner_functions_eagerly_and_restores_the_setting():
    @tf.function
    def inner():
        return tf.executing_eagerly()

    assert not inner()
    assert execution.compiled(inner, "eager")()
    assert not tf.config.functions_run_eagerly()


def test_eager_mode_restores_the_setting_after_an_error():
    def fails():
        raise RuntimeError("inner error")

    with pytest.raises(RuntimeError, match="inner error"):
        execution.compiled(fails, "eager")()
    assert not tf.config.functions_run_eagerly()


def slope_by_a_loop(variable, x):
    """Return the gradient of x times the variable in x, summed over three steps of a loop."""

    def step(total):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = x * variable
        return (total + tape.gradient(y, x),)

    return tf.while_loop(lambda total: total < 5.0, step, [tf.zeros([])])[0]


@pytest.mark.parametrize("mode", ["xla", "graph"])
def test_tape_around_a_program_records_nothing_of_it_and_goes_on_after_it(mode):
    variable, watched = tf.Variable(2.0), tf.Variable(3.0)
    program = execution.compiled(lambda x: slope_by_a_loop(variable, x), mode)
    with tf.GradientTape() as tape:
        found = program(tf.constant(7.0))
        result = watched * watched + found
    assert found == 6.0  # the program's own tape has recorded
    assert tape.gradient(result, [variable, watched]) == [None, 6.0]


@pytest.mark.parametrize("mode", ["xla", "graph"])
def test_program_is_traced_once_with_and_without_a_tape(mode):
    called = []

    def function(x, arrays):
        called.append(x)
        return x + arrays["y"]

    program = execution.compiled(function, mode)
    for _ in range(2):
        assert program(tf.ones([]), {"y": np.float32(2.0)}) == 3.0
        with tf.GradientTape():
            assert program(tf.ones([]), {"y": np.float32(2.0)}) == 3.0
    assert len(called) == 1


def logs_a_line(x):
    """Write a start-up line whenever it is traced."""
    os.write(2, STARTUP_LINE)
    return 2.0 * x


def test_first_call_of_a_program_from_the_cache_is_quiet_and_later_ones_are_not(monkeypatch, capfd):
    monkeypatch.setenv("TF_XLA_FLAGS", CACHE_FLAG)
    program = execution.compiled(logs_a_line, "xla")
    np.testing.assert_array_equal(program(tf.ones([2])), [2.0, 2.0])
    assert "a start-up line" not in capfd.readouterr().err
    np.testing.assert_array_equal(program(tf.ones([3])), [2.0, 2.0, 2.0])
    assert "a start-up line" in capfd.readouterr().err


def test_programs_are_not_filtered_without_a_cache(monkeypatch, capfd):
    monkeypatch.setenv("TF_XLA_FLAGS", "")
    execution.compiled(logs_a_line, "xla")(tf.ones([2]))
    assert "a start-up line" in capfd.readouterr().err


@pytest.mark.parametrize("own_identity", [True, False])
def test_programs_from_the_same_lines_warn_of_retracing_only_without_own_identity(
    caplog, monkeypatch, own_identity
):
    monkeypatch.setattr(tf.get_logger(), "propagate", True)

    def run(number):
        def function(x):
            return x + number

        chosen = execution.with_own_identity(function) if own_identity else function
        return tf.function(chosen, autograph=False)(tf.constant(1))

    with caplog.at_level(logging.WARNING):
        assert [int(run(number)) for number in range(12)] == list(range(1, 13))
    assert ("retracing" in caplog.text) == (not own_identity)


@pytest.mark.parametrize("count", [1, 5, 6, 7, 12])
def test_mapped_chunks_have_one_shape_and_give_the_result_of_each_point(count):
    points = np.random.default_rng(0).normal(size=(count, 3))
    shapes = []

    def function(part):
        shapes.append(tuple(part.shape))
        return tf.reduce_sum(part, axis=1)

    found = execution.map_chunks(function, points, 6)
    np.testing.assert_allclose(found, points.sum(axis=1), rtol=1e-14)
    assert set(shapes) == {(6, 3)}
    assert len(shapes) == -(-count // 6)


@pytest.mark.parametrize("mode", execution.EXECUTIONS)
def test_interrupt_while_a_program_is_traced_is_raised_when_its_call_ends(mode, usual_handler):
    ended = []

    def function(x):
        signal.raise_signal(signal.SIGINT)
        ended.append(True)
        return x + 1.0

    program = execution.compiled(function, mode)
    with pytest.raises(KeyboardInterrupt):
        program(tf.zeros([2]))
    assert ended == [True]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
