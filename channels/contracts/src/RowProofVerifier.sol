// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Hashing} from "./Hashing.sol";
import {FixedPart, SignedVariablePart} from "./NitroTypes.sol";
import {RowClaim, RowProofs} from "./RowProofs.sol";
import {Support} from "./Support.sol";

/// Says on chain what was co-signed off chain: rows of a channel's tables at a supported turn.
/// That the turn is the latest is not proved; whoever relies on it must give the others time to show a later one.
contract RowProofVerifier {
    /// Whether a claim holds under a state root.
    function verify(bytes32 stateRoot, RowClaim calldata claim) external pure returns (bool) {
        return RowProofs.holds(stateRoot, claim);
    }

    /// The claim holds at a supported state of a channel with the named deployment; reverts with the reason if not.
    /// Channels without an app contract need everybody's signature.
    function requireRow(
        FixedPart calldata fixedPart,
        SignedVariablePart[] calldata proof,
        SignedVariablePart calldata candidate,
        bytes32 deployment,
        RowClaim calldata claim
    ) external view returns (bytes32 channelId, uint48 turnNum) {
        channelId = Hashing.channelId(fixedPart);
        turnNum = candidate.variablePart.turnNum;
        bytes32 stateHash = Hashing.stateHash(channelId, candidate.variablePart);
        if (fixedPart.appDefinition == address(0)) {
            uint256 signers = Hashing.signedBy(fixedPart.participants, stateHash, candidate.sigs);
            require(Hashing.isUnanimous(signers, fixedPart.participants.length), "!unanimous");
        } else {
            (bool supported, string memory reason) = Support.ask(channelId, fixedPart, proof, candidate, stateHash);
            require(supported, reason);
        }
        (bytes32 found, bytes32 stateRoot) = _commitments(candidate.variablePart.appData);
        require(found == deployment, "other deployment");
        require(RowProofs.holds(stateRoot, claim), "row proof does not hold");
    }

    /// Deployment and state root in an app channel's app data (docs/reference/app-channel.md, section 2).
    function _commitments(bytes calldata appData) private pure returns (bytes32 deployment, bytes32 stateRoot) {
        require(appData.length == 192, "not an app channel's state");
        uint8 version;
        (version, deployment,,, stateRoot,) =
            abi.decode(appData, (uint8, bytes32, uint64, bytes32, bytes32, uint64));
        require(version == 1, "unknown version of app data");
    }
}
