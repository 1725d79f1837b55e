// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IForceMoveApp, IVirtualApp} from "../IForceMoveApp.sol";
import {Allocation, FixedPart, RecoveredVariablePart, SingleAssetExit} from "../NitroTypes.sol";
import {Signers} from "./Signers.sol";
import {VirtualChannels} from "./VirtualChannels.sol";

/// An app between the first and the last participant, who alone run it; those in between only lend them funds.
///
/// Turns 0 and 1 are signed by everybody. Every later state needs both app parties, and turn 1 as proof; it may divide
/// the funds differently and change nothing else about them.
contract TwoPartyApp is IForceMoveApp, IVirtualApp {
    function isVirtual() external pure override returns (bool) {
        return true;
    }

    function stateIsSupported(
        FixedPart calldata fixedPart,
        RecoveredVariablePart[] calldata proof,
        RecoveredVariablePart calldata candidate
    ) external pure override returns (bool, string memory) {
        if (VirtualChannels.isOpening(fixedPart, proof, candidate)) return (true, "");
        require(candidate.variablePart.turnNum >= 2, "bad candidate turnNum; |proof|=1");
        require(Signers.has(candidate, 0), "not signed by the first participant");
        require(Signers.has(candidate, fixedPart.participants.length - 1), "not signed by the last participant");
        _requireSameSums(proof[0].variablePart.outcome, candidate.variablePart.outcome);
        return (true, "");
    }

    /// Every asset is divided between the same two, as much of it as before.
    function _requireSameSums(SingleAssetExit[] calldata old, SingleAssetExit[] calldata later) private pure {
        require(old.length == later.length, "number of assets changed");
        for (uint256 i = 0; i < old.length; ++i) {
            (Allocation[] calldata before, Allocation[] calldata afterwards) =
                VirtualChannels.sameSlots(old[i], later[i]);
            require(
                before[0].amount + before[1].amount == afterwards[0].amount + afterwards[1].amount, "sum changed"
            );
        }
    }
}
