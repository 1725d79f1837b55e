//! Bytes for the host: one block at a time, whose place the host asks for.

const std = @import("std");
const memory = @import("memory.zig");

pub var address: u32 = 0;
pub var length: u32 = 0;
var capacity: u32 = 0;
const kept_max = 65536; // a larger block goes back to the heap with the next one

/// An uninitialised block of this size; the one before is gone.
pub fn make(size: u32) Writer {
    if (size > capacity or capacity > kept_max) {
        if (capacity > 0) memory.free(address, capacity);
        capacity = @max(size, 1024);
        address = memory.alloc(capacity);
    }
    length = size;
    return .{ .at = address };
}

pub const Writer = struct {
    at: u32,

    pub fn word(self: *Writer, value: u32) void {
        std.mem.writeInt(u32, memory.bytesAt(self.at, 4)[0..4], value, .little);
        self.at += 4;
    }

    pub fn int(self: *Writer, comptime T: type, value: T) void {
        std.mem.writeInt(T, memory.bytesAt(self.at, @sizeOf(T))[0..@sizeOf(T)], value, .big);
        self.at += @sizeOf(T);
    }

    /// A number behind its length, as in a tuple.
    pub inline fn field(self: *Writer, comptime T: type, value: T) void {
        self.int(u32, @sizeOf(T));
        self.int(T, value);
    }

    pub inline fn bytes(self: *Writer, data: []const u8) void {
        memory.copy(@ptrFromInt(self.at), data);
        self.at += @intCast(data.len);
    }
};
