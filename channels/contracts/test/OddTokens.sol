// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// Tokens as they are in the wild, for tests. Everybody can mint.
abstract contract OddToken {
    mapping(address owner => uint256) public balanceOf;
    mapping(address owner => mapping(address spender => uint256)) public allowance;

    function mint(address to, uint256 amount) external {
        balanceOf[to] += amount;
    }

    function _spend(address from, uint256 amount) internal returns (bool) {
        if (allowance[from][msg.sender] < amount || balanceOf[from] < amount) return false;
        allowance[from][msg.sender] -= amount;
        balanceOf[from] -= amount;
        return true;
    }
}

/// Returns nothing, and refuses to change an allowance that is not zero, like USDT.
contract SilentToken is OddToken {
    function approve(address spender, uint256 amount) external {
        require(amount == 0 || allowance[msg.sender][spender] == 0, "reset first");
        allowance[msg.sender][spender] = amount;
    }

    function transfer(address to, uint256 amount) external {
        balanceOf[msg.sender] -= amount;
        balanceOf[to] += amount;
    }

    function transferFrom(address from, address to, uint256 amount) external {
        require(_spend(from, amount), "not allowed");
        balanceOf[to] += amount;
    }
}

/// Returns false instead of reverting, and can be switched off.
contract FalseToken is OddToken {
    bool public frozen;

    function freeze(bool frozen_) external {
        frozen = frozen_;
    }

    function approve(address spender, uint256 amount) external returns (bool) {
        allowance[msg.sender][spender] = amount;
        return true;
    }

    function transfer(address to, uint256 amount) external returns (bool) {
        if (frozen || balanceOf[msg.sender] < amount) return false;
        balanceOf[msg.sender] -= amount;
        balanceOf[to] += amount;
        return true;
    }

    function transferFrom(address from, address to, uint256 amount) external returns (bool) {
        if (frozen || !_spend(from, amount)) return false;
        balanceOf[to] += amount;
        return true;
    }
}

/// Keeps one in a hundred of each transfer.
contract FeeToken is OddToken {
    function approve(address spender, uint256 amount) external returns (bool) {
        allowance[msg.sender][spender] = amount;
        return true;
    }

    function transfer(address to, uint256 amount) external returns (bool) {
        balanceOf[msg.sender] -= amount;
        balanceOf[to] += amount - amount / 100;
        return true;
    }

    function transferFrom(address from, address to, uint256 amount) external returns (bool) {
        require(_spend(from, amount), "not allowed");
        balanceOf[to] += amount - amount / 100;
        return true;
    }
}

/// Calls the owner before it takes anything, as ERC777 does.
contract HookToken is OddToken {
    function approve(address spender, uint256 amount) external returns (bool) {
        allowance[msg.sender][spender] = amount;
        return true;
    }

    function transfer(address to, uint256 amount) external returns (bool) {
        balanceOf[msg.sender] -= amount;
        balanceOf[to] += amount;
        return true;
    }

    function transferFrom(address from, address to, uint256 amount) external returns (bool) {
        if (from.code.length != 0) Caller(from).tokensToSend();
        require(_spend(from, amount), "not allowed");
        balanceOf[to] += amount;
        return true;
    }
}

interface Caller {
    function tokensToSend() external;
}
