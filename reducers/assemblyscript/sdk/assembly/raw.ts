// The imports as the ABI has them (docs/reference/abi.md). Reducers use the typed functions above them.

// @ts-ignore: decorator
@external("scapp_1", "get")
export declare function get(table: u32, key: usize, size: u32, out: usize, capacity: u32): i32;
// @ts-ignore: decorator
@external("scapp_1", "put")
export declare function put(table: u32, row: usize, size: u32): i32;
// @ts-ignore: decorator
@external("scapp_1", "delete")
export declare function remove(table: u32, key: usize, size: u32): i32;
// @ts-ignore: decorator
@external("scapp_1", "scan")
export declare function scan(number: u32, lo: usize, loSize: u32, hi: usize, hiSize: u32, flags: u32): u32;
// @ts-ignore: decorator
@external("scapp_1", "next")
export declare function next(cursor: u32, out: usize, capacity: u32): i32;
// @ts-ignore: decorator
@external("scapp_1", "emit")
export declare function emit(topic: usize, topicSize: u32, data: usize, size: u32): void;
// @ts-ignore: decorator
@external("scapp_1", "set_outcome")
export declare function setOutcome(amounts: usize, size: u32): void;
// @ts-ignore: decorator
@external("scapp_1", "reject")
export declare function reject(reason: usize, size: u32): void;
// @ts-ignore: decorator
@external("scapp_1", "log")
export declare function log(level: u32, line: usize, size: u32): void;
// @ts-ignore: decorator
@external("scapp_1", "keccak256")
export declare function keccak256(data: usize, size: u32, out: usize): void;
// @ts-ignore: decorator
@external("scapp_1", "sha256")
export declare function sha256(data: usize, size: u32, out: usize): void;
