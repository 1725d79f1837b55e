//! The imports of `scapp_1` exactly as the host serves them; everything else is a typed coat over them.
//! What each one means, returns and traps on: docs/reference/abi.md.
#![allow(missing_docs)]

#[link(wasm_import_module = "scapp_1")]
extern "C" {
    pub fn get(table: u32, key: *const u8, key_len: u32, out: *mut u8, capacity: u32) -> i32;
    pub fn put(table: u32, row: *const u8, len: u32) -> i32;
    pub fn delete(table: u32, key: *const u8, len: u32) -> i32;
    pub fn scan(number: u32, lo: *const u8, lo_len: u32, hi: *const u8, hi_len: u32, flags: u32) -> u32;
    pub fn next(cursor: u32, out: *mut u8, capacity: u32) -> i32;
    pub fn emit(topic: *const u8, topic_len: u32, data: *const u8, len: u32);
    pub fn set_outcome(amounts: *const u8, len: u32);
    pub fn reject(reason: *const u8, len: u32);
    pub fn log(level: u32, line: *const u8, len: u32);
    pub fn keccak256(data: *const u8, len: u32, out: *mut u8);
    pub fn sha256(data: *const u8, len: u32, out: *mut u8);
}
