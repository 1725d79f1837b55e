// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Hashing} from "../Hashing.sol";
import {IForceMoveApp, IVirtualApp} from "../IForceMoveApp.sol";
import {FixedPart, RecoveredVariablePart, Signature} from "../NitroTypes.sol";
import {Signers} from "./Signers.sol";
import {VirtualChannels} from "./VirtualChannels.sol";
import {Vouchers} from "./Vouchers.sol";

/// Payments by vouchers of which a part may be locked: it is Bob's only if the preimage of a hash was revealed here in
/// time. So payments over several channels happen in all of them or in none.
///
/// Turns 0 and 1 are signed by everybody. Later turns are Bob's redemptions, proved by turn 1: 2 plus the number of locks
/// that were opened, so that a redemption which opens more takes the place of one that opens less. App data:
/// abi.encode(uint256 amount, Lock[] locks, Signature of Alice over keccak256(abi.encode(channelId, amount, locks))), or
/// that of a voucher without locks, as in VirtualPaymentApp.
contract HashLockPaymentApp is IForceMoveApp, IVirtualApp {
    /// `amount` on top of the voucher's, for the sha256 preimage of `hash`, revealed not after `expiry` (seconds).
    struct Lock {
        uint256 amount;
        bytes32 hash;
        uint256 expiry;
    }

    uint256 internal constant UNLOCKED_BYTES = 128;

    /// When the preimage of a hash was first revealed here, by the block's timestamp; 0 for never.
    mapping(bytes32 hash => uint256 time) public revealedAt;

    event Revealed(bytes32 indexed hash, bytes32 preimage);

    /// Anybody may reveal preimages, for every channel at once. What is revealed already stays as it is.
    function reveal(bytes32[] calldata preimages) external {
        for (uint256 i = 0; i < preimages.length; ++i) {
            bytes32 hash = sha256(abi.encodePacked(preimages[i]));
            if (revealedAt[hash] == 0) {
                revealedAt[hash] = block.timestamp;
                emit Revealed(hash, preimages[i]);
            }
        }
    }

    function isVirtual() external pure override returns (bool) {
        return true;
    }

    function stateIsSupported(
        FixedPart calldata fixedPart,
        RecoveredVariablePart[] calldata proof,
        RecoveredVariablePart calldata candidate
    ) external view override returns (bool, string memory) {
        if (VirtualChannels.isOpening(fixedPart, proof, candidate)) return (true, "");
        require(
            Signers.has(candidate, fixedPart.participants.length - 1), "redemption not signed by Bob"
        );
        (uint256 amount, uint256 opened) = _redeemed(fixedPart, candidate.variablePart.appData);
        require(candidate.variablePart.turnNum == 2 + opened, "bad candidate turnNum; |proof|=1");
        Vouchers.requireRedeems(proof[0].variablePart, candidate.variablePart, amount);
        return (true, "");
    }

    /// What the voucher gives Bob as of now, and how many of its locks are opened.
    function _redeemed(FixedPart calldata fixedPart, bytes calldata appData)
        private
        view
        returns (uint256 amount, uint256 opened)
    {
        bytes32 channelId = Hashing.channelId(fixedPart);
        Signature memory signature;
        if (appData.length == UNLOCKED_BYTES) {
            (amount, signature) = abi.decode(appData, (uint256, Signature));
            Vouchers.requireSigned(fixedPart, keccak256(abi.encode(channelId, amount)), signature);
            return (amount, 0);
        }
        Lock[] memory locks;
        (amount, locks, signature) = abi.decode(appData, (uint256, Lock[], Signature));
        Vouchers.requireSigned(fixedPart, keccak256(abi.encode(channelId, amount, locks)), signature);
        for (uint256 i = 0; i < locks.length; ++i) {
            uint256 time = revealedAt[locks[i].hash];
            if (time != 0 && time <= locks[i].expiry) {
                amount += locks[i].amount;
                ++opened;
            }
        }
    }
}
