// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IForceMoveApp} from "../IForceMoveApp.sol";
import {FixedPart, RecoveredVariablePart} from "../NitroTypes.sol";
import {Signers} from "./Signers.sol";

/// A state counts when every participant has signed it.
contract ConsensusApp is IForceMoveApp {
    function stateIsSupported(
        FixedPart calldata fixedPart,
        RecoveredVariablePart[] calldata proof,
        RecoveredVariablePart calldata candidate
    ) external pure override returns (bool, string memory) {
        require(proof.length == 0, "|proof|!=0");
        require(Signers.isUnanimous(fixedPart, candidate), "!unanimous");
        return (true, "");
    }
}
