"""What the participants of a virtual channel say to each other, as MessagePack arrays; `events.py` has what is stored.

Everything goes along the path: a participant tells its neighbours, and passes on what they tell it. `Said` is all that
the sender knows, so one that is lost, doubled or late does no harm. Decoding checks shapes and lengths only.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from scapp.channels.backing import ASSETS_MAX, HUBS_MAX
from scapp.channels.books.wire import B20, B32, U32, U48, U64, MaybeB65, Short, WireAmount

APP_DATA_MAX = 1_024

AppData = Annotated[bytes, msgspec.Meta(max_length=APP_DATA_MAX)]
Pair = Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]
"""Two amounts: the first participant's and the last one's."""
Amounts = Annotated[bytes, msgspec.Meta(max_length=64 * ASSETS_MAX)]
Signatures = Annotated[tuple[MaybeB65, ...], msgspec.Meta(max_length=HUBS_MAX + 2)]
"""One per participant, empty where unknown; none at all for a state that the sender does not know."""


class Proposed(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="v:open"):
    """A virtual channel, to a neighbour that has not signed its prefund state; fields as in `events.Agreed`."""

    channel: B32
    kind: Literal["payment", "app"]
    participants: Annotated[tuple[B20, ...], msgspec.Meta(min_length=2, max_length=HUBS_MAX + 2)]
    nonce: U64
    app_definition: B20
    challenge_duration: U32
    destinations: tuple[B32, B32]
    assets: Annotated[tuple[tuple[B20, Pair], ...], msgspec.Meta(min_length=1, max_length=ASSETS_MAX)]
    app_data: AppData
    fees: Annotated[tuple[WireAmount, ...], msgspec.Meta(max_length=HUBS_MAX)]
    prefund: Signatures


class Postfund(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The state of turn 1; its amounts are the agreed ones."""

    app_data: AppData
    signatures: Signatures


class Final(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The final state: its amounts, and who has signed it."""

    turn: U48
    amounts: Amounts
    app_data: AppData
    signatures: Signatures


class Said(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="v:say"):
    """All that the sender knows and the receiver may need.

    `end`: why the channel shall end, empty if nobody asks for it. `held`: the sender's left ledger holds the guarantee;
    `cleared`: its right ledger is free of it; `never`: the sender leads the ledger with the receiver and will not put
    the guarantee in. `answer`: please say the same of yours. `token`: the sender was restored and signs nothing before
    the receiver has repeated it in `echo`."""

    channel: B32
    prefund: Signatures
    postfund: Postfund | None = None
    final: Final | None = None
    aborted: Signatures = ()
    end: Short = ""
    held: bool = False
    cleared: bool = False
    never: bool = False
    answer: bool = False
    token: Annotated[bytes, msgspec.Meta(max_length=16)] = b""
    echo: Annotated[bytes, msgspec.Meta(max_length=16)] = b""


class Refused(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="v:refuse"):
    """Participant `by` does not join, or no longer offers the channel."""

    channel: B32
    by: Annotated[int, msgspec.Meta(ge=0, lt=HUBS_MAX + 2)]
    reason: Short


class Unknown(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="v:unknown"):
    """The sender knows nothing of this channel: the receiver may propose it again. Its proposal shows a node that was
    restored what it has signed. A node that never was repeats the receiver's token: it has nothing to tell."""

    channel: B32
    echo: Annotated[bytes, msgspec.Meta(max_length=16)] = b""


VirtualMessage = Proposed | Said | Refused | Unknown
