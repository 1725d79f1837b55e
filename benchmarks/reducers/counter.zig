//! K1's reducer, without the SDK so that little but the kernel is measured: a message of 16 bytes (key and amount,
//! little-endian) reads a counter, writes its new value and emits it. `reference` is the same work on memory of its own.

const std = @import("std");

extern "scapp_1" fn get(table: u32, key: [*]const u8, key_len: u32, out: [*]u8, out_cap: u32) i32;
extern "scapp_1" fn put(table: u32, row: [*]const u8, row_len: u32) i32;
extern "scapp_1" fn emit(topic: [*]const u8, topic_len: u32, data: [*]const u8, data_len: u32) void;

const document =
    \\{"name":"counter","version":"1","abi":"scapp_1","encoding":"raw","tables":[{"name":"counter","key":1,
    \\"columns":[{"name":"id","type":"int8"},{"name":"total","type":"int8"}]}]}
;
const header_bytes = 80;

var message: [65536]u8 align(16) = undefined;

export fn scapp_manifest() u64 {
    return @as(u64, @intFromPtr(document.ptr)) << 32 | document.len;
}

export fn scapp_alloc(_: u32) u32 {
    return @intFromPtr(&message);
}

export fn scapp_reduce(_: u32, length: u32) i32 {
    if (message[0] == 0) return 0; // open
    if (length != header_bytes + 16) return 1;
    const id = std.mem.readInt(u64, message[header_bytes..][0..8], .little);
    const amount = std.mem.readInt(i64, message[header_bytes + 8 ..][0..8], .little);
    var row: [26]u8 = undefined;
    std.mem.writeInt(u16, row[0..2], 1, .big);
    std.mem.writeInt(u32, row[2..6], 8, .big);
    std.mem.writeInt(u64, row[6..14], id, .big);
    var old: [26]u8 = undefined;
    const found = get(0, &row, 14, &old, old.len);
    const before = if (found < 0) 0 else std.mem.readInt(i64, old[18..26], .big);
    std.mem.writeInt(u16, row[0..2], 2, .big);
    std.mem.writeInt(u32, row[14..18], 8, .big);
    std.mem.writeInt(i64, row[18..26], before +% amount, .big);
    _ = put(0, &row, row.len);
    if (message[0] == 1) emit("total", 5, row[6..].ptr, 20); // a tick is silent
    return 0;
}
