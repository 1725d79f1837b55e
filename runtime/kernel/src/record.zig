//! What the trees hold: a row under its key, an index entry, or a note about a key. Key bytes begin with the number
//! of the table or index, big-endian, so that one tree holds all of them in order.

const std = @import("std");
const memory = @import("memory.zig");

pub const tombstone: u16 = 1; // the key is gone (in the layer of a batch only)
pub const has_null: u16 = 2; // an index entry with a NULL column, which never collides
pub const over: u16 = 4; // a row of the layer: `link` is the row of the base that it stands over
pub const same: u16 = 8; // and it has the same bytes
pub const absent: u16 = 16; // a note: there was no row before
pub const committed: u16 = 32; // a row of the base

pub const Record = extern struct {
    key_len: u16,
    flags: u16,
    row_len: u32, // of a note: the row before
    /// A row: its leaf in the state tree, or 0. An index entry: length of its key without the primary key.
    link: u32,
    /// Written by a message: the one written before it. A row of the base: its note. A note: the row as it is now, or 0.
    next: u32 = 0,

    pub inline fn key(self: *const Record) []const u8 {
        return memory.bytesAt(@as(u32, @intFromPtr(self)) + header + self.row_len, self.key_len);
    }

    pub inline fn row(self: *const Record) []const u8 {
        return memory.bytesAt(@as(u32, @intFromPtr(self)) + header, self.row_len);
    }

    pub inline fn size(self: *const Record) u32 {
        return header + self.row_len + self.key_len;
    }

    pub inline fn gone(self: *const Record) bool {
        return self.flags & tombstone != 0;
    }

    /// The row of the base that this row of the layer stands over, or 0; a row of the base stands for itself.
    pub inline fn under(self: *const Record) u32 {
        if (self.flags & committed != 0) return @intFromPtr(self);
        return if (self.flags & over != 0) self.link else 0;
    }

    pub inline fn number(self: *const Record) u32 {
        const bytes = self.key();
        return @as(u32, bytes[0]) << 8 | bytes[1];
    }
};

pub const header: u32 = @sizeOf(Record);

pub inline fn of(address: u32) *Record {
    return memory.at(Record, address);
}

/// Make one in the heap; it lives until `drop`.
pub fn make(key: []const u8, row: []const u8, flags: u16, link: u32) u32 {
    const address = memory.alloc(@intCast(header + row.len + key.len));
    fill(address, key, row, flags, link);
    return address;
}

/// Make one where there is room for it.
pub fn fill(address: u32, key: []const u8, row: []const u8, flags: u16, link: u32) void {
    of(address).* = .{ .key_len = @intCast(key.len), .flags = flags, .row_len = @intCast(row.len), .link = link };
    const bytes: [*]u8 = @ptrFromInt(address + header);
    memory.copy(bytes, row);
    memory.copy(bytes + row.len, key);
}

pub fn drop(address: u32) void {
    memory.free(address, of(address).size());
}

/// -1, 0 or 1 by bytes, a prefix first.
pub inline fn compare(a: []const u8, b: []const u8) i32 {
    const shorter: u32 = @intCast(@min(a.len, b.len));
    var i: u32 = 0;
    while (i + 8 <= shorter) : (i += 8) {
        const order = compareAt(u64, a.ptr + i, b.ptr + i);
        if (order != 0) return order;
    }
    // What is left as one number, with bytes before it that are equal.
    if (shorter >= 8) {
        const order = compareAt(u64, a.ptr + shorter - 8, b.ptr + shorter - 8);
        if (order != 0) return order;
    } else if (shorter >= 4) {
        const first = compareAt(u32, a.ptr, b.ptr);
        if (first != 0) return first;
        const order = compareAt(u32, a.ptr + shorter - 4, b.ptr + shorter - 4);
        if (order != 0) return order;
    } else while (i < shorter) : (i += 1) {
        if (a[i] != b[i]) return if (a[i] < b[i]) -1 else 1;
    }
    return if (a.len == b.len) 0 else if (a.len < b.len) -1 else 1;
}

inline fn compareAt(comptime T: type, a: [*]const u8, b: [*]const u8) i32 {
    const x = memory.load(T, a);
    const y = memory.load(T, b);
    if (x == y) return 0;
    const shift: std.math.Log2Int(T) = @intCast(@ctz(x ^ y) & (@bitSizeOf(T) - 8));
    return if ((x >> shift) & 255 < (y >> shift) & 255) -1 else 1;
}

pub inline fn equal(a: []const u8, b: []const u8) bool {
    if (a.len != b.len) return false;
    var i: u32 = 0;
    while (i + 8 <= a.len) : (i += 8) if (differ(u64, a.ptr + i, b.ptr + i)) return false;
    if (a.len >= 8) return !differ(u64, a.ptr + a.len - 8, b.ptr + a.len - 8);
    if (a.len >= 4) return !differ(u32, a.ptr, b.ptr) and !differ(u32, a.ptr + a.len - 4, b.ptr + a.len - 4);
    while (i < a.len) : (i += 1) if (a[i] != b[i]) return false;
    return true;
}

inline fn differ(comptime T: type, a: [*]const u8, b: [*]const u8) bool {
    return memory.load(T, a) != memory.load(T, b);
}
