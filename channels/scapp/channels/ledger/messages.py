"""What the two parties of a ledger say to each other, as MessagePack arrays; each names its ledger first.

Everything here is a claim until the deciders have checked it. Decoding checks shapes and lengths only.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from scapp.channels.books.wire import B16, B20, B32, B65, U32, U48, U63, U64, MaybeB65, Short, WireAmount
from scapp.channels.ledger.wire import WireBalances, WireProposal

FUNDS_MAX = 16
UPDATES_MAX = 256  # as many as a leader's queue has
ASKS_MAX = 16  # requests of a follower that are not decided yet


class OpenLedger(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="l:open"):
    """Participant 0 proposes a ledger, with its signature under the prefund state."""

    channel: B32
    participants: tuple[B20, B20]
    nonce: U64
    app_definition: B20
    challenge_duration: U32
    destinations: tuple[B32, B32]
    funds: Annotated[tuple[tuple[B20, WireAmount, WireAmount], ...], msgspec.Meta(min_length=1, max_length=FUNDS_MAX)]
    signature: B65


class RejectLedger(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="l:reject"):
    """The sender does not join, or no longer offers it."""

    channel: B32
    reason: Short


class SignStage(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="l:stage"):
    """The sender's signature under the prefund (0) or postfund state (1). `answer` asks for the receiver's."""

    channel: B32
    turn: Annotated[int, msgspec.Meta(ge=0, le=1)]
    signature: B65
    answer: bool = False


class Update(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One change, with the leader's signature under the state that it leads to. `ask` is the number of the follower's
    request that it answers, 0 for none."""

    turn: U48
    proposal: WireProposal
    signature: B65
    ask: U63 = 0


class Updates(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="l:update"):
    """The leader's whole queue, in its order."""

    channel: B32
    updates: Annotated[tuple[Update, ...], msgspec.Meta(min_length=1, max_length=UPDATES_MAX)]


class Agree(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="l:agree"):
    """The follower's signature under the state of that turn."""

    channel: B32
    turn: U48
    signature: B65


class Ask(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="l:ask"):
    """All that the follower asks the leader to propose, as far as it is not decided; numbers ascend."""

    channel: B32
    asks: Annotated[tuple[tuple[U63, WireProposal], ...], msgspec.Meta(min_length=1, max_length=ASKS_MAX)]


class Decline(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="l:decline"):
    """The leader will not propose the request of that number."""

    channel: B32
    number: U63
    reason: Short


class AskClose(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="l:close"):
    """The follower wants the ledger to end."""

    channel: B32


class SignFinal(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="l:final"):
    """The sender's signature under the final state of that turn. `answer` asks for the receiver's."""

    channel: B32
    turn: U48
    signature: B65
    answer: bool = False


class AskStanding(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="l:restored"):
    """The sender was restored and asks where the ledger stands."""

    channel: B32
    token: B16


class TellStanding(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="l:standing"):
    """Answer to `AskStanding`, with its token: the newest state that both have signed (None below the postfund),
    both parties' signatures under the prefund and the final state as far as the sender has them, the turn above which
    updates go on, the number above which requests of the follower go on, and those in the leader's queue."""

    channel: B32
    token: B16
    balances: WireBalances | None
    signatures: tuple[MaybeB65, MaybeB65]
    prefund: tuple[MaybeB65, MaybeB65]
    final_turn: U48
    final: tuple[MaybeB65, MaybeB65]
    floor: U48
    asked: U63
    kept: Annotated[tuple[U63, ...], msgspec.Meta(max_length=UPDATES_MAX)]


LedgerMessage = (
    OpenLedger
    | RejectLedger
    | SignStage
    | Updates
    | Agree
    | Ask
    | Decline
    | AskClose
    | SignFinal
    | AskStanding
    | TellStanding
)
