"""A node guarantees virtual channels only on contracts that protect what is guaranteed (ADR 0063)."""

from __future__ import annotations

import logging

import msgspec
import pytest

from scapp.channels.chain.contracts import load
from scapp.channels.chain.fake import FakeClient, Faults
from scapp.channels.chain.protection import protection
from scapp.channels.chain.service import LiveChain
from scapp.channels.errors import LocalError
from scapp.channels.log.memory import MemoryLog
from scapp.channels.onchain import Protection
from scapp.channels.types import ZERO_ADDRESS, Address
from tests.support import chain_stories as story
from tests.support.ledger_scene import LedgerScene

HOLDER, PAYMENT, APP, LOCKS = (Address(bytes([each]) * 20) for each in (1, 2, 3, 4))
NONE = (ZERO_ADDRESS, b"")
FOREIGN = Protection(*("the contracts are not scapp's",) * 3)


def code(name: str) -> bytes:
    return load(name).deployed_bytecode


def test_our_contracts_protect_both_kinds():
    holder, app = (HOLDER, code("NitroAdjudicator")), (APP, code("TwoPartyApp"))
    locks = (LOCKS, code("HashLockPaymentApp"))
    assert protection(holder, (PAYMENT, code("VirtualPaymentApp")), app, locks) == Protection()
    assert protection(holder, (PAYMENT, code("HashLockPaymentApp")), app, NONE) == Protection()
    assert protection(holder, NONE, NONE, NONE) == Protection()


def test_another_adjudicator_protects_nothing_and_another_app_only_not_its_kind():
    """One byte more or less is another contract; no code at all is none."""
    payment, app = (PAYMENT, code("VirtualPaymentApp")), (APP, code("TwoPartyApp"))
    for wrong in (code("NitroAdjudicator") + b"\0", code("NitroAdjudicator")[:-1], code("ConsensusApp")):
        found = protection((HOLDER, wrong), payment, app, NONE)
        assert found.payment == found.app == found.locks
        assert f"0x{'01' * 20} (chain.adjudicator) is not scapp's NitroAdjudicator" in found.app
    holder = HOLDER, code("NitroAdjudicator")
    found = protection(holder, app, app, payment)
    assert "(chain.hash_lock_app) is not scapp's HashLockPaymentApp" in found.locks
    assert "(chain.virtual_payment_app) is not scapp's VirtualPaymentApp or HashLockPaymentApp" in found.payment
    assert found.app == ""
    assert "(chain.two_party_app) has no contract" in protection(holder, payment, (APP, b""), NONE).app


async def test_the_chain_service_tells_once_the_chain_has_answered(caplog: pytest.LogCaptureFixture):
    """Nothing is known before; an app that is none is named in the log, and stops nothing else."""
    caplog.set_level(logging.WARNING, "scapp.chain")
    settings = msgspec.structs.replace(story.settings(), two_party_app=APP)
    client = FakeClient(story.new_chain(), faults=Faults(down=True))
    service = LiveChain(settings, client, MemoryLog(), story.PAYER, story.ALICE.sign)
    await service.start(lambda channel, view: None, lambda time_s: None)
    await service.stop()
    assert service.protection is service.status().protection is None
    client.faults.down = False
    await service.start(lambda channel, view: None, lambda time_s: None)
    await service.stop()
    assert service.protection is not None
    assert service.protection.payment == ""
    assert "has no contract" in service.protection.app
    assert sum("has no contract" in text for text in caplog.messages) == 1


@pytest.fixture
async def scene():
    found = await LedgerScene(3).start()
    yield found
    await found.end()


async def test_nobody_guarantees_a_channel_on_foreign_contracts(scene: LedgerScene):
    """Payer, hub, payee and the parties of an app channel refuse, each with the reason; ledgers themselves run."""
    await scene.ledger(0, 1)
    await scene.ledger(1, 2)
    scene.services[0].protection = FOREIGN
    with pytest.raises(LocalError, match=r"not scapp's .*unprotected_guarantees"):
        await scene.open_payments((0, 1, 2), 10)
    with pytest.raises(LocalError, match="not scapp's"):
        await scene.app_channel((0, 1, 2), (5, 5), (0,))
    scene.services[0].protection = Protection()
    for who in (1, 2):
        scene.services[who].protection = FOREIGN
        channel = await scene.open_payments((0, 1, 2), 10)
        await scene.until(lambda channel=channel: scene.virtual_phase(channel, "rejected", (0,)))
        assert "not scapp's" in scene.virtual(0, channel).reason
        scene.services[who].protection = Protection()
    await scene.payments((0, 1, 2), 10)


async def test_a_hub_that_does_not_know_its_contracts_yet_refuses_what_is_new(scene: LedgerScene):
    await scene.ledger(0, 1)
    await scene.ledger(1, 2)
    scene.services[1].protection = None
    channel = await scene.open_payments((0, 1, 2), 10)
    await scene.until(lambda: scene.virtual_phase(channel, "rejected", (0,)))
    assert "has not answered yet" in scene.virtual(0, channel).reason


async def test_the_operator_may_guarantee_all_the_same():
    scene = LedgerScene(2)
    scene.unprotected = True
    await scene.start()
    await scene.ledger(0, 1)
    for service in scene.services.values():
        service.protection = FOREIGN
    await scene.payments((0, 1), 10)
    await scene.end()
