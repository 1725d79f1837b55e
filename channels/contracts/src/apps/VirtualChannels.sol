// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {
    Allocation,
    FixedPart,
    RecoveredVariablePart,
    SIMPLE,
    SingleAssetExit
} from "../NitroTypes.sol";
import {Signers} from "./Signers.sol";

/// What apps have in common whose channels are funded through others: everybody signs prefund (turn 0) and postfund
/// (turn 1), and a later state is proved by the postfund.
library VirtualChannels {
    /// Whether the candidate is a prefund or postfund without proof, which everybody must have signed. If not, the proof
    /// is the postfund.
    function isOpening(
        FixedPart calldata fixedPart,
        RecoveredVariablePart[] calldata proof,
        RecoveredVariablePart calldata candidate
    ) internal pure returns (bool) {
        if (proof.length == 0) {
            require(Signers.isUnanimous(fixedPart, candidate), "!unanimous; |proof|=0");
            require(candidate.variablePart.turnNum < 2, "bad candidate turnNum; |proof|=0");
            return true;
        }
        require(proof.length == 1, "bad proof length");
        require(proof[0].variablePart.turnNum == 1, "bad proof[0].turnNum; |proof|=1");
        require(Signers.isUnanimous(fixedPart, proof[0]), "postfund !unanimous; |proof|=1");
        return false;
    }

    /// The allocations of one asset in both states: of the same asset, two simple ones, to the same destinations in the
    /// same order. So that later states concern nobody in between, and a ledger can reclaim from each.
    function sameSlots(SingleAssetExit calldata old, SingleAssetExit calldata later)
        internal
        pure
        returns (Allocation[] calldata before, Allocation[] calldata afterwards)
    {
        require(old.asset == later.asset, "asset changed");
        (before, afterwards) = (old.allocations, later.allocations);
        require(before.length == 2 && afterwards.length == 2, "only two allocations allowed");
        for (uint256 i = 0; i < 2; ++i) {
            require(before[i].destination == afterwards[i].destination, "destination changed");
            require(
                before[i].allocationType == SIMPLE && afterwards[i].allocationType == SIMPLE,
                "only simple allocations allowed"
            );
        }
    }
}
