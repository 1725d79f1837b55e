// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {FixedPart, RecoveredVariablePart} from "./NitroTypes.sol";

/// The rules of a channel: which states, signed by whom, may be registered on chain.
interface IForceMoveApp {
    /// Whether `candidate` may be registered, given the states in `proof`; if not, the reason. May also revert with it.
    /// The adjudicator has recovered the signers; everything else is the app's to check.
    function stateIsSupported(
        FixedPart calldata fixedPart,
        RecoveredVariablePart[] calldata proof,
        RecoveredVariablePart calldata candidate
    ) external view returns (bool, string memory);
}

/// An app whose channels are funded by ledgers' guarantees and never by deposits. An app without this function is none.
interface IVirtualApp {
    function isVirtual() external view returns (bool);
}
