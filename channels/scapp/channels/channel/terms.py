"""How this node deals with the chain side of its channels; its operator's choice, not part of what is signed."""

from __future__ import annotations

import msgspec


class ChainTerms(msgspec.Struct, frozen=True, kw_only=True):
    """All in seconds. A time-out of 0 never ends.

    `challenge_duration_min_s`: funded channels in which a challenge ends sooner are neither opened nor accepted.
    `challenge_duration_max_s`: nor those in which leaving takes longer than that.
    `margin_s`: that long before a challenge ends, nothing more is signed; half the challenge duration at most.
    `conclude_delay_s`: participant i waits i times that long for the ones before it to conclude.
    `funding_timeout_s`: without any progress of the funding for that long, the node leaves.
    `silence_timeout_s`: the node leaves a running channel in which it waits for others' signatures for that long."""

    challenge_duration_min_s: int = 3_600
    challenge_duration_max_s: int = 2_592_000
    margin_s: int = 600
    conclude_delay_s: int = 60
    funding_timeout_s: int = 3_600
    silence_timeout_s: int = 0

    def margin(self, challenge_duration_s: int) -> int:
        """The margin in a channel of that challenge duration."""
        return min(self.margin_s, challenge_duration_s // 2)

    def duration_fault(self, challenge_duration_s: int) -> str:
        """Why a funded channel may not have that challenge duration, or an empty string."""
        least, most = self.challenge_duration_min_s, self.challenge_duration_max_s
        if challenge_duration_s < least:
            wanted = f"this node wants {least} s at least (disputes.challenge_duration_min_s)"
            return f"challenge duration {challenge_duration_s} s; {wanted}"
        if challenge_duration_s > most:
            wanted = f"this node wants {most} s at most (disputes.challenge_duration_max_s)"
            return f"challenge duration {challenge_duration_s} s; {wanted}"
        return ""
