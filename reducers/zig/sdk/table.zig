//! Typed tables. A table is a struct whose fields are its columns and whose `table` declaration names it:
//! `pub const table = .{ .name = "account", .key = 1, .indexes = .{.{ .name = "by_balance", .columns = .{"balance"} }} };`
//! `key` is the number of leading fields that form the primary key; `.history = true` keeps every version of the rows in
//! the database. `manifest.zig` describes the same declarations.

const std = @import("std");
const abi = @import("abi.zig");
const memory = @import("memory.zig");
const row = @import("row.zig");

/// The tables of a reducer, in manifest order. Slices in rows that it returns are valid until the message ends.
pub fn Database(comptime list: anytype) type {
    return struct {
        pub const tables = list;

        /// The row with this key, or null. `key`: a tuple of the key columns.
        pub fn get(comptime T: type, key: anytype) ?T {
            const position = memory.mark();
            const bytes = primaryKey(T, key);
            const found = fetch(T, GetSource{ .number = number(T), .key = bytes });
            if (comptime rowBytesMax(T) != null) memory.release(position);
            return found;
        }

        /// Insert, or replace the row with the same key; true when it replaced.
        pub fn put(item: anytype) bool {
            const T = @TypeOf(item);
            const position = memory.mark();
            defer memory.release(position);
            const names = comptime fieldNames(T);
            var values: @Tuple(@typeInfo(T).@"struct".field_types) = undefined;
            inline for (names, 0..) |name, index| values[index] = @field(item, name);
            const bytes = row.Encoder.tuple(values);
            return abi.put(comptime number(T), bytes.ptr, bytes.len) != 0;
        }

        /// True when there was such a row.
        pub fn delete(comptime T: type, key: anytype) bool {
            const position = memory.mark();
            defer memory.release(position);
            const bytes = primaryKey(T, key);
            return abi.delete(comptime number(T), bytes.ptr, bytes.len) != 0;
        }

        /// Rows in order. `options`, all optional: `.index` (name; the primary key otherwise), `.prefix`, or `.from`
        /// (inclusive) and `.to` (exclusive unless `.to_inclusive = true`) as tuples of leading columns, and
        /// `.backwards = true`. A loop that ends early keeps one of the message's 16 cursors.
        pub fn scan(comptime T: type, options: anytype) Rows(T) {
            const Options = @TypeOf(options);
            const position = memory.mark();
            defer memory.release(position);
            const indexed = @hasField(Options, "index");
            const names = comptime if (indexed) indexColumns(T, options.index) else fieldNames(T)[0..T.table.key];
            const prefixed = @hasField(Options, "prefix");
            const lo = if (prefixed) columns(T, names, options.prefix) //
                else if (@hasField(Options, "from")) columns(T, names, options.from) else "";
            const hi = if (prefixed) lo else if (@hasField(Options, "to")) columns(T, names, options.to) else "";
            var flags: u32 = if (prefixed) abi.scan_hi_inclusive else 0;
            if (@hasField(Options, "to_inclusive") and options.to_inclusive) flags |= abi.scan_hi_inclusive;
            if (@hasField(Options, "backwards") and options.backwards) flags |= abi.scan_backwards;
            const source = comptime if (indexed) indexNumber(T, options.index) else number(T);
            return .{ .cursor = abi.scan(source, lo.ptr, lo.len, hi.ptr, hi.len, flags) };
        }

        /// The first row of `scan`, or null. Keeps one of the message's 16 cursors when there is one.
        pub fn first(comptime T: type, options: anytype) ?T {
            var rows = scan(T, options);
            return rows.next();
        }

        fn number(comptime T: type) u32 {
            inline for (list, 0..) |candidate, index| if (candidate == T) return index;
            @compileError(@typeName(T) ++ " is not one of the database's tables");
        }

        fn indexNumber(comptime T: type, comptime name: []const u8) u32 {
            comptime {
                var at: u32 = list.len;
                for (list) |candidate| {
                    for (indexesOf(candidate)) |index| {
                        if (candidate == T and std.mem.eql(u8, index.name, name)) return at;
                        at += 1;
                    }
                }
                @compileError("table " ++ T.table.name ++ " has no index " ++ name);
            }
        }
    };
}

/// An open scan.
pub fn Rows(comptime T: type) type {
    return struct {
        cursor: u32,
        ended: bool = false,

        pub fn next(self: *@This()) ?T {
            if (self.ended) return null;
            const position = memory.mark();
            const found = fetch(T, NextSource{ .cursor = self.cursor });
            if (comptime rowBytesMax(T) != null) memory.release(position);
            self.ended = found == null;
            return found;
        }
    };
}

const GetSource = struct {
    number: u32,
    key: []const u8,
    fn read(self: @This(), out: []u8) i32 {
        return abi.get(self.number, self.key.ptr, self.key.len, out.ptr, out.len);
    }
};

const NextSource = struct {
    cursor: u32,
    fn read(self: @This(), out: []u8) i32 {
        return abi.next(self.cursor, out.ptr, out.len);
    }
};

/// Read a row into arena memory, twice when the first buffer proves too small.
fn fetch(comptime T: type, source: anytype) ?T {
    var buffer = memory.alloc(u8, comptime rowBytesMax(T) orelse 512);
    var length = source.read(buffer);
    if (length > buffer.len) {
        buffer = memory.alloc(u8, @intCast(length));
        length = source.read(buffer);
    }
    if (length < 0) return null;
    var decoder: row.Decoder = .{ .data = buffer[0..@intCast(length)] };
    var item: T = undefined;
    const info = @typeInfo(T).@"struct";
    inline for (info.field_names, info.field_types) |name, Field| @field(item, name) = decoder.value(Field);
    return item;
}

fn rowBytesMax(comptime T: type) ?usize {
    var bytes: usize = 2;
    for (@typeInfo(T).@"struct".field_types) |Field| bytes += row.sizeMax(Field) orelse return null;
    return bytes;
}

fn fieldNames(comptime T: type) []const [:0]const u8 {
    return @typeInfo(T).@"struct".field_names;
}

fn primaryKey(comptime T: type, key: anytype) []const u8 {
    if (key.len != T.table.key)
        @compileError(std.fmt.comptimePrint("table {s} has {d} key columns, not {d}", .{ T.table.name, T.table.key, key.len }));
    return columns(T, fieldNames(T)[0..T.table.key], key);
}

/// A tuple of values as columns of T: the first of `names`, each coerced to its column's type.
fn columns(comptime T: type, comptime names: anytype, values: anytype) []const u8 {
    if (values.len > names.len)
        @compileError(std.fmt.comptimePrint("{d} values for {d} columns of {s}", .{ values.len, names.len, T.table.name }));
    comptime var field_types: [values.len]type = undefined;
    inline for (&field_types, 0..) |*Field, index| Field.* = @FieldType(T, names[index]);
    const fixed = field_types;
    var typed: @Tuple(&fixed) = undefined;
    inline for (0..values.len) |index| typed[index] = values[index];
    return row.Encoder.tuple(typed);
}

/// The declared indexes of a table; none when it declares none.
pub fn indexesOf(comptime T: type) if (@hasField(@TypeOf(T.table), "indexes")) @TypeOf(T.table.indexes) else @TypeOf(.{}) {
    return if (@hasField(@TypeOf(T.table), "indexes")) T.table.indexes else .{};
}

/// Whether a table asks for every version of its rows to be kept.
pub fn hasHistory(comptime T: type) bool {
    return @hasField(@TypeOf(T.table), "history") and T.table.history;
}

fn indexColumns(comptime T: type, comptime name: []const u8) []const []const u8 {
    comptime {
        for (indexesOf(T)) |index| {
            if (!std.mem.eql(u8, index.name, name)) continue;
            var names: []const []const u8 = &.{};
            for (index.columns) |column| names = names ++ [_][]const u8{column};
            return names;
        }
        @compileError("table " ++ T.table.name ++ " has no index " ++ name);
    }
}
