//! The imports of `scapp_1` exactly as the host serves them; everything else in this SDK is a typed coat over them.
//! What each one means, returns and traps on: docs/reference/abi.md.

pub extern "scapp_1" fn get(table: u32, key_ptr: [*]const u8, key_len: u32, out_ptr: [*]u8, out_cap: u32) i32;
pub extern "scapp_1" fn put(table: u32, row_ptr: [*]const u8, row_len: u32) i32;
pub extern "scapp_1" fn delete(table: u32, key_ptr: [*]const u8, key_len: u32) i32;
pub extern "scapp_1" fn scan(number: u32, lo_ptr: [*]const u8, lo_len: u32, hi_ptr: [*]const u8, hi_len: u32, flags: u32) u32;
pub extern "scapp_1" fn next(cursor: u32, out_ptr: [*]u8, out_cap: u32) i32;
pub extern "scapp_1" fn emit(topic_ptr: [*]const u8, topic_len: u32, data_ptr: [*]const u8, data_len: u32) void;
pub extern "scapp_1" fn set_outcome(ptr: [*]const u8, len: u32) void;
pub extern "scapp_1" fn reject(ptr: [*]const u8, len: u32) void;
pub extern "scapp_1" fn log(level: u32, ptr: [*]const u8, len: u32) void;
pub extern "scapp_1" fn keccak256(ptr: [*]const u8, len: u32, out_ptr: [*]u8) void;
pub extern "scapp_1" fn sha256(ptr: [*]const u8, len: u32, out_ptr: [*]u8) void;

pub const header_bytes = 80;
pub const scan_backwards: u32 = 1;
pub const scan_hi_inclusive: u32 = 2;
