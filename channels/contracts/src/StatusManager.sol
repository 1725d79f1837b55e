// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// One word for each channel: turn record (48 bits), finalizesAt (48), fingerprint (160), from high to low.
abstract contract StatusManager {
    mapping(bytes32 channelId => bytes32) internal _statusOf;

    function statusOf(bytes32 channelId) external view returns (bytes32) {
        return _statusOf[channelId];
    }

    function unpackStatus(bytes32 channelId)
        external
        view
        returns (uint48 turnNumRecord, uint48 finalizesAt, uint160 fingerprint)
    {
        bytes32 status = _statusOf[channelId];
        return (_turnNumRecord(status), _finalizesAt(status), uint160(uint256(status)));
    }

    function _turnNumRecord(bytes32 status) internal pure returns (uint48) {
        return uint48(uint256(status) >> 208);
    }

    function _finalizesAt(bytes32 status) internal pure returns (uint48) {
        return uint48(uint256(status) >> 160);
    }

    /// A status word that commits to a state and an outcome.
    function _pack(uint256 turnNumRecord, uint256 finalizesAt, bytes32 stateHash, bytes32 outcomeHash)
        internal
        pure
        returns (bytes32)
    {
        return bytes32(turnNumRecord << 208 | finalizesAt << 160 | _fingerprint(stateHash, outcomeHash));
    }

    /// The same status over another outcome.
    function _withOutcome(bytes32 status, bytes32 stateHash, bytes32 outcomeHash) internal pure returns (bytes32) {
        return bytes32((uint256(status) >> 160) << 160 | _fingerprint(stateHash, outcomeHash));
    }

    function _requireFinalized(bytes32 status) internal view {
        uint48 finalizesAt = _finalizesAt(status);
        require(finalizesAt != 0 && finalizesAt <= block.timestamp, "Channel not finalized.");
    }

    function _requireNotFinalized(bytes32 status) internal view {
        uint48 finalizesAt = _finalizesAt(status);
        require(finalizesAt == 0 || finalizesAt > block.timestamp, "Channel finalized.");
    }

    function _requireFingerprint(bytes32 status, bytes32 stateHash, bytes32 outcomeHash) internal pure {
        require(uint160(uint256(status)) == _fingerprint(stateHash, outcomeHash), "incorrect fingerprint");
    }

    function _fingerprint(bytes32 stateHash, bytes32 outcomeHash) private pure returns (uint256 result) {
        assembly ("memory-safe") {
            mstore(0x00, stateHash)
            mstore(0x20, outcomeHash)
            result := and(keccak256(0x00, 0x40), 0xffffffffffffffffffffffffffffffffffffffff)
        }
    }
}
