// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {FixedPart, RecoveredVariablePart} from "../NitroTypes.sol";
import {Hashing} from "../Hashing.sol";

/// Who signed a recovered state.
library Signers {
    function isUnanimous(FixedPart calldata fixedPart, RecoveredVariablePart calldata state)
        internal
        pure
        returns (bool)
    {
        return Hashing.isUnanimous(state.signedBy, fixedPart.participants.length);
    }

    function has(RecoveredVariablePart calldata state, uint256 index) internal pure returns (bool) {
        return state.signedBy >> index & 1 == 1;
    }
}
