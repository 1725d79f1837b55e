"""Measures of scapp's hot paths, each beside its reference; `runner.py` says how to write one."""
