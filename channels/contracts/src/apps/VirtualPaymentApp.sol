// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Hashing} from "../Hashing.sol";
import {IForceMoveApp} from "../IForceMoveApp.sol";
import {
    Allocation,
    FixedPart,
    RecoveredVariablePart,
    SIMPLE,
    Signature,
    SingleAssetExit,
    VariablePart
} from "../NitroTypes.sol";
import {Signers} from "./Signers.sol";

/// Payments by vouchers: the first participant (Alice) pays the last (Bob), through any number of others.
///
/// Turns 0 and 1 are signed by everybody. Turn 2 is Bob's redemption of Alice's latest voucher, proved by turn 1.
/// App data of the redemption: abi.encode(uint256 amount, Signature of Alice over keccak256(abi.encode(channelId, amount))).
contract VirtualPaymentApp is IForceMoveApp {
    function stateIsSupported(
        FixedPart calldata fixedPart,
        RecoveredVariablePart[] calldata proof,
        RecoveredVariablePart calldata candidate
    ) external pure override returns (bool, string memory) {
        uint48 turnNum = candidate.variablePart.turnNum;
        if (proof.length == 0) {
            require(Signers.isUnanimous(fixedPart, candidate), "!unanimous; |proof|=0");
            require(turnNum < 2, "bad candidate turnNum; |proof|=0");
            return (true, "");
        }
        require(proof.length == 1, "bad proof length");
        require(proof[0].variablePart.turnNum == 1, "bad proof[0].turnNum; |proof|=1");
        require(Signers.isUnanimous(fixedPart, proof[0]), "postfund !unanimous; |proof|=1");
        require(turnNum == 2, "bad candidate turnNum; |proof|=1");
        require(
            Signers.has(candidate, fixedPart.participants.length - 1), "redemption not signed by Bob"
        );
        uint256 amount = _voucherAmount(fixedPart, candidate.variablePart.appData);
        _requireRedeems(proof[0].variablePart, candidate.variablePart, amount);
        return (true, "");
    }

    function _voucherAmount(FixedPart calldata fixedPart, bytes calldata appData) private pure returns (uint256) {
        (uint256 amount, Signature memory signature) = abi.decode(appData, (uint256, Signature));
        bytes32 hash = keccak256(abi.encode(Hashing.channelId(fixedPart), amount));
        address payer = ecrecover(Hashing.digest(hash), signature.v, signature.r, signature.s);
        require(payer != address(0), "Invalid signature");
        require(payer == fixedPart.participants[0], "invalid signature for voucher");
        return amount;
    }

    /// The amount has moved from Alice to Bob, and nothing else has changed.
    function _requireRedeems(VariablePart calldata old, VariablePart calldata redemption, uint256 amount)
        private
        pure
    {
        require(old.outcome.length == 1 && redemption.outcome.length == 1, "only one asset allowed");
        SingleAssetExit calldata oldExit = old.outcome[0];
        SingleAssetExit calldata newExit = redemption.outcome[0];
        require(oldExit.asset == newExit.asset, "asset changed");
        require(
            oldExit.allocations.length == 2 && newExit.allocations.length == 2, "only two allocations allowed"
        );
        for (uint256 i = 0; i < 2; ++i) {
            Allocation calldata before = oldExit.allocations[i];
            Allocation calldata afterwards = newExit.allocations[i];
            require(before.destination == afterwards.destination, "destination changed");
            require(
                before.allocationType == SIMPLE && afterwards.allocationType == SIMPLE, "only simple allocations allowed"
            );
        }
        require(
            newExit.allocations[0].amount == oldExit.allocations[0].amount - amount, "Alice not adjusted correctly"
        );
        require(
            newExit.allocations[1].amount == oldExit.allocations[1].amount + amount, "Bob not adjusted correctly"
        );
    }
}
