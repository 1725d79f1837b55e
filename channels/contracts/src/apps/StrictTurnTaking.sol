// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {FixedPart, RecoveredVariablePart} from "../NitroTypes.sol";

/// Support by turns: participant (turn mod n) moves. A state counts when the n states up to it, with consecutive turns,
/// are each signed by their mover alone: everybody has then seen what went before its own move.
library StrictTurnTaking {
    function requireValidTurnTaking(
        FixedPart calldata fixedPart,
        RecoveredVariablePart[] calldata proof,
        RecoveredVariablePart calldata candidate
    ) internal pure {
        uint256 participants = fixedPart.participants.length;
        require(participants <= 255, "Too many participants");
        require(proof.length + 1 == participants, "Invalid number of proof states");
        uint256 turnNum = candidate.variablePart.turnNum;
        require(turnNum >= proof.length, "Wrong variablePart.turnNum");
        turnNum -= proof.length;
        for (uint256 i = 0; i < proof.length; ++i) {
            _requireMoved(proof[i], turnNum + i, participants);
        }
        _requireMoved(candidate, turnNum + proof.length, participants);
    }

    function _requireMoved(RecoveredVariablePart calldata state, uint256 turnNum, uint256 participants) private pure {
        require(state.variablePart.turnNum == turnNum, "Wrong variablePart.turnNum");
        require(state.signedBy == 1 << (turnNum % participants), "Invalid signedBy");
    }
}
