//! What was committed since the host last took it: per key the row before, and every message and event. It leaves in
//! the form the database takes: one PostgreSQL array for each column, or a COPY BINARY stream.

const std = @import("std");
const batch = @import("batch.zig");
const imports = @import("imports.zig");
const lookup = @import("lookup.zig");
const memory = @import("memory.zig");
const output = @import("output.zig");
const record = @import("record.zig");
const schema = @import("schema.zig");
const state = @import("state.zig");
const tree = @import("tree.zig");
const values = @import("values.zig");

const Notes = tree.Tree(tree.Heap);
const Type = values.Type;

pub var tracking = false;
var notes: u32 = 0; // tree of keys whose row changed; a note holds the row before
var messages: Rows = .{ .kinds = &.{ Type.int8, Type.int8, Type.int2, Type.int2, Type.numeric, Type.int8, Type.bytea } };
var events: Rows = .{ .kinds = &.{ Type.int8, Type.int4, Type.text, Type.bytea } };

/// Rows that are only ever added, as tuples in an arena.
const Rows = struct {
    kinds: []const u8,
    arena: memory.Arena = .{},
    count: u32 = 0,
    first: u32 = 0,
    last: u32 = 0,

    const Item = extern struct { next: u32, length: u32 }; // the tuple follows

    /// Room for one more tuple.
    fn add(self: *Rows, length: u32) output.Writer {
        const address = self.arena.alloc(@sizeOf(Item) + length);
        memory.at(Item, address).* = .{ .next = 0, .length = length };
        if (self.last == 0) self.first = address else memory.at(Item, self.last).next = address;
        self.last = address;
        self.count += 1;
        return .{ .at = address + @sizeOf(Item) };
    }

    fn list(self: *const Rows) List {
        var found = List.init(self.count);
        var address = self.first;
        while (address != 0) : (address = memory.at(Item, address).next) {
            found.add(memory.bytesAt(address + @sizeOf(Item), memory.at(Item, address).length));
        }
        return found;
    }

    fn clear(self: *Rows) void {
        self.arena.clear(4);
        self.count = 0;
        self.first = 0;
        self.last = 0;
    }
};

/// Slices in the arena of the batch.
const List = struct {
    items: u32,
    count: u32 = 0,

    fn init(capacity: u32) List {
        return .{ .items = state.arena.alloc(capacity * @sizeOf([]const u8)) };
    }
    fn add(self: *List, data: []const u8) void {
        memory.at([]const u8, self.items + self.count * @sizeOf([]const u8)).* = data;
        self.count += 1;
    }
    fn slice(self: *const List) []const []const u8 {
        const many: [*]const []const u8 = @ptrFromInt(self.items);
        return many[0..self.count];
    }
};

// -- while batches are committed -------------------------------------------------------------------------------------

/// The messages and events of the batch.
pub fn commit(turn: u64) void {
    if (!tracking) return;
    var sequence = batch.Input.first_sequence;
    for (0..batch.Input.count) |i| {
        const index: u32 = @intCast(i);
        if (batch.Input.status(index).* != batch.Status.accepted) continue;
        addMessage(sequence, turn, batch.Input.entry(index));
        sequence += 1;
    }
    var address = state.now.first_event;
    var last_sequence: u64 = 0;
    var number: u32 = 0;
    while (address != 0) {
        const event = memory.at(imports.Event, address);
        number = if (event.sequence == last_sequence and address != state.now.first_event) number + 1 else 0;
        last_sequence = event.sequence;
        addEvent(event, number, address + @sizeOf(imports.Event));
        if (address == state.now.last_event) break;
        address = event.next;
    }
}

fn addMessage(sequence: u64, turn: u64, entry: []const u8) void {
    var counter: [18]u8 = undefined;
    const counter_length = values.writeNumeric(values.read(u64, entry[2..]), &counter);
    const payload = entry[18..];
    var out = messages.add(@intCast(2 + 7 * 4 + 8 + 8 + 2 + 2 + counter_length + 8 + payload.len));
    out.int(u16, 7);
    field(&out, u64, sequence);
    field(&out, u64, turn);
    field(&out, u16, entry[0]);
    field(&out, u16, entry[1]);
    out.int(u32, counter_length);
    out.bytes(counter[0..counter_length]);
    field(&out, u64, values.read(u64, entry[10..]));
    out.int(u32, @intCast(payload.len));
    out.bytes(payload);
}

fn addEvent(event: *const imports.Event, number: u32, content: u32) void {
    var out = events.add(2 + 4 * 4 + 8 + 4 + event.topic + event.data);
    out.int(u16, 4);
    field(&out, u64, event.sequence);
    field(&out, u32, number);
    out.int(u32, event.topic);
    out.bytes(memory.bytesAt(content, event.topic));
    out.int(u32, event.data);
    out.bytes(memory.bytesAt(content + event.topic, event.data));
}

fn field(out: *output.Writer, comptime T: type, value: T) void {
    out.int(u32, @sizeOf(T));
    out.int(T, value);
}

/// The row of this key changes: remember what it was, null for none, unless that is known already. Whether there is a
/// note of it now.
pub fn note(key: []const u8, old: ?*record.Record) bool {
    if (!tracking) return false;
    if (old) |row| {
        if (row.flags & record.noted == 0) {
            _ = Notes.insert(&notes, record.make(key, row.row(), 0, 0));
            row.flags |= record.noted;
        }
    } else if (tree.find(notes, key) == 0) {
        _ = Notes.insert(&notes, record.make(key, "", record.absent, 0));
    }
    return true;
}

// -- when the host takes them ----------------------------------------------------------------------------------------

const Block = struct {
    number: u32 = 0,
    columns: []const u8 = &.{}, // kinds
    key: u32 = 0,
    fresh: bool = true, // no key existed before
    upserts: List = undefined,
    deletes: List = undefined,
    copy: bool = false,
};

const messages_number: u32 = 0xfffe;
const events_number: u32 = 0xffff;
var blocks: [66]Block = undefined;
var block_count: u32 = 0;

/// Write all changes to the output and forget them. Layout: native/layout.py.
pub fn take(copy_rows_min: u32) void {
    block_count = 0;
    var total: u32 = 0;
    tree.walk(notes, &total, countNote);
    tree.walk(notes, total, collect);
    if (messages.count > 0) appendOnly(messages_number, &messages);
    if (events.count > 0) appendOnly(events_number, &events);
    write(copy_rows_min);
    tree.walk(notes, {}, dropNote);
    Notes.discard(&notes);
    messages.clear();
    events.clear();
    state.open();
}

fn countNote(total: *u32, _: u32) void {
    total.* += 1;
}

fn dropNote(_: void, address: u32) void {
    record.drop(address);
}

fn collect(total: u32, address: u32) void {
    const before = record.of(address);
    const current = lookup.find(before.key());
    const existed = before.flags & record.absent == 0;
    if (current != 0) record.of(current).flags &= ~record.noted;
    if (current == 0 and !existed) return;
    if (current != 0 and existed and record.equal(record.of(current).row(), before.row())) return;
    const number = before.number();
    if (block_count == 0 or blocks[block_count - 1].number != number) start(&schema.tables[number], total);
    const block = &blocks[block_count - 1];
    if (existed) block.fresh = false;
    if (current != 0) block.upserts.add(record.of(current).row()) else block.deletes.add(before.row());
}

fn start(table: *const schema.Table, total: u32) void {
    const kinds = memory.bytesAt(state.arena.alloc(@intCast(table.columns.len)), @intCast(table.columns.len));
    for (table.columns, kinds) |column, *kind| kind.* = column.kind;
    blocks[block_count] = .{
        .number = table.number,
        .columns = kinds,
        .key = table.key,
        .upserts = List.init(total),
        .deletes = List.init(total),
    };
    block_count += 1;
}

fn appendOnly(number: u32, rows: *const Rows) void {
    blocks[block_count] = .{ .number = number, .columns = rows.kinds, .upserts = rows.list(), .deletes = List.init(0) };
    block_count += 1;
}

const array_header: u32 = 20;

fn write(copy_rows_min: u32) void {
    var size: u32 = 4;
    for (blocks[0..block_count]) |*block| {
        block.copy = block.fresh and block.deletes.count == 0 and block.upserts.count >= copy_rows_min;
        size += 5 * 4;
        size += if (block.copy) copySize(block) else arraysSize(block.columns.len, block.upserts.slice());
        size += arraysSize(block.key, block.deletes.slice());
    }
    var out = output.make(size);
    out.word(block_count);
    for (blocks[0..block_count]) |*block| {
        out.word(block.number);
        out.word(block.upserts.count);
        out.word(block.deletes.count);
        out.word(@intFromBool(block.copy));
        if (block.copy) writeCopy(block, &out) else writeArrays(block.columns, block.upserts.slice(), &out);
        writeArrays(block.columns[0..block.key], block.deletes.slice(), &out);
        out.word(0);
    }
}

fn copySize(block: *const Block) u32 {
    var size: u32 = 4;
    for (block.upserts.slice()) |row| size += @as(u32, @intCast(row.len)) + 36;
    return size;
}

fn writeCopy(block: *const Block, out: *output.Writer) void {
    out.word(copySize(block) - 4);
    for (block.upserts.slice()) |row| {
        out.int(u16, @intCast(block.columns.len + 1));
        out.int(u32, 32);
        out.bytes(&schema.channel);
        out.bytes(row[2..]);
    }
}

var sizes: [250]u32 = undefined;

/// Fill `sizes` with the bytes of each column's fields.
fn measure(count: usize, rows: []const []const u8) void {
    for (sizes[0..count]) |*size| size.* = 0;
    for (rows) |row| {
        var position: usize = 2;
        for (sizes[0..count]) |*size| {
            const length = fieldLength(row, position);
            size.* += length;
            position += length;
        }
    }
}

inline fn fieldLength(row: []const u8, position: usize) u32 {
    const length: i32 = @bitCast(values.read(u32, row[position..]));
    return 4 + @as(u32, @intCast(@max(length, 0)));
}

fn arraysSize(count: usize, rows: []const []const u8) u32 {
    if (rows.len == 0) return 0;
    measure(count, rows);
    var total: u32 = 0;
    for (sizes[0..count]) |size| total += 4 + array_header + size;
    return total;
}

/// For each column a length and an array.
fn writeArrays(kinds: []const u8, rows: []const []const u8, out: *output.Writer) void {
    if (rows.len == 0) return;
    measure(kinds.len, rows);
    for (kinds, sizes[0..kinds.len]) |kind, *size| {
        const bytes = size.*;
        out.word(array_header + bytes);
        out.int(u32, 1); // dimensions
        out.int(u32, 1); // there may be NULLs
        out.int(u32, values.oids[kind]);
        out.int(u32, @intCast(rows.len));
        out.int(u32, 1); // lower bound
        size.* = out.at; // from here on: where the next field goes
        out.at += bytes;
    }
    for (rows) |row| {
        var position: usize = 2;
        for (sizes[0..kinds.len]) |*place| {
            const length = fieldLength(row, position);
            memory.copy(@ptrFromInt(place.*), row[position..][0..length]);
            place.* += length;
            position += length;
        }
    }
}
