"""What TensorFlow has traced."""

from tensorflow.python.eager import context


def traced():
    """Return the names of the functions that TensorFlow has traced, each of which it compiles.

    No public function tells them.
    """
    return set(context.context().list_function_names())
