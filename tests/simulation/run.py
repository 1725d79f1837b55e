"""`python -m tests.simulation.run SEEDS [FIRST]`: play that many lives and count what they reached."""

from __future__ import annotations

import sys
from collections import Counter

from tests.simulation.life import play


def main(arguments: list[str]) -> int:
    """Exit code 1 when a life was unsafe; the seed that failed is printed first."""
    count = int(arguments[0]) if arguments else 1_000
    first = int(arguments[1]) if len(arguments) > 1 else 0
    reached: Counter[str] = Counter()
    for seed in range(first, first + count):
        try:
            reached.update(play(seed))
        except BaseException:
            print(f"seed {seed} failed; again: python -m tests.simulation.run 1 {seed}", file=sys.stderr)
            raise
    for what, lives in reached.most_common():
        print(f"{lives:7} of {count}: {what}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
