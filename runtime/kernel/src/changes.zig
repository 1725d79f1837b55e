//! What was committed since the host last took it: per key the row before, and every message and event. It leaves in
//! the form the database takes: one PostgreSQL array for each column, or a COPY BINARY stream.

const std = @import("std");
const batch = @import("batch.zig");
const history = @import("history.zig");
const imports = @import("imports.zig");
const memory = @import("memory.zig");
const output = @import("output.zig");
const record = @import("record.zig");
const schema = @import("schema.zig");
const sort = @import("sort.zig");
const state = @import("state.zig");
const tree = @import("tree.zig");
const values = @import("values.zig");

const Graves = tree.Tree(tree.Heap);
const Type = values.Type;

pub var tracking = false;
/// One note for each key whose row changed: it holds the row before.
var notes: memory.Arena = .{};
var note_list: Vector = .{}; // their addresses
var note_bytes: u64 = 0; // of them
var graves: u32 = 0; // tree of the notes of keys that have no row now
var messages: Rows = .{ .kinds = &.{ Type.int8, Type.int8, Type.int2, Type.int2, Type.numeric, Type.int8, Type.bytea } };
var events: Rows = .{ .kinds = &.{ Type.int8, Type.int4, Type.text, Type.bytea } };

/// Bytes on the heap that grow.
pub const Vector = struct {
    address: u32 = 0,
    length: u32 = 0,
    capacity: u32 = 0,

    /// Where the next `size` bytes go.
    pub inline fn add(self: *Vector, size: u32) u32 {
        if (self.length + size > self.capacity) self.grow(size);
        self.length += size;
        return self.address + self.length - size;
    }

    noinline fn grow(self: *Vector, size: u32) void {
        const capacity = @max(1024, 2 * self.capacity, self.length + size);
        const address = memory.alloc(capacity);
        memory.move(address, self.address, self.length);
        self.release();
        self.address = address;
        self.capacity = capacity;
    }

    fn release(self: *Vector) void {
        if (self.capacity > 0) memory.free(self.address, self.capacity);
        self.capacity = 0;
    }

    /// Empty it; what a large batch took is given back.
    pub fn clear(self: *Vector) void {
        if (self.capacity > kept_max) self.release();
        self.length = 0;
    }

    const kept_max = 1 << 16;

    pub fn bytes(self: *const Vector) []const u8 {
        return memory.bytesAt(self.address, self.length);
    }

    inline fn field(self: *Vector, comptime T: type, value: T) void {
        const place = memory.bytesAt(self.add(4 + @sizeOf(T)), 4 + @sizeOf(T));
        std.mem.writeInt(u32, place[0..4], @sizeOf(T), .big);
        std.mem.writeInt(T, place[4..][0..@sizeOf(T)], value, .big);
    }

    inline fn fieldOf(self: *Vector, data: []const u8) void {
        const size: u32 = @intCast(data.len);
        const place = memory.bytesAt(self.add(4 + size), 4 + size);
        std.mem.writeInt(u32, place[0..4], size, .big);
        memory.copy(place.ptr + 4, data);
    }
};

/// Rows that are only ever added, column by column.
const Rows = struct {
    kinds: []const u8,
    columns: [7]Vector = @splat(.{}),
    count: u32 = 0,

    fn clear(self: *Rows) void {
        for (&self.columns) |*column| column.clear();
        self.count = 0;
    }
};

/// Slices in the arena of the batch.
pub const List = struct {
    items: u32,
    count: u32 = 0,

    pub fn init(capacity: u32) List {
        return .{ .items = state.arena.alloc(capacity * @sizeOf([]const u8)) };
    }
    pub fn add(self: *List, data: []const u8) void {
        memory.at([]const u8, self.items + self.count * @sizeOf([]const u8)).* = data;
        self.count += 1;
    }
    fn slice(self: *const List) []const []const u8 {
        if (self.count == 0) return &.{}; // an empty arena has no address
        const many: [*]const []const u8 = @ptrFromInt(self.items);
        return many[0..self.count];
    }
};

// -- while batches are committed -------------------------------------------------------------------------------------

/// The messages and events of the batch.
pub fn commit(turn: u64, with_messages: bool) void {
    if (!tracking) return;
    if (with_messages) addMessages(turn);
    var address = state.now.first_event;
    var last_sequence: u64 = 0;
    var number: u32 = 0;
    while (address != 0) {
        const event = memory.at(imports.Event, address);
        number = if (event.sequence == last_sequence and address != state.now.first_event) number + 1 else 0;
        last_sequence = event.sequence;
        addEvent(event, number);
        if (address == state.now.last_event) break;
        address = event.next;
    }
}

fn addMessages(turn: u64) void {
    var sequence = batch.Input.first_sequence;
    for (0..batch.Input.count) |i| {
        const index: u32 = @intCast(i);
        if (batch.Input.status(index).* != batch.Status.accepted) continue;
        addMessage(sequence, turn, batch.Input.entry(index));
        sequence += 1;
    }
}

fn addMessage(sequence: u64, turn: u64, entry: []const u8) void {
    var counter: [18]u8 = undefined;
    const counter_length = values.writeNumeric(values.read(u64, entry[2..]), &counter);
    const columns = &messages.columns;
    columns[0].field(u64, sequence);
    columns[1].field(u64, turn);
    columns[2].field(u16, entry[0]);
    columns[3].field(u16, entry[1]);
    columns[4].fieldOf(counter[0..counter_length]);
    columns[5].field(u64, values.read(u64, entry[10..]));
    columns[6].fieldOf(entry[18..]);
    messages.count += 1;
}

fn addEvent(event: *const imports.Event, number: u32) void {
    const columns = &events.columns;
    columns[0].field(u64, event.sequence);
    columns[1].field(u32, number);
    columns[2].fieldOf(event.content()[0..event.topic]);
    columns[3].fieldOf(event.content()[event.topic..]);
    events.count += 1;
}

/// A row of the base is about to change or go: remember what it was, unless that is known.
pub fn before(key: []const u8, row: *record.Record) void {
    if (!tracking or row.next != 0) return;
    row.next = make(key, row.row(), 0);
    record.of(row.next).next = @intFromPtr(row);
}

/// A row of the base went; `noted` is its note.
pub fn gone(noted: u32) void {
    if (!tracking) return;
    record.of(noted).next = 0;
    _ = Graves.insert(&graves, noted);
}

/// A row took the place of another one's record; `noted` is its note.
pub fn moved(noted: u32, row: *record.Record) void {
    row.next = noted;
    if (tracking) record.of(noted).next = @intFromPtr(row);
}

/// A row came where none was.
pub fn came(row: *record.Record) void {
    if (!tracking) return;
    const known = if (graves == 0) 0 else Graves.remove(&graves, row.key());
    moved(if (known == 0) make(row.key(), "", record.absent) else known, row);
}

fn make(key: []const u8, row: []const u8, flags: u16) u32 {
    const address = notes.alloc(@intCast(record.header + row.len + key.len));
    record.fill(address, key, row, flags, 0);
    note_bytes += record.header + row.len + key.len;
    memory.at(u32, note_list.add(4)).* = address;
    return address;
}

/// How much is kept for the next take, roughly: rows as they were, in bytes.
pub fn held() u64 {
    var sum = note_bytes + history.held();
    for (&events.columns) |*column| sum += column.length;
    return sum;
}

/// The reserved entries as rows of messages from a sequence on, to the output: COPY tuples. Before they are run.
pub fn writeMessages(first_sequence: u64, turn: u64) void {
    const count = batch.Input.count;
    var size: u32 = 0;
    for (0..count) |i| size += message_size_max + @as(u32, @intCast(batch.Input.entry(@intCast(i)).len));
    var out = output.make(size);
    for (0..count) |i| {
        const entry = batch.Input.entry(@intCast(i));
        if (entry.len < batch.entry_header) continue; // malformed: its batch will not be committed
        var counter: [18]u8 = undefined;
        const counter_length = values.writeNumeric(values.read(u64, entry[2..]), &counter);
        startCopy(&out, messages.kinds.len);
        out.field(u64, first_sequence + i);
        out.field(u64, turn);
        out.field(u16, entry[0]);
        out.field(u16, entry[1]);
        out.int(u32, counter_length);
        out.bytes(counter[0..counter_length]);
        out.field(u64, values.read(u64, entry[10..]));
        out.int(u32, @intCast(entry.len - batch.entry_header));
        out.bytes(entry[batch.entry_header..]);
    }
    output.length = out.at - output.address;
}

/// Without the entry itself.
const message_size_max = copy_head + 4 * (4 + 8) + 2 * (4 + 2) + 4 + 18;

// -- when the host takes them ----------------------------------------------------------------------------------------

/// The changes of a table: `upserts` and `deletes`, or rows of `added`.
const Block = struct {
    number: u32 = 0,
    kinds: []const u8 = &.{}, // of the columns
    key: u32 = 0,
    fresh: bool = true, // no key existed before
    came: u32 = 0, // of those that are upserted so many did not
    upserts: List = undefined,
    deletes: List = undefined,
    added: ?*const Rows = null,
    copy: bool = false,

    fn count(self: *const Block) u32 {
        return if (self.added) |rows| rows.count else self.upserts.count;
    }
};

const messages_number: u32 = 0xfffe;
const events_number: u32 = 0xffff;
const history_number: u32 = 0x8000; // and the table's
var blocks: [2 * 64 + 2]Block = undefined; // each table and its history, messages, events
var block_count: u32 = 0;

/// Write all changes to the output and forget them. Layout: native/layout.py.
pub fn take(copy_rows_min: u32) void {
    block_count = 0;
    const list = sorted();
    for (list) |item| collect(record.of(item.value), @intCast(list.len));
    if (messages.count > 0) appendOnly(messages_number, &messages);
    if (events.count > 0) appendOnly(events_number, &events);
    if (history.wanted) history.take(appendVersions);
    write(copy_rows_min);
    Graves.discard(&graves);
    note_list.clear();
    notes.clear(16);
    note_bytes = 0;
    messages.clear();
    events.clear();
    if (history.wanted) history.taken();
    state.open();
}

/// The notes in order of their keys, which begin with the number of the table.
fn sorted() []sort.Item {
    const list = sort.items(note_list.length / 4);
    for (list, 0..) |*item, i| {
        const note = memory.at(u32, note_list.address + 4 * @as(u32, @intCast(i))).*;
        const key = record.of(note).key();
        item.* = .{ .start = sort.startOf(key[2..]), .value = note, .group = key[1] }; // there are 64 tables at most
    }
    sort.sort(list, before_key);
    return list;
}

fn before_key(a: u32, b: u32) bool {
    return record.compare(record.of(a).key(), record.of(b).key()) < 0;
}

fn collect(note: *record.Record, total: u32) void {
    const current = note.next;
    const existed = note.flags & record.absent == 0;
    if (current != 0) record.of(current).next = 0;
    if (current == 0 and !existed) return;
    if (current != 0 and existed and record.equal(record.of(current).row(), note.row())) return;
    const number = note.number();
    if (block_count == 0 or blocks[block_count - 1].number != number) start(&schema.tables[number], total);
    const block = &blocks[block_count - 1];
    if (existed) block.fresh = false;
    if (current != 0 and !existed) block.came += 1;
    if (current != 0) block.upserts.add(record.of(current).row()) else block.deletes.add(note.row());
}

fn start(table: *const schema.Table, total: u32) void {
    const kinds = memory.bytesAt(state.arena.alloc(@intCast(table.columns.len)), @intCast(table.columns.len));
    for (table.columns, kinds) |column, *kind| kind.* = column.kind;
    blocks[block_count] = .{
        .number = table.number,
        .kinds = kinds,
        .key = table.key,
        .upserts = List.init(total),
        .deletes = List.init(total),
    };
    block_count += 1;
}

fn appendOnly(number: u32, rows: *const Rows) void {
    blocks[block_count] = .{ .number = number, .kinds = rows.kinds, .added = rows, .deletes = List.init(0) };
    block_count += 1;
}

fn appendVersions(number: u32, kinds: []const u8, tuples: List) void {
    blocks[block_count] = .{ .number = history_number | number, .kinds = kinds, .upserts = tuples, .deletes = List.init(0) };
    block_count += 1;
}

const array_header: u32 = 20;

fn write(copy_rows_min: u32) void {
    var size: u32 = 4;
    for (blocks[0..block_count]) |*block| {
        block.copy = block.fresh and block.deletes.count == 0 and block.count() >= copy_rows_min;
        size += 5 * 4;
        size += if (block.copy) 4 + copySize(block) else upsertsSize(block);
        size += arraysSize(block.key, block.deletes.slice());
    }
    var out = output.make(size);
    out.word(block_count);
    for (blocks[0..block_count]) |*block| {
        out.word(block.number);
        out.word(block.count());
        out.word(block.deletes.count);
        out.word(@intFromBool(block.copy));
        if (block.copy) writeCopy(block, &out) else writeUpserts(block, &out);
        writeArrays(block.kinds[0..block.key], block.deletes.slice(), &out);
        out.word(replacedAmong(block));
    }
}

/// Rows of a table in which at least half of the upserted keys had a row before, else 0.
fn replacedAmong(block: *const Block) u32 {
    if (block.added != null or block.number >= history_number or block.upserts.count == 0) return 0;
    return if (2 * block.came <= block.upserts.count) state.table_rows[block.number] else 0;
}

fn upsertsSize(block: *const Block) u32 {
    const rows = block.added orelse return arraysSize(block.kinds.len, block.upserts.slice());
    var size: u32 = 0;
    for (rows.columns[0..rows.kinds.len]) |*column| size += 4 + array_header + column.length;
    return size;
}

fn writeUpserts(block: *const Block, out: *output.Writer) void {
    const rows = block.added orelse return writeArrays(block.kinds, block.upserts.slice(), out);
    for (rows.columns[0..rows.kinds.len], rows.kinds) |*column, kind| {
        writeHeader(kind, column.length, rows.count, out);
        out.bytes(column.bytes());
    }
}

const copy_head: u32 = 2 + 4 + 32; // column count, and the channel id as the first field

fn copySize(block: *const Block) u32 {
    var size: u32 = 0;
    if (block.added) |rows| {
        size = rows.count * copy_head;
        for (rows.columns[0..rows.kinds.len]) |*column| size += column.length;
    } else for (block.upserts.slice()) |row| size += @as(u32, @intCast(row.len)) - 2 + copy_head;
    return size;
}

fn startCopy(out: *output.Writer, columns: usize) void {
    out.int(u16, @intCast(columns + 1));
    out.int(u32, 32);
    out.bytes(&schema.channel);
}

fn writeCopy(block: *const Block, out: *output.Writer) void {
    out.word(copySize(block));
    var positions: [7]u32 = @splat(0);
    for (0..block.count()) |i| {
        startCopy(out, block.kinds.len);
        const rows = block.added orelse {
            out.bytes(block.upserts.slice()[i][2..]);
            continue;
        };
        for (rows.columns[0..rows.kinds.len], positions[0..rows.kinds.len]) |*column, *position| {
            const length = fieldLength(column.bytes(), position.*);
            out.bytes(column.bytes()[position.*..][0..length]);
            position.* += length;
        }
    }
}

var sizes: [252]u32 = undefined; // a version has two columns more than a row

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

/// Length and header of an array whose fields take `bytes`.
fn writeHeader(kind: u8, bytes: u32, count: u32, out: *output.Writer) void {
    out.word(array_header + bytes);
    out.int(u32, 1); // dimensions
    out.int(u32, 1); // there may be NULLs
    out.int(u32, values.oids[kind]);
    out.int(u32, count);
    out.int(u32, 1); // lower bound
}

/// For each column a length and an array.
fn writeArrays(kinds: []const u8, rows: []const []const u8, out: *output.Writer) void {
    if (rows.len == 0) return;
    measure(kinds.len, rows);
    for (kinds, sizes[0..kinds.len]) |kind, *size| {
        const bytes = size.*;
        writeHeader(kind, bytes, @intCast(rows.len), out);
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
