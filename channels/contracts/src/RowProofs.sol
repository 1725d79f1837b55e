// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// A claim about one row of a channel's tables, with its proof. `siblings` are given from the root down.
/// With `present` false the claim is that the key has no row; `hasOther` then says that another leaf, given by its path and
/// keccak256(row), lies where the row would be. Rows and keys are encoded as in docs/reference/state-root.md.
struct RowClaim {
    uint16 tablePosition;
    bytes key;
    bool present;
    bytes row;
    bytes32[] siblings;
    bool hasOther;
    bytes32 otherPath;
    bytes32 otherRowHash;
}

/// Checks claims against a state root (docs/reference/state-root.md).
library RowProofs {
    /// The row under which a state root commits to the app's events: no key, and the event root as row.
    uint16 internal constant EVENTS = 65535;

    function holds(bytes32 root, RowClaim calldata claim) internal pure returns (bool) {
        bytes32 path = pathOf(claim.tablePosition, claim.key);
        if (claim.present) {
            return !claim.hasOther && verifyInclusion(root, path, keccak256(claim.row), claim.siblings);
        }
        if (claim.row.length != 0) return false;
        if (claim.hasOther) {
            return verifyOther(root, path, claim.otherPath, claim.otherRowHash, claim.siblings);
        }
        return claim.siblings.length <= 256 && climb(0, path, claim.siblings) == root;
    }

    function pathOf(uint16 tablePosition, bytes calldata key) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(bytes1(0x02), tablePosition, key));
    }

    /// Whether a row with this hash lies at the path.
    function verifyInclusion(bytes32 root, bytes32 path, bytes32 rowHash, bytes32[] calldata siblings)
        internal
        pure
        returns (bool)
    {
        return siblings.length <= 256 && climb(leaf(path, rowHash), path, siblings) == root;
    }

    /// Whether another leaf lies alone in the place where the path would be.
    function verifyOther(
        bytes32 root,
        bytes32 path,
        bytes32 otherPath,
        bytes32 otherRowHash,
        bytes32[] calldata siblings
    ) internal pure returns (bool) {
        uint256 depth = siblings.length;
        if (otherPath == path || depth > 256) return false;
        // Shifting by 256 gives 0: at the root nothing needs to be shared.
        if (uint256(otherPath ^ path) >> (256 - depth) != 0) return false;
        return climb(leaf(otherPath, otherRowHash), path, siblings) == root;
    }

    function leaf(bytes32 path, bytes32 rowHash) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(bytes1(0x00), path, rowHash));
    }

    /// The root above a subtree at depth `siblings.length` on the way to the path.
    function climb(bytes32 hash, bytes32 path, bytes32[] calldata siblings) internal pure returns (bytes32) {
        uint256 depth = siblings.length;
        while (depth != 0) {
            bytes32 sibling = siblings[--depth];
            bool right = uint256(path) >> (255 - depth) & 1 == 1;
            hash = right
                ? keccak256(abi.encodePacked(bytes1(0x01), sibling, hash))
                : keccak256(abi.encodePacked(bytes1(0x01), hash, sibling));
        }
        return hash;
    }
}
