"""ArviZ export, comparison of fits and plots."""
