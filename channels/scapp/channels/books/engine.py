"""The books: what a node decides about its ledgers and virtual channels, by turning the crank of whatever has changed.

An input is decided by a function of `ledger` or `virtual` (its whole step is folded, or none of it); then every record
that this touched is cranked, and whatever that touches, until nothing is left to do. What an input costs depends on the
records it touches, not on how many there are. Nothing here sends or stores: `runner.py` takes the step and does both.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

import msgspec

from scapp.channels.books.retries import Retries
from scapp.channels.books.state import BooksState
from scapp.channels.books.step import BooksTerms, Context, Note, Send, Signer, Step
from scapp.channels.errors import LocalError, ScappError
from scapp.channels.ledger import crank as ledger_crank
from scapp.channels.ledger.proposals import Proposal
from scapp.channels.ledger.record import LedgerRecord
from scapp.channels.types import Address, ChannelId
from scapp.channels.virtual import crank as virtual_crank
from scapp.channels.virtual.crank import Funding
from scapp.channels.virtual.record import VirtualRecord

logger = logging.getLogger("scapp.books")

Input = Callable[["Books"], Step]
"""Decides one step; may read everything of the books."""

ROUNDS_MAX = 64
