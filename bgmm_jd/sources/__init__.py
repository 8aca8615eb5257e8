"""Rows that are not in memory: files, data sets and batches, read some at a time."""
