"""Who may spend what: a request's voucher is checked here, and what is new in it goes to the payee's node.

A voucher is also a key to its channel's credit: only payer and payee have ever seen it. It need not be the newest, as
requests overtake each other, but it is always checked to be signed by the channel's payer.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from examples.paywall.credit import Account
from examples.paywall.spending import Spending
from examples.paywall.till import Till, TillRefused
from scapp.channels.abi import InvalidValue
from scapp.channels.nitro_json import read_voucher
from scapp.channels.payments.vouchers import Voucher, is_signed
from scapp.channels.signing import Verifier
from scapp.channels.types import Address, ChannelId

ACCOUNTS_KEPT = 10_000
"""Accounts in memory; one that nobody uses is forgotten first, its spending stands on disk."""
ASK_AGAIN_S = 0.25
VOUCHER_CHARACTERS_MAX = 1_024


class Refused(Exception):
    """What is wrong with a request's voucher. `status` is 400 for what cannot be read, 402 for what pays nothing."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class Accounts:
    """Belongs to the event loop. Only channels in `asset` count."""

    def __init__(self, till: Till, spending: Spending, asset: Address) -> None:
        self._till = till
        self._spending = spending
        self._asset = asset
        self._accounts: OrderedDict[ChannelId, Account] = OrderedDict()
        self._verifiers: dict[ChannelId, Verifier] = {}
        self._opening: dict[ChannelId, asyncio.Task[Account]] = {}
        self._paid = asyncio.Event()

    @asynccontextmanager
    async def present(self, text: str) -> AsyncIterator[Account]:
        """The account of a voucher, with what it adds, for one request. Raises Refused, TillUnreachable."""
        if len(text) > VOUCHER_CHARACTERS_MAX:
            raise Refused(400, f"a voucher of {len(text)} characters; allowed are {VOUCHER_CHARACTERS_MAX}")
        try:
            voucher = read_voucher(text)
        except InvalidValue as error:
            raise Refused(400, f"the voucher cannot be read: {error}") from None
        account = await self._account(voucher.channel)
        account.guests += 1
        try:
            await self._admit(account, voucher)
            yield account
        finally:
            account.guests -= 1

    async def _admit(self, account: Account, voucher: Voucher) -> None:
        if not is_signed(voucher, self._verifiers[voucher.channel]):
            raise Refused(402, f"the voucher is not signed by the channel's payer, 0x{account.payer.hex()}")
        if voucher.amount > account.paid:
            await self._take(account, voucher)

    async def _take(self, account: Account, voucher: Voucher) -> None:
        try:
            total = await self._till.take(voucher)
        except TillRefused as error:
            raise Refused(402, str(error)) from None
        self._was_paid(account, total)

    async def _account(self, channel: ChannelId) -> Account:
        """Asked of the node once, however many requests want it."""
        known = self._accounts.get(channel)
        if known is not None:
            self._accounts.move_to_end(channel)
            return known
        opening = self._opening.get(channel)
        if opening is None:
            opening = self._opening[channel] = asyncio.ensure_future(self._open(channel))
            opening.add_done_callback(lambda _: self._opening.pop(channel, None))
        return await asyncio.shield(opening)

    async def _open(self, channel: ChannelId) -> Account:
        terms = await self._till.channel(channel)
        if terms is None:
            raise Refused(402, f"0x{channel.hex()} is no payment channel to 0x{self._till.payee.hex()}")
        if terms.asset != self._asset:
            raise Refused(402, f"the channel pays in 0x{terms.asset.hex()}, the price is in 0x{self._asset.hex()}")
        account = Account(channel, terms.payer, terms.asset, terms.paid, self._spending.spent(channel))
        self._verifiers[channel] = Verifier(terms.payer)
        self._accounts[channel] = account
        self._make_room()
        return account

    def _make_room(self) -> None:
        over = max(0, len(self._accounts) - ACCOUNTS_KEPT)
        for channel, account in list(itertools.islice(self._accounts.items(), over)):
            if not account.guests:
                del self._accounts[channel], self._verifiers[channel]

    def _was_paid(self, account: Account, total: int) -> None:
        if total > account.paid:
            account.paid = total
            self._paid.set()
            self._paid = asyncio.Event()

    async def refresh(self, account: Account) -> bool:
        """Ask the node what was paid: vouchers also go there straight from the payer's. Has it become more?"""
        before = account.paid
        terms = await self._till.channel(account.channel)
        if terms is not None:
            self._was_paid(account, terms.paid)
        return account.paid > before

    async def wait_for_more(self, account: Account, seconds: float) -> bool:
        """Wait until more is paid, with another request or straight to the node; False when the time is over."""
        end = asyncio.get_running_loop().time() + seconds
        before = account.paid
        while account.paid == before:
            left = end - asyncio.get_running_loop().time()
            if left <= 0:
                return False
            try:
                await asyncio.wait_for(self._paid.wait(), min(left, ASK_AGAIN_S))
            except TimeoutError:
                await self.refresh(account)
        return True
