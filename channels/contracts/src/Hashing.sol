// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {FixedPart, Signature, VariablePart} from "./NitroTypes.sol";

/// Hashes and signatures (docs/reference/nitro.md, section 2).
library Hashing {
    function channelId(FixedPart calldata fixedPart) internal pure returns (bytes32) {
        return keccak256(
            abi.encode(
                fixedPart.participants, fixedPart.channelNonce, fixedPart.appDefinition, fixedPart.challengeDuration
            )
        );
    }

    function stateHash(bytes32 id, VariablePart calldata part) internal pure returns (bytes32) {
        return keccak256(abi.encode(id, part.appData, part.outcome, part.turnNum, part.isFinal));
    }

    /// State hash and outcome hash with one encoding: in the state's encoding the outcome's stands last, and differs from
    /// the outcome's own encoding only by the offset word that the latter has in front.
    function stateAndOutcomeHash(bytes32 id, VariablePart calldata part)
        internal
        pure
        returns (bytes32 state, bytes32 outcome)
    {
        bytes memory encoded = abi.encode(id, part.appData, part.outcome, part.turnNum, part.isFinal);
        assembly ("memory-safe") {
            let start := add(encoded, 0x20)
            let size := mload(encoded)
            state := keccak256(start, size)
            let offset := mload(add(start, 0x40)) // of the outcome, at least 0xc0
            let word := add(start, sub(offset, 0x20)) // the last of the app data, no longer needed
            mstore(word, 0x20)
            outcome := keccak256(word, add(sub(size, offset), 0x20))
        }
    }

    /// What a party signs to challenge with a state.
    function challengeMessage(bytes32 state) internal pure returns (bytes32) {
        return keccak256(abi.encode(state, "forceMove"));
    }

    /// EIP-191 digest of a hash.
    function digest(bytes32 hash) internal pure returns (bytes32 result) {
        assembly ("memory-safe") {
            mstore(0x00, "\x19Ethereum Signed Message:\n32")
            mstore(0x1c, hash)
            result := keccak256(0x00, 0x3c)
        }
    }

    /// Who signed the digest. Reverts when it recovers to nobody.
    function recover(bytes32 digest_, Signature calldata signature) internal pure returns (address signer) {
        signer = ecrecover(digest_, signature.v, signature.r, signature.s);
        require(signer != address(0), "Invalid signature");
    }

    /// Bit i is set when participant i signed the state. Strangers, duplicates and order do not matter.
    function signedBy(address[] calldata participants, bytes32 state, Signature[] calldata signatures)
        internal
        pure
        returns (uint256 signers)
    {
        bytes32 digest_ = digest(state);
        uint256 count = participants.length;
        for (uint256 i = 0; i < signatures.length; ++i) {
            address signer = recover(digest_, signatures[i]);
            for (uint256 j = 0; j < count; ++j) {
                if (participants[j] == signer) {
                    signers |= 1 << j;
                    break;
                }
            }
        }
    }

    /// Whether `signers` has one bit for each of `count` participants. With more than 255 nobody could be sure.
    function isUnanimous(uint256 signers, uint256 count) internal pure returns (bool) {
        return count < 256 && signers == (1 << count) - 1;
    }
}
