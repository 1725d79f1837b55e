// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ForceMove} from "./ForceMove.sol";
import {MultiAssetHolder} from "./MultiAssetHolder.sol";
import {FixedPart, SignedVariablePart, SingleAssetExit} from "./NitroTypes.sol";
import {Outcomes} from "./Outcomes.sol";

/// Holds the money of channels and pays it out by the outcome that counts. Nobody owns, upgrades or pauses it.
contract NitroAdjudicator is ForceMove, MultiAssetHolder {
    /// Finalizes a channel with a final state and pays its outcome, in one transaction.
    function concludeAndTransferAllAssets(FixedPart calldata fixedPart, SignedVariablePart calldata candidate)
        external
    {
        (bytes32 channelId,) = _requireConcluding(fixedPart, candidate);
        require(!_isVirtualApp(fixedPart.appDefinition), "Channel is virtual.");
        emit Concluded(channelId, uint48(block.timestamp));
        _transferAll(channelId, abi.encode(candidate.variablePart.outcome), 0, bytes32(block.timestamp << 160));
    }

    /// Pays all allocations of a finalized channel, as far as the holdings go. A channel that owes nothing more is
    /// forgotten.
    function transferAllAssets(bytes32 channelId, SingleAssetExit[] calldata outcome, bytes32 stateHash) external {
        bytes32 status = _statusOf[channelId];
        _requireFinalized(status);
        bytes memory encoded = abi.encode(outcome);
        _requireFingerprint(status, stateHash, keccak256(encoded));
        require(!_isVirtual[channelId], "Channel is virtual.");
        _transferAll(channelId, encoded, stateHash, status);
    }

    function _markVirtual(bytes32 channelId) internal override {
        _isVirtual[channelId] = true;
    }

    /// All effects first, then all payments.
    function _transferAll(bytes32 channelId, bytes memory encoded, bytes32 stateHash, bytes32 status) private {
        uint256 count = Outcomes.length(encoded);
        uint256[][] memory shares = new uint256[][](count);
        uint256[] memory all;
        bool settled = true;
        for (uint256 i = 0; i < count; ++i) {
            (address asset, uint256 list) = Outcomes.exitAt(encoded, i);
            bool onlyZeros;
            (shares[i], onlyZeros) = _settle(channelId, i, asset, list, all);
            settled = settled && onlyZeros;
        }
        _statusOf[channelId] = settled ? bytes32(0) : _withOutcome(status, stateHash, keccak256(encoded));
        for (uint256 i = 0; i < count; ++i) {
            (address asset, uint256 list) = Outcomes.exitAt(encoded, i);
            _pay(asset, list, shares[i]);
        }
    }
}
