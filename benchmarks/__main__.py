"""`python -m benchmarks [--only NAME[,NAME…]]`: see `runner.py`."""

from benchmarks.runner import main

if __name__ == "__main__":
    raise SystemExit(main())
