//! The other side: the reducer's two functions and its memory, reached through the shim's table.

const memory = @import("memory.zig");

pub const header_bytes: u32 = 80;

const shim = struct {
    extern "shim" fn guest_alloc(length: u32) u32;
    extern "shim" fn guest_reduce(pointer: u32, length: u32) i32;
    extern "shim" fn guest_pages() u32;
    extern "shim" fn guest_load(guest: u32, kernel: u32, length: u32) void;
    extern "shim" fn guest_store(kernel: u32, guest: u32, length: u32) void;
};

pub const alloc = shim.guest_alloc;
pub const reduce = shim.guest_reduce;

var bytes_known: u64 = 0; // of the guest's memory, which never shrinks while a message runs

/// A message begins, perhaps in another instance.
pub inline fn measure() void {
    bytes_known = @as(u64, shim.guest_pages()) * memory.page_bytes;
}

/// Whether a span lies in the guest's memory as it is now.
pub inline fn holds(pointer: u32, length: u32) bool {
    const end = @as(u64, pointer) + length;
    if (end <= bytes_known) return true;
    measure();
    return end <= bytes_known;
}

/// Copy out of the guest. The span was checked.
pub inline fn load(pointer: u32, into: u32, length: u32) void {
    shim.guest_load(pointer, into, length);
}

/// Copy into the guest. The span was checked.
pub inline fn store(from: u32, pointer: u32, length: u32) void {
    shim.guest_store(from, pointer, length);
}
