"""The model computes what the compiled contracts compute, on random calls that build on each other."""

from __future__ import annotations

from scapp.channels.chain.calls import decode_call, encode_call
from scapp.channels.chain.contract_events import decode_event, encode_event
from scapp.channels.chain.model import execute
from scapp.channels.chain.model_world import Revert, Token, World
from scapp.channels.chain.support import App
from tests.chain import cast
from tests.chain.cast import World as Contracts
from tests.chain.differential import TOKENS, Story
from tests.chain.draws import Draws
from tests.chain.evm import Receipt
from tests.chain.states import ADDRESSES

LIVES, LIVES_MAX = 8, 24
STEPS = 150
MODELLED = {
    "deposit", "challenge", "checkpoint", "conclude", "concludeAndTransferAllAssets", "transferAllAssets", "transfer",
    "reclaim",
}  # fmt: skip


class ModelStory(Story):
    """Random calls on the contracts and the model; the latter takes the place of the published contracts."""

    def __init__(self, seed: str, app: App) -> None:
        self.ours = self.theirs = Contracts()
        consensus, token = self.ours.consensus.address, self.ours.token.address
        two_party = cast.deploy(self.ours.evm, cast.contracts.load("TwoPartyApp")).address
        other = self.ours.payments.address if app == "payment" else two_party
        Draws.__init__(self, seed, consensus, other, token)
        self.log, self.known = [], {}
        self.reasons: set[str] = set()
        self.model = World(self.ours.adjudicator.address, consensus, {other: app})
        self.model.tokens[token] = Token({}, {})
        for address in ADDRESSES.values():
            self.ours.give(address, TOKENS)
            self.ours.token.send(address, "approve", self.ours.adjudicator.address, 2**256 - 1)
            self.model.balances[address] = self.ours.evm.balance(address)
            self.model.tokens[token].balances[address] = TOKENS
            self.model.tokens[token].allowances[address, self.ours.adjudicator.address] = 2**256 - 1

    def check_invariants(self) -> None:
        """Those of the contracts alone are the business of test_differential.py."""

    def call(self, function, *arguments, value=0):
        """Send one call to both; whether it succeeded. Everything that can be seen must be equal."""
        if function not in MODELLED:
            return False
        calldata = self.ours.adjudicator.interface.call(function, *arguments)
        sender = ADDRESSES[self.draw.choice(list(ADDRESSES))]
        call = decode_call(calldata)
        assert encode_call(call) == calldata
        here = self.ours.evm.send(sender, self.ours.adjudicator.address, calldata, value)
        self.log.append(f"{function} {here.reason or 'ok'}")
        after, reason, found = self.model.copy(), None, []
        try:
            found = execute(after, sender, self.ours.adjudicator.address, call, value, self.ours.evm.timestamp)
        except Revert as refused:
            reason = str(refused)
        else:
            self.model = after
        assert reason == here.reason, self.tail(function)
        self.compare_events(here, found)
        self.compare_model(function)
        self.reasons.add(f"{function}: {reason}")
        return here.ok

    def compare_events(self, receipt: Receipt, found) -> None:
        logs = [log for log in receipt.logs if log.address == self.ours.adjudicator.address]
        assert [encode_event(event) for event in found] == [(log.topics, log.data) for log in logs]
        assert [decode_event(log.topics, log.data) for log in logs] == found

    def compare_model(self, function: str) -> None:
        token = self.ours.token.address
        for channel in {*self.channels, *self.known}:
            assert self.model.status.get(channel, bytes(32)) == self.ours.status(channel), self.tail(function)
            for asset in self.assets:
                assert self.model.held(asset, channel) == self.ours.holdings(asset, channel), self.tail(function)
        for address in (*ADDRESSES.values(), self.ours.adjudicator.address):
            coin, tokens = self.wealth_of(address)
            assert self.model.balances.get(address, 0) == coin, self.tail(function)
            assert self.model.tokens[token].balances.get(address, 0) == tokens, self.tail(function)


def test_model_and_contracts_agree(seed):
    """Status words, holdings, balances, events and revert reasons, after each of many calls in several lives; in more
    of them when a call has not succeeded yet: in one of four no reclaim does."""
    reasons: set[str] = set()
    succeeded = {f"{name}: None" for name in MODELLED}
    for life in range(LIVES_MAX):
        if life >= LIVES and succeeded <= reasons:
            break
        story = ModelStory(f"{seed}/{life}", "payment" if life % 2 else "two-party")
        for _ in range(STEPS):
            story.step()
        reasons |= story.reasons
    assert succeeded <= reasons
    assert len(reasons) > 20, reasons
