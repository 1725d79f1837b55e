// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Allocation, GUARANTEE, ReclaimArgs, SingleAssetExit} from "./NitroTypes.sol";
import {Outcomes} from "./Outcomes.sol";
import {SafeTokens} from "./SafeTokens.sol";
import {StatusManager} from "./StatusManager.sol";

/// Deposits and payouts (docs/reference/nitro.md, sections 3 and 4).
abstract contract MultiAssetHolder is StatusManager {
    event Deposited(bytes32 indexed destination, address asset, uint256 destinationHoldings);
    event AllocationUpdated(
        bytes32 indexed channelId, uint256 assetIndex, uint256 initialHoldings, uint256 finalHoldings
    );
    event Reclaimed(bytes32 indexed channelId, uint256 assetIndex);

    /// What each channel holds of each asset; address 0 is the chain's own coin.
    mapping(address asset => mapping(bytes32 channelId => uint256)) internal _holdings;

    /// Channels that are funded by ledgers' guarantees, by the word of their app. They pay out nothing, so that once one is
    /// finalized all its ledgers reclaim by one outcome, which nobody can change in between.
    mapping(bytes32 channelId => bool) internal _isVirtual;

    function holdings(address asset, bytes32 channelId) external view returns (uint256) {
        return _holdings[asset][channelId];
    }

    /// Adds to a channel's holdings, when they are what the sender expects.
    function deposit(address asset, bytes32 channelId, uint256 expectedHeld, uint256 amount) external payable {
        require(!_isExternal(channelId), "Deposit to external destination");
        mapping(bytes32 channelId => uint256) storage holdingsOf = _holdings[asset];
        uint256 held = holdingsOf[channelId];
        require(held == expectedHeld, "held != expectedHeld");
        if (asset == address(0)) {
            require(msg.value == amount, "Incorrect msg.value for deposit");
        } else {
            require(msg.value == 0, "Incorrect msg.value for deposit");
            _pullExactly(asset, amount);
            held = holdingsOf[channelId]; // a token that calls its owner may have brought another deposit
        }
        held += amount;
        holdingsOf[channelId] = held;
        emit Deposited(channelId, asset, held);
    }

    /// Pays selected allocations of one asset of a finalized channel; no indices select all.
    function transfer(
        uint256 assetIndex,
        bytes32 fromChannelId,
        bytes memory outcomeBytes,
        bytes32 stateHash,
        uint256[] memory indices
    ) external {
        for (uint256 i = 1; i < indices.length; ++i) {
            require(indices[i - 1] < indices[i], "Indices must be sorted");
        }
        bytes32 status = _statusOf[fromChannelId];
        _requireFinalized(status);
        _requireFingerprint(status, stateHash, keccak256(outcomeBytes));
        require(!_isVirtual[fromChannelId], "Channel is virtual.");

        (address asset, uint256 list) = Outcomes.exitAt(outcomeBytes, assetIndex);
        (uint256[] memory shares,) = _settle(fromChannelId, assetIndex, asset, list, indices);
        _statusOf[fromChannelId] = _withOutcome(status, stateHash, keccak256(outcomeBytes));
        _pay(asset, list, shares);
    }

    /// Settles the guarantee in a finalized ledger by the outcome of the finalized channel it funds.
    function reclaim(ReclaimArgs memory reclaimArgs) external {
        bytes32 ledger = reclaimArgs.sourceChannelId;
        bytes32 status = _statusOf[ledger];
        _requireFinalized(status);
        _requireFingerprint(status, reclaimArgs.sourceStateHash, keccak256(reclaimArgs.sourceOutcomeBytes));
        SingleAssetExit[] memory source = abi.decode(reclaimArgs.sourceOutcomeBytes, (SingleAssetExit[]));
        SingleAssetExit memory exit = source[reclaimArgs.sourceAssetIndex];
        Allocation memory guarantee = exit.allocations[reclaimArgs.indexOfTargetInSource];
        require(guarantee.allocationType == GUARANTEE, "not a guarantee allocation");

        SingleAssetExit memory target =
            abi.decode(reclaimArgs.targetOutcomeBytes, (SingleAssetExit[]))[reclaimArgs.targetAssetIndex];
        require(target.asset == exit.asset, "targetAsset != guaranteeAsset");
        bytes32 targetStatus = _statusOf[guarantee.destination];
        _requireFinalized(targetStatus);
        _requireFingerprint(targetStatus, reclaimArgs.targetStateHash, keccak256(reclaimArgs.targetOutcomeBytes));

        exit.allocations =
            compute_reclaim_effects(exit.allocations, target.allocations, reclaimArgs.indexOfTargetInSource);
        _statusOf[ledger] = _withOutcome(status, reclaimArgs.sourceStateHash, keccak256(abi.encode(source)));
        emit Reclaimed(ledger, reclaimArgs.sourceAssetIndex);
    }

    /// What `transfer` does to allocations, and what it pays, without doing it.
    function compute_transfer_effects_and_interactions(
        uint256 initialHoldings,
        Allocation[] memory allocations,
        uint256[] memory indices
    )
        external
        pure
        returns (
            Allocation[] memory newAllocations,
            bool allocatesOnlyZeros,
            Allocation[] memory exitAllocations,
            uint256 totalPayouts
        )
    {
        bytes memory encoded = abi.encode(allocations);
        uint256[] memory shares;
        uint256 list;
        assembly ("memory-safe") {
            list := add(encoded, 0x40)
        }
        (shares, totalPayouts, allocatesOnlyZeros) = Outcomes.pay(list, initialHoldings, indices);
        newAllocations = abi.decode(encoded, (Allocation[]));

        bool all = indices.length == 0;
        exitAllocations = new Allocation[](all ? allocations.length : indices.length);
        uint256 next;
        for (uint256 i = 0; i < allocations.length && next < exitAllocations.length; ++i) {
            if (all || indices[next] == i) {
                exitAllocations[next] = Allocation(
                    allocations[i].destination, shares[i], allocations[i].allocationType, allocations[i].metadata
                );
                ++next;
            }
        }
    }

    /// A ledger's allocations after a guarantee was settled: taken out, and its parts given to left and right.
    function compute_reclaim_effects(
        Allocation[] memory sourceAllocations,
        Allocation[] memory targetAllocations,
        uint256 indexOfTargetInSource
    ) public pure returns (Allocation[] memory) {
        Allocation[] memory newSource = new Allocation[](sourceAllocations.length - 1);
        Allocation memory guarantee = sourceAllocations[indexOfTargetInSource];
        (bytes32 left, bytes32 right) = abi.decode(guarantee.metadata, (bytes32, bytes32));
        uint256 reclaimed;
        bool foundLeft;
        bool foundRight;
        uint256 next;
        for (uint256 i = 0; i < sourceAllocations.length; ++i) {
            if (i == indexOfTargetInSource) continue;
            Allocation memory item = sourceAllocations[i];
            newSource[next++] = item;
            if (!foundLeft && item.destination == left) {
                foundLeft = true;
                item.amount += targetAllocations[0].amount;
                reclaimed += targetAllocations[0].amount;
            }
            if (!foundRight && item.destination == right) {
                foundRight = true;
                item.amount += targetAllocations[1].amount;
                reclaimed += targetAllocations[1].amount;
            }
        }
        require(foundLeft, "could not find left");
        require(foundRight, "could not find right");
        require(reclaimed == guarantee.amount, "totalReclaimed!=guarantee.amount");
        return newSource;
    }

    /// Takes what the selected allocations get out of the holdings; nothing is paid yet.
    function _settle(bytes32 channelId, uint256 assetIndex, address asset, uint256 list, uint256[] memory indices)
        internal
        returns (uint256[] memory shares, bool onlyZeros)
    {
        uint256 held = _holdings[asset][channelId];
        uint256 paid;
        (shares, paid, onlyZeros) = Outcomes.pay(list, held, indices);
        unchecked {
            _holdings[asset][channelId] = held - paid; // at most what was held
            emit AllocationUpdated(channelId, assetIndex, held, held - paid);
        }
    }

    /// Pays shares to the destinations of a list.
    function _pay(address asset, uint256 list, uint256[] memory shares) internal {
        for (uint256 i = 0; i < shares.length; ++i) {
            uint256 share = shares[i];
            if (share == 0) continue; // so that who gets nothing cannot hinder the others
            bytes32 destination = Outcomes.destinationOf(Outcomes.allocation(list, i));
            if (!_isExternal(destination)) {
                _holdings[asset][destination] += share;
            } else if (asset == address(0)) {
                (bool sent,) = payable(address(uint160(uint256(destination)))).call{value: share}("");
                require(sent, "Could not transfer ETH");
            } else {
                SafeTokens.push(asset, address(uint160(uint256(destination))), share);
            }
        }
    }

    /// Takes tokens from the sender. Those that arrive short would leave a hole for the last to be paid.
    function _pullExactly(address token, uint256 amount) private {
        uint256 before = SafeTokens.balance(token);
        SafeTokens.pull(token, msg.sender, amount);
        require(SafeTokens.balance(token) - before == amount, "Received amount differs");
    }

    /// Whether a destination is an address, not a channel.
    function _isExternal(bytes32 destination) private pure returns (bool) {
        return uint256(destination) >> 160 == 0;
    }
}
