//! Versions of rows: of each key that a message changed, in a table that asks for it, what became of the row. Insert-only
//! and under no root; `changes.zig` hands them over. Versions are gathered when a message is settled, from what it wrote
//! over what was there before, so they do not depend on how messages are cut into batches.

const std = @import("std");
const changes = @import("changes.zig");
const layer = @import("layer.zig");
const lookup = @import("lookup.zig");
const memory = @import("memory.zig");
const record = @import("record.zig");
const schema = @import("schema.zig");
const state = @import("state.zig");
const tree = @import("tree.zig");
const values = @import("values.zig");

/// Whether any table asks; without one nothing here runs.
pub var wanted = false;

/// The versions of one table that were committed since the last take, as tuples one behind the other.
const Versions = struct {
    kinds: []const u8, // key columns, sequence, presence, the other columns
    tuples: changes.Vector = .{},
    count: u32 = 0,
};
var tables: []Versions = &.{}; // by number of the table; `kinds` is empty for those that do not ask

/// A version of the open batch; `row` is the record that the message wrote, `before` what was there, or 0.
const Version = extern struct { sequence: u64, next: u32, row: u32, before: u32 };
var first: u32 = 0;
var last: u32 = 0;

/// After `schema.configure`.
pub fn configure() void {
    const many: [*]Versions = @ptrFromInt(memory.alloc(@max(1, @as(u32, @intCast(schema.tables.len))) * @sizeOf(Versions)));
    tables = many[0..schema.tables.len];
    for (tables, schema.tables) |*versions, *table| {
        versions.* = .{ .kinds = if (table.history) kindsOf(table) else &.{} };
        wanted = wanted or table.history;
    }
}

fn kindsOf(table: *const schema.Table) []const u8 {
    const count: u32 = @intCast(table.columns.len + 2);
    const kinds = memory.bytesAt(memory.alloc(count), count);
    for (table.columns, 0..) |column, i| kinds[if (i < table.key) i else i + 2] = column.kind;
    kinds[table.key] = values.Type.int8;
    kinds[table.key + 1] = values.Type.boolean;
    return kinds;
}

/// A batch is over, or begins.
pub fn forget() void {
    first = 0;
    last = 0;
}

/// The open message is accepted, and not yet part of the batch.
pub fn settle() void {
    if (changes.tracking) tree.walk(state.now.overlay, {}, add);
}

fn add(_: void, address: u32) void {
    const item = record.of(address);
    const number = item.number();
    if (number >= schema.tables.len or !schema.tables[number].history) return;
    const hash = lookup.hashOf(item.key());
    var before = layer.find(item.key(), hash);
    if (before == 0) before = lookup.find(item.key(), hash);
    if (before != 0 and record.of(before).gone()) before = 0;
    if (if (item.gone()) before == 0 else before != 0 and record.equal(record.of(before).row(), item.row())) return;
    const made = state.arena.alloc(@sizeOf(Version));
    memory.at(Version, made).* = .{ .sequence = state.sequence, .next = 0, .row = address, .before = before };
    if (last == 0) first = made else memory.at(Version, last).next = made;
    last = made;
}

/// The versions of the batch are kept until they are taken; before its rows become those of the base.
pub fn commit() void {
    if (!changes.tracking) return;
    var address = first;
    while (address != 0) : (address = memory.at(Version, address).next) keep(memory.at(Version, address));
}

const sequence_field: u32 = 4 + 8;
const presence_field: u32 = 4 + 1;
const null_field: u32 = 4;

fn keep(version: *const Version) void {
    const item = record.of(version.row);
    const table = &schema.tables[item.number()];
    const row = if (item.gone()) record.of(version.before).row() else item.row();
    const key_end = fieldsEnd(row, 2, table.key);
    const others: u32 = @intCast(table.columns.len - table.key);
    const rest: u32 = if (item.gone()) others * null_field else @intCast(row.len - key_end);
    const versions = &tables[table.number];
    const size: u32 = @intCast(key_end + sequence_field + presence_field + rest);
    const out = memory.bytesAt(versions.tuples.add(size), size);
    std.mem.writeInt(u16, out[0..2], @intCast(table.columns.len + 2), .big);
    memory.copy(out.ptr + 2, row[2..key_end]);
    const fields = out[key_end..];
    std.mem.writeInt(u32, fields[0..4], 8, .big);
    std.mem.writeInt(u64, fields[4..12], version.sequence, .big);
    std.mem.writeInt(u32, fields[12..16], 1, .big);
    fields[16] = @intFromBool(!item.gone());
    if (item.gone()) @memset(fields[17..], 0xff) else memory.copy(fields.ptr + 17, row[key_end..]); // length -1 is NULL
    versions.count += 1;
}

fn fieldsEnd(tuple: []const u8, start: usize, count: usize) usize {
    var position = start;
    for (0..count) |_| {
        const length: i32 = @bitCast(values.read(u32, tuple[position..]));
        position += 4 + @as(usize, @intCast(@max(length, 0)));
    }
    return position;
}

/// Hand over every table's versions: number, kinds, and the tuples.
pub fn take(comptime give: fn (u32, []const u8, changes.List) void) void {
    for (tables, 0..) |*versions, number| {
        if (versions.count == 0) continue;
        var list = changes.List.init(versions.count);
        const bytes = versions.tuples.bytes();
        var position: usize = 0;
        while (position < bytes.len) {
            const end = fieldsEnd(bytes, position + 2, versions.kinds.len);
            list.add(bytes[position..end]);
            position = end;
        }
        give(@intCast(number), versions.kinds, list);
    }
}

/// Bytes of the versions kept.
pub fn held() u64 {
    if (!wanted) return 0;
    var sum: u64 = 0;
    for (tables) |*versions| sum += versions.tuples.length;
    return sum;
}

/// What was taken is written.
pub fn taken() void {
    for (tables) |*versions| {
        versions.tuples.clear();
        versions.count = 0;
    }
}
