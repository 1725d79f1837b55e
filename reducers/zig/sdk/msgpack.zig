//! MessagePack: a reader for untrusted bytes and a writer for events. `message.zig` gives values their types.

const std = @import("std");
const memory = @import("memory.zig");
const types = @import("types.zig");

pub const Malformed = error{Malformed};

/// What a value is, with its own bytes or its number of items.
pub const Item = union(enum) {
    nil,
    bool: bool,
    int: i128,
    float: f64,
    str: []const u8,
    bin: []const u8,
    array: u32,
    map: u32,
    /// An extension; nothing here gives it a meaning.
    ext: []const u8,
};

pub const Reader = struct {
    data: []const u8,
    at: usize = 0,

    fn take(self: *Reader, count: usize) Malformed![]const u8 {
        if (count > self.data.len - self.at) return error.Malformed;
        defer self.at += count;
        return self.data[self.at..][0..count];
    }

    fn int(self: *Reader, comptime T: type) Malformed!T {
        return std.mem.readInt(T, (try self.take(@sizeOf(T)))[0..@sizeOf(T)], .big);
    }

    /// The next value's head; the items of an array or map follow it.
    pub fn next(self: *Reader) Malformed!Item {
        const head = (try self.take(1))[0];
        return switch (head) {
            0x00...0x7f => .{ .int = head },
            0x80...0x8f => .{ .map = head & 0x0f },
            0x90...0x9f => .{ .array = head & 0x0f },
            0xa0...0xbf => .{ .str = try self.take(head & 0x1f) },
            0xc0 => .nil,
            0xc1 => error.Malformed,
            0xc2, 0xc3 => .{ .bool = head == 0xc3 },
            0xc4 => .{ .bin = try self.take(try self.int(u8)) },
            0xc5 => .{ .bin = try self.take(try self.int(u16)) },
            0xc6 => .{ .bin = try self.take(try self.int(u32)) },
            0xc7 => .{ .ext = try self.take(@as(usize, try self.int(u8)) + 1) },
            0xc8 => .{ .ext = try self.take(@as(usize, try self.int(u16)) + 1) },
            0xc9 => .{ .ext = try self.take(@as(usize, try self.int(u32)) +| 1) },
            0xca => .{ .float = @as(f32, @bitCast(try self.int(u32))) },
            0xcb => .{ .float = @bitCast(try self.int(u64)) },
            0xcc => .{ .int = try self.int(u8) },
            0xcd => .{ .int = try self.int(u16) },
            0xce => .{ .int = try self.int(u32) },
            0xcf => .{ .int = try self.int(u64) },
            0xd0 => .{ .int = try self.int(i8) },
            0xd1 => .{ .int = try self.int(i16) },
            0xd2 => .{ .int = try self.int(i32) },
            0xd3 => .{ .int = try self.int(i64) },
            0xd4...0xd8 => .{ .ext = try self.take((@as(usize, 1) << @intCast(head - 0xd4)) + 1) },
            0xd9 => .{ .str = try self.take(try self.int(u8)) },
            0xda => .{ .str = try self.take(try self.int(u16)) },
            0xdb => .{ .str = try self.take(try self.int(u32)) },
            0xdc => .{ .array = try self.int(u16) },
            0xdd => .{ .array = try self.int(u32) },
            0xde => .{ .map = try self.int(u16) },
            0xdf => .{ .map = try self.int(u32) },
            0xe0...0xff => .{ .int = @as(i8, @bitCast(head)) },
        };
    }

    /// True, and past it, when the next value is nil.
    pub fn skipNil(self: *Reader) bool {
        if (self.at >= self.data.len or self.data[self.at] != 0xc0) return false;
        self.at += 1;
        return true;
    }

    pub fn ended(self: *const Reader) bool {
        return self.at == self.data.len;
    }
};

/// The MessagePack bytes of a value: structs as maps, tuples and slices as arrays, enums as their names, numbers above
/// 64 bits as decimal text.
pub fn encode(value: anytype) []const u8 {
    var writer: Writer = .{ .start = memory.mark() };
    writer.any(value);
    const many: [*]const u8 = @ptrFromInt(writer.start);
    return many[0 .. memory.mark() - writer.start];
}

/// Appends at the top of the arena, so nothing else may allocate while it writes.
const Writer = struct {
    start: usize,

    fn bytes(_: *Writer, data: []const u8) void {
        @memcpy(memory.alloc(u8, data.len), data);
    }

    fn head(self: *Writer, first: u8, comptime T: type, number: T) void {
        var buffer: [1 + @sizeOf(T)]u8 = undefined;
        buffer[0] = first;
        std.mem.writeInt(T, buffer[1..], number, .big);
        self.bytes(&buffer);
    }

    fn sized(self: *Writer, short: u8, short_max: usize, long: u8, count: usize) void {
        if (count <= short_max) return self.bytes(&.{short | @as(u8, @intCast(count))});
        if (count <= 0xffff) return self.head(long, u16, @intCast(count));
        self.head(long + 1, u32, @intCast(count));
    }

    fn str(self: *Writer, text: []const u8) void {
        if (text.len > 31 and text.len <= 0xff) self.head(0xd9, u8, @intCast(text.len)) //
        else self.sized(0xa0, 31, 0xda, text.len);
        self.bytes(text);
    }

    fn bin(self: *Writer, data: []const u8) void {
        if (data.len <= 0xff) self.head(0xc4, u8, @intCast(data.len)) //
        else if (data.len <= 0xffff) self.head(0xc5, u16, @intCast(data.len)) //
        else self.head(0xc6, u32, @intCast(data.len));
        self.bytes(data);
    }

    fn integer(self: *Writer, number: i128) void {
        if (number < 0) {
            if (number >= -32) return self.bytes(&.{@bitCast(@as(i8, @intCast(number)))});
            return self.head(0xd3, i64, @intCast(number));
        }
        if (number < 128) return self.bytes(&.{@intCast(number)});
        if (number <= 0xff) return self.head(0xcc, u8, @intCast(number));
        if (number <= 0xffff) return self.head(0xcd, u16, @intCast(number));
        if (number <= 0xffff_ffff) return self.head(0xce, u32, @intCast(number));
        self.head(0xcf, u64, @intCast(number));
    }

    fn any(self: *Writer, value: anytype) void {
        const T = @TypeOf(value);
        if (T == types.Bytes) return self.bin(value.data);
        if (T == types.Json) return self.str(value.text);
        if (T == types.Timestamp) return self.integer(value.toMs());
        if (comptime types.isScalarStruct(T)) return self.bin(&value.bytes);
        switch (@typeInfo(T)) {
            .null => self.bytes(&.{0xc0}),
            .optional => if (value) |inner| self.any(inner) else self.bytes(&.{0xc0}),
            .bool => self.bytes(&.{@as(u8, if (value) 0xc3 else 0xc2)}),
            .comptime_int => self.integer(value),
            .int => |info| if (info.bits <= 64) self.integer(value) else self.wide(value),
            .float => self.head(0xcb, u64, if (std.math.isNan(value)) 0x7ff8000000000000 else @bitCast(@as(f64, value))),
            .@"enum", .enum_literal => self.str(@tagName(value)),
            .pointer => |pointer| {
                if (pointer.child == u8 or (pointer.size == .one and @typeInfo(pointer.child).array.child == u8)) return self.str(value);
                self.items(value);
            },
            .array => self.items(&value),
            .@"struct" => |info| {
                self.sized(if (info.is_tuple) 0x90 else 0x80, 15, if (info.is_tuple) 0xdc else 0xde, info.field_names.len);
                inline for (info.field_names) |name| {
                    if (!info.is_tuple) self.str(name);
                    self.any(@field(value, name));
                }
            },
            else => @compileError("no MessagePack form for " ++ @typeName(T)),
        }
    }

    fn items(self: *Writer, values: anytype) void {
        self.sized(0x90, 15, 0xdc, values.len);
        for (values) |value| self.any(value);
    }

    fn wide(self: *Writer, number: u256) void {
        if (number <= std.math.maxInt(u64)) return self.integer(@intCast(number));
        var buffer: [80]u8 = undefined;
        self.str(std.fmt.bufPrint(&buffer, "{d}", .{number}) catch unreachable);
    }
};
