// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Hashing} from "./Hashing.sol";
import {IForceMoveApp} from "./IForceMoveApp.sol";
import {FixedPart, RecoveredVariablePart, SignedVariablePart} from "./NitroTypes.sol";

/// Asks a channel's app whether a state is supported.
library Support {
    /// The app's answer, with the signers of each state recovered. `stateHash` is the candidate's.
    function ask(
        bytes32 channelId,
        FixedPart calldata fixedPart,
        SignedVariablePart[] calldata proof,
        SignedVariablePart calldata candidate,
        bytes32 stateHash
    ) internal view returns (bool, string memory) {
        address[] calldata participants = fixedPart.participants;
        RecoveredVariablePart[] memory recovered = new RecoveredVariablePart[](proof.length);
        for (uint256 i = 0; i < proof.length; ++i) {
            bytes32 hash = Hashing.stateHash(channelId, proof[i].variablePart);
            recovered[i] =
                RecoveredVariablePart(proof[i].variablePart, Hashing.signedBy(participants, hash, proof[i].sigs));
        }
        return IForceMoveApp(fixedPart.appDefinition).stateIsSupported(
            fixedPart,
            recovered,
            RecoveredVariablePart(candidate.variablePart, Hashing.signedBy(participants, stateHash, candidate.sigs))
        );
    }
}
