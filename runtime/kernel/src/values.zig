//! Column types: which bytes a value may have, and its order-preserving key encoding. Bytes are PostgreSQL's binary
//! send format. The same rules in Python: row_types.py, keys.py.

const std = @import("std");
const json = @import("json.zig");
const memory = @import("memory.zig");

pub const Type = struct {
    pub const boolean = 0;
    pub const int2 = 1;
    pub const int4 = 2;
    pub const int8 = 3;
    pub const numeric = 4;
    pub const float8 = 5;
    pub const text = 6;
    pub const bytea = 7;
    pub const bytes32 = 8;
    pub const address = 9;
    pub const uuid = 10;
    pub const timestamptz = 11;
    pub const json_text = 12;
    pub const count = 13;
};

const any = 0xffff_ffff;
/// The only length a value may have, by type.
pub const widths = [Type.count]u32{ 1, 2, 4, 8, any, 8, any, any, 32, 20, 16, 8, any };
/// Type numbers of PostgreSQL's catalog, which arrays carry.
pub const oids = [Type.count]u32{ 16, 21, 23, 20, 1700, 701, 25, 17, 17, 17, 2950, 1184, 114 };

/// The length of a value of this type if any bytes of that length are one, else 0.
pub fn plainWidth(kind: u8) u32 {
    return switch (kind) {
        Type.int2, Type.int4, Type.int8, Type.bytes32, Type.address, Type.uuid => widths[kind],
        else => 0,
    };
}

const timestamp_min: i64 = -211_813_488_000_000_000;
const timestamp_end: i64 = 9_223_371_331_200_000_000;
const canonical_nan: u64 = 0x7ff8_0000_0000_0000;

/// Whether a value of this type may have these bytes.
pub fn allowed(kind: u8, value: []const u8) bool {
    if (widths[kind] != any and value.len != widths[kind]) return false;
    return switch (kind) {
        Type.boolean => value[0] <= 1,
        Type.numeric => numericAllowed(value),
        Type.float8 => floatAllowed(read(u64, value)),
        Type.text => utf8(value, true),
        Type.timestamptz => blk: {
            const micros: i64 = @bitCast(read(u64, value));
            break :blk micros >= timestamp_min and micros < timestamp_end;
        },
        Type.json_text => utf8(value, false) and json.allowed(value),
        else => true,
    };
}

fn floatAllowed(bits: u64) bool {
    const is_nan = bits & 0x7fff_ffff_ffff_ffff > 0x7ff0_0000_0000_0000;
    return !is_nan or bits == canonical_nan;
}

pub inline fn read(comptime T: type, bytes: []const u8) T {
    return std.mem.readInt(T, bytes[0..@sizeOf(T)], .big);
}

// -- numeric: base-10,000 digits of an integer from 0 to 2^256-1 -----------------------------------------------------

const digits_max = 20;

fn numericAllowed(value: []const u8) bool {
    if (value.len < 8) return false;
    const count = read(u16, value);
    const weight: i16 = @bitCast(read(u16, value[2..]));
    if (value.len != 8 + 2 * @as(u32, count) or count > digits_max) return false;
    if (read(u32, value[4..]) != 0) return false; // sign and scale
    if (count == 0) return weight == 0;
    if (weight < @as(i32, count) - 1 or weight >= digits_max) return false;
    for (0..count) |i| if (digit(value, i) > 9999) return false;
    if (digit(value, 0) == 0 or digit(value, count - 1) == 0) return false;
    var word: [32]u8 = undefined;
    return numericWord(value, &word);
}

inline fn digit(value: []const u8, index: usize) u32 {
    return read(u16, value[8 + 2 * index ..]);
}

/// The integer as 32 bytes, big-endian; false when it does not fit.
fn numericWord(value: []const u8, out: *[32]u8) bool {
    const count = read(u16, value);
    const weight: i16 = @bitCast(read(u16, value[2..]));
    var limbs: [8]u32 = @splat(0); // least first
    var used: u32 = 1;
    if (count > 0) {
        for (0..@as(u32, @intCast(weight)) + 1) |i| {
            var carry: u64 = if (i < count) digit(value, i) else 0;
            for (0..used) |j| {
                const product = @as(u64, limbs[j]) * 10_000 + carry;
                limbs[j] = @truncate(product);
                carry = product >> 32;
            }
            if (carry != 0) {
                if (used == 8) return false;
                limbs[used] = @truncate(carry);
                used += 1;
            }
        }
    }
    for (0..8) |i| std.mem.writeInt(u32, out[28 - 4 * i ..][0..4], limbs[i], .big);
    return true;
}

/// Digits of a u64 in numeric's binary form; returns its length.
pub fn writeNumeric(number: u64, out: *[18]u8) u32 {
    var digits: [5]u16 = undefined;
    var n = number;
    var groups: u32 = 0;
    while (n != 0) : (groups += 1) {
        digits[groups] = @intCast(n % 10_000);
        n /= 10_000;
    }
    var low: u32 = 0;
    while (low < groups and digits[low] == 0) low += 1;
    const count = groups - low;
    std.mem.writeInt(u16, out[0..2], @intCast(count), .big);
    std.mem.writeInt(u16, out[2..4], if (groups == 0) 0 else @intCast(groups - 1), .big);
    @memset(out[4..8], 0);
    for (0..count) |i| std.mem.writeInt(u16, out[8 + 2 * i ..][0..2], digits[groups - 1 - i], .big);
    return 8 + 2 * count;
}

// -- text ------------------------------------------------------------------------------------------------------------

/// Valid UTF-8 and, with `no_nul`, without a NUL.
pub fn utf8(value: []const u8, no_nul: bool) bool {
    var i: usize = 0;
    while (i < value.len) {
        const first = value[i];
        if (first < 0x80) {
            if (first == 0 and no_nul) return false;
            i += 1;
            continue;
        }
        const length: usize = if (first >= 0xc2 and first < 0xe0) 2 else if (first >= 0xe0 and first < 0xf0) 3 else if (first >= 0xf0 and first < 0xf5) 4 else return false;
        if (i + length > value.len) return false;
        const second = value[i + 1];
        const low: u8 = switch (first) {
            0xe0 => 0xa0,
            0xf0 => 0x90,
            else => 0x80,
        };
        const high: u8 = switch (first) {
            0xed => 0x9f, // no surrogates
            0xf4 => 0x8f, // up to U+10FFFF
            else => 0xbf,
        };
        if (second < low or second > high) return false;
        for (value[i + 2 .. i + length]) |byte| if (byte & 0xc0 != 0x80) return false;
        i += length;
    }
    return true;
}

// -- keys ------------------------------------------------------------------------------------------------------------

/// Most bytes that the encoding of a value may take.
pub fn keySizeMax(kind: u8, length: u32) u32 {
    return switch (kind) {
        Type.numeric => 32,
        Type.text, Type.bytea => 2 * length + 2,
        else => length,
    };
}

/// Append the encoding of an allowed value; returns its length. Bytewise order of encodings is the order of values.
pub fn encodeKey(kind: u8, value: []const u8, out: [*]u8) u32 {
    switch (kind) {
        Type.int4 => memory.store(u32, out, memory.load(u32, value.ptr) ^ 0x80),
        Type.int8, Type.timestamptz => memory.store(u64, out, memory.load(u64, value.ptr) ^ 0x80),
        Type.int2 => {
            memory.copy(out, value);
            out[0] ^= 0x80;
        },
        Type.numeric => {
            _ = numericWord(value, out[0..32]);
            return 32;
        },
        Type.text, Type.bytea => {
            var length: u32 = 0;
            for (value) |byte| {
                out[length] = byte;
                length += 1;
                if (byte == 0) {
                    out[length] = 0xff;
                    length += 1;
                }
            }
            out[length] = 0;
            out[length + 1] = 0;
            return length + 2;
        },
        else => memory.copy(out, value),
    }
    return @intCast(value.len);
}
