// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {StrictTurnTaking} from "../src/apps/StrictTurnTaking.sol";
import {IForceMoveApp} from "../src/IForceMoveApp.sol";
import {FixedPart, RecoveredVariablePart, VariablePart} from "../src/NitroTypes.sol";

/// An app by turns: each move adds one to the number in the app data, and the outcome stays.
contract CountingApp is IForceMoveApp {
    function stateIsSupported(
        FixedPart calldata fixedPart,
        RecoveredVariablePart[] calldata proof,
        RecoveredVariablePart calldata candidate
    ) external pure override returns (bool, string memory) {
        StrictTurnTaking.requireValidTurnTaking(fixedPart, proof, candidate);
        for (uint256 i = 0; i < proof.length; ++i) {
            _requireCounts(
                proof[i].variablePart, i + 1 == proof.length ? candidate.variablePart : proof[i + 1].variablePart
            );
        }
        return (true, "");
    }

    function _requireCounts(VariablePart calldata before, VariablePart calldata afterwards) private pure {
        require(
            abi.decode(afterwards.appData, (uint256)) == abi.decode(before.appData, (uint256)) + 1,
            "Counter must be incremented"
        );
        require(
            keccak256(abi.encode(afterwards.outcome)) == keccak256(abi.encode(before.outcome)), "Outcome must not change"
        );
    }
}
