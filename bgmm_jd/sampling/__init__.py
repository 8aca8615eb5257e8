"""Draws of the whole posterior: mixture proposals, labels, a scout for modes, log evidence."""
