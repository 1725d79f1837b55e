// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Hashing} from "../Hashing.sol";
import {IForceMoveApp, IVirtualApp} from "../IForceMoveApp.sol";
import {FixedPart, RecoveredVariablePart, Signature} from "../NitroTypes.sol";
import {Signers} from "./Signers.sol";
import {VirtualChannels} from "./VirtualChannels.sol";
import {Vouchers} from "./Vouchers.sol";

/// Payments by vouchers: the first participant (Alice) pays the last (Bob), through any number of others.
///
/// Turns 0 and 1 are signed by everybody. Turn 2 is Bob's redemption of Alice's latest voucher, proved by turn 1.
/// App data of the redemption: abi.encode(uint256 amount, Signature of Alice over keccak256(abi.encode(channelId, amount))).
contract VirtualPaymentApp is IForceMoveApp, IVirtualApp {
    function isVirtual() external pure override returns (bool) {
        return true;
    }

    function stateIsSupported(
        FixedPart calldata fixedPart,
        RecoveredVariablePart[] calldata proof,
        RecoveredVariablePart calldata candidate
    ) external pure override returns (bool, string memory) {
        if (VirtualChannels.isOpening(fixedPart, proof, candidate)) return (true, "");
        require(candidate.variablePart.turnNum == 2, "bad candidate turnNum; |proof|=1");
        require(
            Signers.has(candidate, fixedPart.participants.length - 1), "redemption not signed by Bob"
        );
        uint256 amount = _voucherAmount(fixedPart, candidate.variablePart.appData);
        Vouchers.requireRedeems(proof[0].variablePart, candidate.variablePart, amount);
        return (true, "");
    }

    function _voucherAmount(FixedPart calldata fixedPart, bytes calldata appData) private pure returns (uint256) {
        (uint256 amount, Signature memory signature) = abi.decode(appData, (uint256, Signature));
        Vouchers.requireSigned(fixedPart, keccak256(abi.encode(Hashing.channelId(fixedPart), amount)), signature);
        return amount;
    }
}
