//! The tables of the deployment and its limits, as the host wrote them once; and rows against them.

const std = @import("std");
const memory = @import("memory.zig");
const values = @import("values.zig");

pub const row_bytes_max: u32 = 1_048_576;
pub const key_bytes_max: u32 = 1_968; // encoded, without the number of the table

/// `plain`: the length field of every value that is not NULL, as it lies in a tuple, where any bytes of that length are
/// a value; 0 where more is to be checked.
pub const Column = extern struct { kind: u8, nullable: u8, plain: u32 };

/// A secondary index: its columns by position in the table.
pub const Index = struct { number: u32, columns: []const Column, positions: []const u16, unique: bool };

pub const Table = struct { number: u32, columns: []const Column, key: u32, indexes: []const Index, history: bool };

pub const Slot = struct { asset: u32, amount: [32]u8 };

pub var tables: []const Table = &.{};
pub var index_count: u32 = 0;
pub var slots: []const Slot = &.{};
pub var asset_count: u32 = 0;
pub var participants: []const [20]u8 = &.{};
pub var channel: [32]u8 = undefined;

pub const Limits = extern struct {
    rows_max: u64,
    row_bytes_total_max: u64,
    events_per_message_max: u32,
    event_bytes_max: u32,
    logs_per_message_max: u32,
    log_bytes_max: u32,
};
pub var limits: Limits = undefined;

const Reader = struct {
    rest: []const u8,

    fn int(self: *Reader, comptime T: type) T {
        const value = std.mem.readInt(T, self.rest[0..@sizeOf(T)], .little);
        self.rest = self.rest[@sizeOf(T)..];
        return value;
    }

    fn take(self: *Reader, count: u32) []const u8 {
        const part = self.rest[0..count];
        self.rest = self.rest[count..];
        return part;
    }
};

fn array(comptime T: type, count: u32) []T {
    const many: [*]T = @ptrFromInt(memory.alloc(count * @sizeOf(T)));
    return many[0..count];
}

/// Take over the host's description; it comes from a checked manifest. Layout: native/layout.py.
pub fn configure(description: []const u8) void {
    var reader: Reader = .{ .rest = description };
    limits = .{
        .rows_max = reader.int(u64),
        .row_bytes_total_max = reader.int(u64),
        .events_per_message_max = reader.int(u32),
        .event_bytes_max = reader.int(u32),
        .logs_per_message_max = reader.int(u32),
        .log_bytes_max = reader.int(u32),
    };
    @memcpy(&channel, reader.take(32));
    const people = array([20]u8, reader.int(u32));
    for (people) |*person| @memcpy(person, reader.take(20));
    participants = people;
    const amounts = array(Slot, reader.int(u32));
    asset_count = reader.int(u32);
    for (amounts) |*slot| {
        slot.asset = reader.int(u32);
        @memcpy(&slot.amount, reader.take(32));
    }
    slots = amounts;
    const list = array(Table, reader.int(u32));
    for (list, 0..) |*table, number| table.* = readTable(&reader, @intCast(number), @intCast(list.len));
    tables = list;
}

fn readTable(reader: *Reader, number: u32, count: u32) Table {
    const columns = array(Column, reader.int(u16));
    const key = reader.int(u16);
    const history = reader.int(u16) != 0;
    for (columns) |*column| {
        const kind = reader.int(u8);
        column.* = .{ .kind = kind, .nullable = reader.int(u8), .plain = @byteSwap(values.plainWidth(kind)) };
    }
    const indexes = array(Index, reader.int(u16));
    for (indexes) |*index| {
        const positions = array(u16, reader.int(u16));
        const unique = reader.int(u16) != 0;
        const picked = array(Column, @intCast(positions.len));
        for (positions, picked) |*position, *column| {
            position.* = reader.int(u16);
            column.* = columns[position.*];
        }
        index.* = .{ .number = count + index_count, .columns = picked, .positions = positions, .unique = unique };
        index_count += 1;
    }
    return .{ .number = number, .columns = columns, .key = key, .indexes = indexes, .history = history };
}

// -- tuples ----------------------------------------------------------------------------------------------------------

/// Where the values of the tuple parsed last lie; null for NULL.
pub var parsed: [250]?[]const u8 = undefined;

/// Check a tuple and find its values; with `prefix` it may hold fewer columns. The number of columns, or null when it
/// is not allowed.
pub fn parse(columns: []const Column, data: []const u8, prefix: bool) ?u32 {
    if (data.len < 2) return null;
    const count = values.read(u16, data);
    if (count != columns.len and !(prefix and count < columns.len)) return null;
    var position: usize = 2;
    for (columns[0..count], 0..) |column, i| {
        if (position + 4 > data.len) return null;
        const field = memory.load(u32, data.ptr + position);
        position += 4;
        if (field == column.plain and field != 0) { // most columns: nothing but the length to be checked
            const width: usize = values.widths[column.kind];
            if (width > data.len - position) return null;
            parsed[i] = data[position..][0..width];
            position += width;
            continue;
        }
        const length: i32 = @bitCast(@byteSwap(field));
        if (length < 0) {
            if (length != -1 or column.nullable == 0) return null;
            parsed[i] = null;
            continue;
        }
        const size: usize = @intCast(length);
        if (size > data.len - position) return null;
        const value = data[position .. position + size];
        if (!values.allowed(column.kind, value)) return null;
        parsed[i] = value;
        position += size;
    }
    return if (position == data.len) count else null;
}

/// Find the values of a stored row, which was checked when it came.
pub fn locate(count: usize, row: []const u8) void {
    var position: usize = 2;
    for (0..count) |i| {
        const length: i32 = @bitCast(values.read(u32, row[position..]));
        position += 4;
        if (length < 0) {
            parsed[i] = null;
            continue;
        }
        parsed[i] = row[position..][0..@intCast(length)];
        position += @intCast(length);
    }
}

/// Bytes of memory that the encoding of `count` parsed values needs at most.
pub fn keySize(columns: []const Column, positions: ?[]const u16, count: u32) u32 {
    var size: u32 = 2;
    for (columns[0..count], 0..) |column, i| {
        const value = parsed[if (positions) |p| p[i] else i];
        size += 1 + if (value) |v| values.keySizeMax(column.kind, @intCast(v.len)) else 0;
    }
    return size;
}

pub const Key = struct { length: u32, has_null: bool };

/// Write number and encoded values of parsed columns to `out`, which has `keySize` bytes; null when it is too long.
pub fn encodeKey(number: u32, columns: []const Column, positions: ?[]const u16, count: u32, out: [*]u8) ?Key {
    out[0] = @truncate(number >> 8);
    out[1] = @truncate(number);
    var length: u32 = 2;
    var has_null = false;
    for (columns[0..count], 0..) |column, i| {
        if (parsed[if (positions) |p| p[i] else i]) |value| {
            if (column.nullable != 0) {
                out[length] = 0;
                length += 1;
            }
            length += values.encodeKey(column.kind, value, out + length);
        } else {
            out[length] = 1;
            length += 1;
            has_null = true;
        }
    }
    return if (length - 2 > key_bytes_max) null else .{ .length = length, .has_null = has_null };
}
