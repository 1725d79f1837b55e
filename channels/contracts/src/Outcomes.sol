// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {GUARANTEE} from "./NitroTypes.sol";

/// An outcome worked on in its encoded form.
///
/// The adjudicator keeps hashes of outcomes only, so that each step hashes the old outcome and the new one. Changing the
/// amounts inside the encoding spares decoding and encoding again. Safe for canonical encodings only: what the compiler
/// has just encoded, or bytes whose hash equals that of such an encoding.
///
/// `list` is the address of the length word of an array of allocations, `allocation` that of the first word of one.
library Outcomes {
    /// Number of assets.
    function length(bytes memory encoded) internal pure returns (uint256 count) {
        assembly ("memory-safe") {
            count := mload(add(encoded, 0x40))
        }
    }

    /// Asset and allocations at a position; panics beyond the end, as an array would.
    function exitAt(bytes memory encoded, uint256 index) internal pure returns (address asset, uint256 list) {
        assembly ("memory-safe") {
            if iszero(lt(index, mload(add(encoded, 0x40)))) {
                mstore(0x00, 0x4e487b7100000000000000000000000000000000000000000000000000000000) // Panic(uint256)
                mstore(0x04, 0x32) // index out of bounds
                revert(0x00, 0x24)
            }
            let items := add(encoded, 0x60)
            let item := add(items, mload(add(items, shl(5, index))))
            asset := mload(item)
            list := add(item, mload(add(item, 0x40)))
        }
    }

    /// Address of the allocation at a position of a list, which must have it.
    function allocation(uint256 list, uint256 index) internal pure returns (uint256 result) {
        assembly ("memory-safe") {
            let items := add(list, 0x20)
            result := add(items, mload(add(items, shl(5, index))))
        }
    }

    function destinationOf(uint256 allocation_) internal pure returns (bytes32 destination) {
        assembly ("memory-safe") {
            destination := mload(allocation_)
        }
    }

    /// Pays the selected allocations of a list from `held`, in order of priority, and reduces their amounts in place.
    /// `indices` must increase strictly; none means all; one beyond the end selects nothing.
    /// `shares[i]` is what allocation i is paid; `onlyZeros` says that nothing is left to be paid.
    function pay(uint256 list, uint256 held, uint256[] memory indices)
        internal
        pure
        returns (uint256[] memory shares, uint256 paid, bool onlyZeros)
    {
        uint256 count;
        assembly ("memory-safe") {
            count := mload(list)
        }
        shares = new uint256[](count);
        onlyZeros = true;
        bool all = indices.length == 0;
        uint256 next; // position in indices
        for (uint256 i = 0; i < count; ++i) {
            uint256 item = allocation(list, i);
            uint256 amount;
            uint256 kind;
            assembly ("memory-safe") {
                amount := mload(add(item, 0x20))
                kind := mload(add(item, 0x40))
            }
            uint256 share = amount < held ? amount : held;
            unchecked {
                held -= share; // also when it is not selected: what ranks higher stays reserved
                if (all || (next < indices.length && indices[next] == i)) {
                    require(kind != GUARANTEE, "cannot transfer a guarantee");
                    ++next;
                    amount -= share;
                    paid += share; // at most what was held
                    shares[i] = share;
                    assembly ("memory-safe") {
                        mstore(add(item, 0x20), amount)
                    }
                }
            }
            if (amount != 0) onlyZeros = false;
        }
    }
}
