// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IForceMoveApp} from "../IForceMoveApp.sol";
import {
    Allocation,
    FixedPart,
    RecoveredVariablePart,
    SIMPLE,
    SingleAssetExit,
    VariablePart
} from "../NitroTypes.sol";
import {Signers} from "./Signers.sol";

/// An app between the first and the last participant, who alone run it; those in between only lend them funds.
///
/// Turns 0 and 1 are signed by everybody. Every later state needs both app parties, and turn 1 as proof; it may divide
/// the funds differently and change nothing else about them, so that it concerns nobody in between.
contract TwoPartyApp is IForceMoveApp {
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
        require(turnNum >= 2, "bad candidate turnNum; |proof|=1");
        require(Signers.has(candidate, 0), "not signed by the first participant");
        require(Signers.has(candidate, fixedPart.participants.length - 1), "not signed by the last participant");
        _requireSameSlots(proof[0].variablePart, candidate.variablePart);
        return (true, "");
    }

    /// One asset, two simple allocations, and the same sum for the same destinations in the same order.
    function _requireSameSlots(VariablePart calldata old, VariablePart calldata candidate) private pure {
        require(old.outcome.length == 1 && candidate.outcome.length == 1, "only one asset allowed");
        SingleAssetExit calldata oldExit = old.outcome[0];
        SingleAssetExit calldata newExit = candidate.outcome[0];
        require(oldExit.asset == newExit.asset, "asset changed");
        require(
            oldExit.allocations.length == 2 && newExit.allocations.length == 2, "only two allocations allowed"
        );
        uint256 oldSum;
        uint256 newSum;
        for (uint256 i = 0; i < 2; ++i) {
            Allocation calldata before = oldExit.allocations[i];
            Allocation calldata afterwards = newExit.allocations[i];
            require(before.destination == afterwards.destination, "destination changed");
            require(
                before.allocationType == SIMPLE && afterwards.allocationType == SIMPLE, "only simple allocations allowed"
            );
            oldSum += before.amount;
            newSum += afterwards.amount;
        }
        require(oldSum == newSum, "sum changed");
    }
}
