// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {SafeTokens} from "./SafeTokens.sol";

interface IDeposit {
    function deposit(address asset, bytes32 channelId, uint256 expectedHeld, uint256 amount) external payable;
}

/// Deposits into many channels in one transaction, all or nothing. Keeps nothing: neither coin, tokens nor allowances.
contract BatchOperator {
    IDeposit public immutable adjudicator;

    constructor(address adjudicatorAddress) {
        require(adjudicatorAddress.code.length != 0, "no adjudicator at this address"); // a call to it would succeed
        adjudicator = IDeposit(adjudicatorAddress);
    }

    /// The value sent must be the sum of the amounts.
    function deposit_batch_eth(
        bytes32[] calldata channelIds,
        uint256[] calldata expectedHelds,
        uint256[] calldata amounts
    ) external payable {
        _requireSameLength(channelIds, expectedHelds, amounts);
        uint256 sum;
        for (uint256 i = 0; i < channelIds.length; ++i) {
            sum += amounts[i];
            _deposit(address(0), channelIds[i], expectedHelds[i], amounts[i], amounts[i]);
        }
        require(sum == msg.value, "Incorrect msg.value for deposit");
    }

    /// `totalAmount` is the most that may be taken from the sender; taken is the sum of the amounts.
    function deposit_batch_erc20(
        address asset,
        bytes32[] calldata channelIds,
        uint256[] calldata expectedHelds,
        uint256[] calldata amounts,
        uint256 totalAmount
    ) external payable {
        require(msg.value == 0, "Incorrect msg.value for deposit");
        _requireSameLength(channelIds, expectedHelds, amounts);
        uint256 sum;
        for (uint256 i = 0; i < amounts.length; ++i) {
            sum += amounts[i];
        }
        require(sum <= totalAmount, "totalAmount too low");
        SafeTokens.pull(asset, msg.sender, sum);
        SafeTokens.approve(asset, address(adjudicator), sum);
        for (uint256 i = 0; i < channelIds.length; ++i) {
            _deposit(asset, channelIds[i], expectedHelds[i], amounts[i], 0);
        }
    }

    /// One deposit; reverts with the adjudicator's reason. Written out, so that each channel of a large batch uses the
    /// same memory.
    function _deposit(address asset, bytes32 channelId, uint256 expectedHeld, uint256 amount, uint256 value) private {
        address to = address(adjudicator);
        bytes4 selector = IDeposit.deposit.selector;
        assembly ("memory-safe") {
            let data := mload(0x40) // used and left free
            mstore(data, selector)
            mstore(add(data, 0x04), asset)
            mstore(add(data, 0x24), channelId)
            mstore(add(data, 0x44), expectedHeld)
            mstore(add(data, 0x64), amount)
            if iszero(call(gas(), to, value, data, 0x84, 0x00, 0x00)) {
                returndatacopy(data, 0, returndatasize())
                revert(data, returndatasize())
            }
        }
    }

    function _requireSameLength(
        bytes32[] calldata channelIds,
        uint256[] calldata expectedHelds,
        uint256[] calldata amounts
    ) private pure {
        require(
            channelIds.length == expectedHelds.length && expectedHelds.length == amounts.length,
            "Array lengths must match"
        );
    }
}
