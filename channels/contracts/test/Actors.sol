// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// Refuses the chain's coin.
contract Refuser {}

/// Does what it is told: as a sender, and once more from inside a token's hook or a payment.
contract Puppet {
    address[] private _targets;
    bytes[] private _calls;
    uint256 public struck; // calls made from inside
    uint256 public succeeded;

    /// One more call to make from inside the next hook or payment.
    function arm(address target, bytes calldata data) external {
        _targets.push(target);
        _calls.push(data);
    }

    function run(address target, bytes calldata data) external payable {
        (bool done, bytes memory answer) = target.call{value: msg.value}(data);
        if (!done) {
            assembly ("memory-safe") {
                revert(add(answer, 0x20), mload(answer))
            }
        }
    }

    function tokensToSend() external {
        _strike();
    }

    receive() external payable {
        _strike();
    }

    function _strike() private {
        address[] memory targets = _targets;
        bytes[] memory calls = _calls;
        delete _targets;
        delete _calls;
        for (uint256 i = 0; i < targets.length; ++i) {
            (bool done,) = targets[i].call(calls[i]);
            ++struck;
            if (done) ++succeeded;
        }
    }
}
