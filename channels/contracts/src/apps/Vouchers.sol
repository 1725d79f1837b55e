// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Hashing} from "../Hashing.sol";
import {Allocation, FixedPart, Signature, VariablePart} from "../NitroTypes.sol";
import {VirtualChannels} from "./VirtualChannels.sol";

/// What payment apps have in common: the first participant (Alice) promises by vouchers, the last (Bob) redeems one.
library Vouchers {
    /// Alice has signed the voucher.
    function requireSigned(FixedPart calldata fixedPart, bytes32 voucher, Signature memory signature) internal pure {
        address payer = ecrecover(Hashing.digest(voucher), signature.v, signature.r, signature.s);
        require(payer != address(0), "Invalid signature");
        require(payer == fixedPart.participants[0], "invalid signature for voucher");
    }

    /// The amount has moved from Alice to Bob, and nothing else has changed.
    function requireRedeems(VariablePart calldata old, VariablePart calldata redemption, uint256 amount)
        internal
        pure
    {
        require(old.outcome.length == 1 && redemption.outcome.length == 1, "only one asset allowed");
        (Allocation[] calldata before, Allocation[] calldata afterwards) =
            VirtualChannels.sameSlots(old.outcome[0], redemption.outcome[0]);
        require(afterwards[0].amount == before[0].amount - amount, "Alice not adjusted correctly");
        require(afterwards[1].amount == before[1].amount + amount, "Bob not adjusted correctly");
    }
}
