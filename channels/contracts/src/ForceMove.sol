// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Hashing} from "./Hashing.sol";
import {IVirtualApp} from "./IForceMoveApp.sol";
import {FixedPart, Signature, SignedVariablePart} from "./NitroTypes.sol";
import {StatusManager} from "./StatusManager.sol";
import {Support} from "./Support.sol";

/// Disputes: which state of a channel counts (docs/reference/nitro.md, section 4).
abstract contract ForceMove is StatusManager {
    event ChallengeRegistered(
        bytes32 indexed channelId, uint48 finalizesAt, SignedVariablePart[] proof, SignedVariablePart candidate
    );
    event ChallengeCleared(bytes32 indexed channelId, uint48 newTurnNumRecord);
    event Checkpointed(bytes32 indexed channelId, uint48 newTurnNumRecord);
    event Concluded(bytes32 indexed channelId, uint48 finalizesAt);

    /// Registers a supported state. Without a later one the channel finalizes after its challenge duration.
    function challenge(
        FixedPart calldata fixedPart,
        SignedVariablePart[] calldata proof,
        SignedVariablePart calldata candidate,
        Signature calldata challengerSig
    ) external {
        bytes32 channelId = Hashing.channelId(fixedPart);
        bytes32 status = _statusOf[channelId];
        uint48 turnNum = candidate.variablePart.turnNum;
        if (_finalizesAt(status) == 0) {
            require(turnNum >= _turnNumRecord(status), "turnNumRecord decreased.");
        } else {
            _requireNotFinalized(status);
            require(turnNum > _turnNumRecord(status), "turnNumRecord not increased.");
        }
        (bytes32 stateHash, bytes32 outcomeHash) = _requireSupported(channelId, fixedPart, proof, candidate);
        _requireChallenger(fixedPart.participants, stateHash, challengerSig);
        if (_isVirtualApp(fixedPart.appDefinition)) _markVirtual(channelId);

        uint48 finalizesAt = uint48(block.timestamp) + fixedPart.challengeDuration;
        _statusOf[channelId] = _pack(turnNum, finalizesAt, stateHash, outcomeHash);
        emit ChallengeRegistered(channelId, finalizesAt, proof, candidate);
    }

    /// Raises the turn record with a supported state, and clears a running challenge.
    function checkpoint(
        FixedPart calldata fixedPart,
        SignedVariablePart[] calldata proof,
        SignedVariablePart calldata candidate
    ) external {
        bytes32 channelId = Hashing.channelId(fixedPart);
        bytes32 status = _statusOf[channelId];
        uint48 turnNum = candidate.variablePart.turnNum;
        _requireNotFinalized(status);
        require(turnNum > _turnNumRecord(status), "turnNumRecord not increased.");
        _requireSupported(channelId, fixedPart, proof, candidate);

        _statusOf[channelId] = _pack(turnNum, 0, 0, 0);
        if (_finalizesAt(status) == 0) emit Checkpointed(channelId, turnNum);
        else emit ChallengeCleared(channelId, turnNum);
    }

    /// Finalizes a channel at once with a final state that everybody signed. The turn record does not matter.
    function conclude(FixedPart calldata fixedPart, SignedVariablePart calldata candidate) external {
        (bytes32 channelId, bytes32 outcomeHash) = _requireConcluding(fixedPart, candidate);
        if (_isVirtualApp(fixedPart.appDefinition)) _markVirtual(channelId);
        _statusOf[channelId] = _pack(0, block.timestamp, 0, outcomeHash);
        emit Concluded(channelId, uint48(block.timestamp));
    }

    /// What the channel's app says of a state.
    function stateIsSupported(
        FixedPart calldata fixedPart,
        SignedVariablePart[] calldata proof,
        SignedVariablePart calldata candidate
    ) external view returns (bool, string memory) {
        bytes32 channelId = Hashing.channelId(fixedPart);
        bytes32 stateHash = Hashing.stateHash(channelId, candidate.variablePart);
        return Support.ask(channelId, fixedPart, proof, candidate, stateHash);
    }

    /// Remember that a channel pays out nothing.
    function _markVirtual(bytes32 channelId) internal virtual;

    /// Whether an app says that its channels are funded by ledgers' guarantees. One that is no contract says nothing.
    function _isVirtualApp(address app) internal view returns (bool result) {
        bytes4 selector = IVirtualApp.isVirtual.selector;
        assembly ("memory-safe") {
            mstore(0x00, selector)
            result := staticcall(gas(), app, 0x00, 0x04, 0x00, 0x20)
            result := and(result, and(gt(returndatasize(), 0x1f), eq(mload(0x00), 1)))
        }
    }

    /// Channel and outcome of a final, unanimous state.
    function _requireConcluding(FixedPart calldata fixedPart, SignedVariablePart calldata candidate)
        internal
        view
        returns (bytes32 channelId, bytes32 outcomeHash)
    {
        channelId = Hashing.channelId(fixedPart);
        _requireNotFinalized(_statusOf[channelId]);
        require(candidate.variablePart.isFinal, "State must be final");
        bytes32 stateHash;
        (stateHash, outcomeHash) = Hashing.stateAndOutcomeHash(channelId, candidate.variablePart);
        uint256 signers = Hashing.signedBy(fixedPart.participants, stateHash, candidate.sigs);
        require(Hashing.isUnanimous(signers, fixedPart.participants.length), "!unanimous");
    }

    function _requireSupported(
        bytes32 channelId,
        FixedPart calldata fixedPart,
        SignedVariablePart[] calldata proof,
        SignedVariablePart calldata candidate
    ) private view returns (bytes32 stateHash, bytes32 outcomeHash) {
        (stateHash, outcomeHash) = Hashing.stateAndOutcomeHash(channelId, candidate.variablePart);
        (bool supported, string memory reason) = Support.ask(channelId, fixedPart, proof, candidate, stateHash);
        require(supported, reason);
    }

    /// Only participants may challenge, so that a stranger cannot start the clock with a state that it saw.
    function _requireChallenger(
        address[] calldata participants,
        bytes32 stateHash,
        Signature calldata challengerSig
    ) private pure {
        address challenger = Hashing.recover(Hashing.digest(Hashing.challengeMessage(stateHash)), challengerSig);
        for (uint256 i = 0; i < participants.length; ++i) {
            if (participants[i] == challenger) return;
        }
        revert("Challenger is not a participant");
    }
}
