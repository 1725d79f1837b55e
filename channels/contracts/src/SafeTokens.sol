// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

interface IERC20 {
    function balanceOf(address owner) external view returns (uint256);
    function transfer(address to, uint256 amount) external returns (bool);
    function transferFrom(address from, address to, uint256 amount) external returns (bool);
    function approve(address spender, uint256 amount) external returns (bool);
}

/// Calls to tokens as they are in the wild: some return nothing, some return false instead of reverting.
///
/// Written out, because deposits look at the balance twice and must not cost more for it than they have to.
library SafeTokens {
    function pull(address token, address from, uint256 amount) internal {
        bytes4 selector = IERC20.transferFrom.selector;
        bool done;
        bool agreed;
        assembly ("memory-safe") {
            let data := mload(0x40) // used and left free
            mstore(data, selector)
            mstore(add(data, 0x04), from)
            mstore(add(data, 0x24), address())
            mstore(add(data, 0x44), amount)
            done := call(gas(), token, 0, data, 0x64, 0x00, 0x20)
            agreed := and(done, and(eq(mload(0x00), 1), gt(returndatasize(), 0x1f)))
        }
        if (!agreed) _judge(token, done);
    }

    function push(address token, address to, uint256 amount) internal {
        (bool done, bool agreed) = _call(token, IERC20.transfer.selector, to, amount);
        if (!agreed) _judge(token, done);
    }

    /// Sets an allowance; where one above zero may not be changed, by way of zero.
    function approve(address token, address spender, uint256 amount) internal {
        (bool done, bool agreed) = _call(token, IERC20.approve.selector, spender, amount);
        if (agreed || (done && _isSilent(token))) return;
        (done, agreed) = _call(token, IERC20.approve.selector, spender, 0);
        if (!agreed) _judge(token, done);
        (done, agreed) = _call(token, IERC20.approve.selector, spender, amount);
        if (!agreed) _judge(token, done);
    }

    /// What this contract has of a token.
    function balance(address token) internal view returns (uint256 result) {
        bytes4 selector = IERC20.balanceOf.selector;
        bool good;
        assembly ("memory-safe") {
            mstore(0x00, selector)
            mstore(0x04, address())
            good := staticcall(gas(), token, 0x00, 0x24, 0x00, 0x20)
            good := and(good, gt(returndatasize(), 0x1f))
            result := mload(0x00)
        }
        require(good, "Address: call to non-contract");
    }

    /// A call with an address and an amount; whether it went through, and whether it answered true.
    function _call(address token, bytes4 selector, address account, uint256 amount)
        private
        returns (bool done, bool agreed)
    {
        assembly ("memory-safe") {
            let data := mload(0x40)
            mstore(data, selector)
            mstore(add(data, 0x04), account)
            mstore(add(data, 0x24), amount)
            done := call(gas(), token, 0, data, 0x44, 0x00, 0x20)
            agreed := and(done, and(eq(mload(0x00), 1), gt(returndatasize(), 0x1f)))
        }
    }

    /// Accepts the silence of a token; reverts otherwise, with its own reason or with what went wrong.
    function _judge(address token, bool done) private view {
        if (!done) {
            assembly ("memory-safe") {
                if returndatasize() {
                    let answer := mload(0x40)
                    returndatacopy(answer, 0, returndatasize())
                    revert(answer, returndatasize())
                }
            }
            revert("SafeERC20: low-level call failed");
        }
        require(_size() == 0, "SafeERC20: ERC20 operation did not succeed");
        require(token.code.length != 0, "Address: call to non-contract");
    }

    /// Whether the last call, which went through, answered nothing, and there was somebody to answer.
    function _isSilent(address token) private view returns (bool) {
        return _size() == 0 && token.code.length != 0;
    }

    function _size() private pure returns (uint256 size) {
        assembly ("memory-safe") {
            size := returndatasize()
        }
    }
}
