//! Rows and keys as PostgreSQL COPY BINARY tuples: `u16 count`, then per column `i32 length` and big-endian bytes.
//! `table.zig` decides which columns; the byte forms of the types are in docs/reference/abi.md.

const std = @import("std");
const memory = @import("memory.zig");
const types = @import("types.zig");

const numeric_digits_max = 20; // 2^256 has 78 decimal digits
const canonical_nan: u64 = 0x7ff8000000000000;

/// Most bytes a value of T takes, its length field included; null when that depends on the value.
pub fn sizeMax(comptime T: type) ?usize {
    if (T == []const u8 or T == types.Bytes or T == types.Json) return null;
    if (T == types.Timestamp) return 12;
    if (comptime types.isScalarStruct(T)) return 4 + T.byte_count;
    return switch (@typeInfo(T)) {
        .optional => |optional| sizeMax(optional.child),
        .bool => 5,
        .@"enum" => |e| blk: {
            var longest: usize = 0;
            for (e.field_names) |name| longest = @max(longest, name.len);
            break :blk 4 + longest;
        },
        .int => |int| if (int.signedness == .unsigned) 4 + 8 + 2 * numeric_digits_max else 4 + int.bits / 8,
        else => 12,
    };
}

fn size(value: anytype) usize {
    const T = @TypeOf(value);
    if (T == []const u8) return 4 + value.len;
    if (T == types.Bytes) return 4 + value.data.len;
    if (T == types.Json) return 4 + value.text.len;
    if (@typeInfo(T) == .optional) return if (value) |inner| size(inner) else 4;
    return comptime sizeMax(T).?;
}

/// Writes a tuple column by column into arena memory taken once.
pub const Encoder = struct {
    buffer: []u8,
    at: usize = 0,

    /// `columns`: a tuple of typed values.
    pub fn tuple(columns: anytype) []const u8 {
        var bytes: usize = 2;
        inline for (columns) |column| bytes += size(column);
        var self: Encoder = .{ .buffer = memory.alloc(u8, bytes) };
        self.int(u16, columns.len);
        inline for (columns) |column| self.value(column);
        return self.buffer[0..self.at];
    }

    fn int(self: *Encoder, comptime T: type, number: T) void {
        std.mem.writeInt(T, self.buffer[self.at..][0..@sizeOf(T)], number, .big);
        self.at += @sizeOf(T);
    }

    fn field(self: *Encoder, bytes: []const u8) void {
        self.int(i32, @intCast(bytes.len));
        @memcpy(self.buffer[self.at..][0..bytes.len], bytes);
        self.at += bytes.len;
    }

    fn fieldInt(self: *Encoder, comptime T: type, number: T) void {
        self.int(i32, @sizeOf(T));
        self.int(T, number);
    }

    fn value(self: *Encoder, item: anytype) void {
        const T = @TypeOf(item);
        if (T == []const u8) return self.field(item);
        if (T == types.Bytes) return self.field(item.data);
        if (T == types.Json) return self.field(item.text);
        if (T == types.Timestamp) return self.fieldInt(i64, item.micros);
        if (comptime types.isScalarStruct(T)) return self.field(&item.bytes);
        switch (@typeInfo(T)) {
            .optional => if (item) |inner| self.value(inner) else self.int(i32, -1),
            .bool => self.field(&.{@intFromBool(item)}),
            .@"enum" => self.field(@tagName(item)),
            .float => self.fieldInt(u64, if (std.math.isNan(item)) canonical_nan else @bitCast(item)),
            .int => |info| if (info.signedness == .signed) self.fieldInt(T, item) else self.numeric(item),
            else => comptime unreachable,
        }
    }

    /// `numeric_send` form: base-10,000 digits, no zero digit at either end.
    fn numeric(self: *Encoder, number: u256) void {
        var digits: [numeric_digits_max]u16 = undefined; // least significant first
        const count = splitDigits(number, &digits);
        var low: usize = 0;
        while (low < count and digits[low] == 0) low += 1;
        const kept = count - low;
        self.int(i32, @intCast(8 + 2 * kept));
        self.int(u16, @intCast(kept));
        self.int(i16, if (count == 0) 0 else @intCast(count - 1));
        self.int(u16, 0);
        self.int(u16, 0);
        var index = count;
        while (index > low) {
            index -= 1;
            self.int(u16, digits[index]);
        }
    }
};

/// Base-10,000 digits of a number, least significant first; returns how many. 32-bit limbs keep it to 64-bit division.
fn splitDigits(number: u256, digits: *[numeric_digits_max]u16) usize {
    var limbs: [8]u32 = undefined;
    for (&limbs, 0..) |*limb, index| limb.* = @truncate(number >> @intCast(32 * index));
    var used: usize = 8;
    var count: usize = 0;
    while (true) {
        while (used > 0 and limbs[used - 1] == 0) used -= 1;
        if (used == 0) return count;
        var remainder: u64 = 0;
        var index = used;
        while (index > 0) {
            index -= 1;
            const part = (remainder << 32) | limbs[index];
            limbs[index] = @intCast(part / 10_000);
            remainder = part % 10_000;
        }
        digits[count] = @intCast(remainder);
        count += 1;
    }
}

/// Reads a tuple; the host wrote it and checked it when it was put, so a mismatch is a bug and traps.
pub const Decoder = struct {
    data: []const u8,
    at: usize = 2,

    fn take(self: *Decoder, count: usize) []const u8 {
        defer self.at += count;
        return self.data[self.at..][0..count];
    }

    /// The next column; slices point into the row.
    pub fn value(self: *Decoder, comptime T: type) T {
        const length = std.mem.readInt(i32, self.take(4)[0..4], .big);
        if (@typeInfo(T) == .optional) {
            if (length < 0) return null;
            return self.bytesAs(@typeInfo(T).optional.child, @intCast(length));
        }
        return self.bytesAs(T, @intCast(length));
    }

    fn bytesAs(self: *Decoder, comptime T: type, length: usize) T {
        const bytes = self.take(length);
        if (T == []const u8) return bytes;
        if (T == types.Bytes) return .{ .data = bytes };
        if (T == types.Json) return .{ .text = bytes };
        if (T == types.Timestamp) return .{ .micros = std.mem.readInt(i64, bytes[0..8], .big) };
        if (comptime types.isScalarStruct(T)) return T.of(bytes);
        switch (@typeInfo(T)) {
            .bool => return bytes[0] != 0,
            .@"enum" => return std.meta.stringToEnum(T, bytes).?,
            .float => return @bitCast(std.mem.readInt(u64, bytes[0..8], .big)),
            .int => |info| {
                if (info.signedness == .signed) return std.mem.readInt(T, bytes[0..@sizeOf(T)], .big);
                return @intCast(numeric(bytes));
            },
            else => comptime unreachable,
        }
    }
};

fn numeric(bytes: []const u8) u256 {
    const count = std.mem.readInt(u16, bytes[0..2], .big);
    if (count == 0) return 0;
    const weight: usize = @intCast(std.mem.readInt(i16, bytes[2..4], .big));
    var number: u256 = 0;
    for (0..weight + 1) |index| {
        number *= 10_000;
        if (index < count) number += std.mem.readInt(u16, bytes[8 + 2 * index ..][0..2], .big);
    }
    return number;
}
