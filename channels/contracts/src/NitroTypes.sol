// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

// The structures of the Nitro protocol, in ABI order (docs/reference/nitro.md, section 1).

/// What a channel is, fixed for its life. `participants` are 1 to 255 different addresses.
struct FixedPart {
    address[] participants;
    uint64 channelNonce;
    address appDefinition;
    uint48 challengeDuration; // seconds
}

enum AssetType {
    Default,
    ERC721,
    ERC1155,
    Qualified
}

struct AssetMetadata {
    AssetType assetType;
    bytes metadata;
}

/// `destination` is an address in its low 20 bytes, or a channel id.
struct Allocation {
    bytes32 destination;
    uint256 amount;
    uint8 allocationType;
    bytes metadata;
}

/// One asset's allocations, in order of payment. `asset` 0 is the chain's own coin.
struct SingleAssetExit {
    address asset;
    AssetMetadata assetMetadata;
    Allocation[] allocations;
}

struct VariablePart {
    SingleAssetExit[] outcome;
    bytes appData;
    uint48 turnNum;
    bool isFinal;
}

struct Signature {
    uint8 v; // 27 or 28
    bytes32 r;
    bytes32 s;
}

struct SignedVariablePart {
    VariablePart variablePart;
    Signature[] sigs; // in any order
}

/// Bit i of `signedBy` is set when participant i has signed.
struct RecoveredVariablePart {
    VariablePart variablePart;
    uint256 signedBy;
}

/// Which guarantee of a ledger (source) is settled by which funded channel (target).
struct ReclaimArgs {
    bytes32 sourceChannelId;
    bytes32 sourceStateHash;
    bytes sourceOutcomeBytes;
    uint256 sourceAssetIndex;
    uint256 indexOfTargetInSource;
    bytes32 targetStateHash;
    bytes targetOutcomeBytes;
    uint256 targetAssetIndex;
}

uint8 constant SIMPLE = 0;
uint8 constant GUARANTEE = 2;
