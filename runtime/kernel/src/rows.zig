//! Rows of the batch over rows of the base: what get, put, delete and the cursors work on.

const layer = @import("layer.zig");
const lookup = @import("lookup.zig");
const memory = @import("memory.zig");
const record = @import("record.zig");
const schema = @import("schema.zig");
const state = @import("state.zig");
const tree = @import("tree.zig");

const Record = record.Record;
const Overlay = tree.Tree(tree.Message);

/// The row with this key as the batch left it, or 0; `state.under` is then the row of the base with it.
pub fn find(key: []const u8) u32 {
    const latest = state.found;
    if (latest != 0 and record.equal(record.of(latest).key(), key)) return latest;
    var item = tree.find(state.now.overlay, key);
    if (item == 0) {
        const hash = lookup.hashOf(key);
        item = layer.find(key, hash);
        if (item == 0) item = lookup.find(key, hash);
    }
    state.under = if (item == 0) 0 else record.of(item).under();
    state.found = if (item == 0 or record.of(item).gone()) 0 else item;
    return state.found;
}

/// Write a record of the arena.
fn write(address: u32) void {
    const item = record.of(address);
    item.next = state.now.writes;
    state.found = 0;
    _ = Overlay.insert(&state.now.overlay, address);
    state.now.writes = address;
}

fn standOver(item: *Record) void {
    if (state.under == 0) return;
    item.flags |= record.over;
    item.link = state.under;
}

pub const Put = enum { inserted, replaced, refused };

/// Insert or replace a row that lies in the arena behind a record header, of which nothing is set yet.
pub fn put(table: *const schema.Table, given: u32, length: u32) Put {
    var data = memory.bytesAt(given + record.header, length);
    if (schema.parse(table.columns, data, false) == null) return .refused;
    // The key goes right behind the row, so the allocation is made anew and usually stays where it is.
    const room = schema.keySize(table.columns, null, table.key);
    state.arena.trim(given, 0);
    const address = state.arena.alloc(record.header + length + room);
    if (address != given) {
        const copy = memory.bytesAt(address + record.header, length);
        memory.move(@intFromPtr(copy.ptr), @intFromPtr(data.ptr), length);
        data = copy;
        schema.locate(table.columns.len, data);
    }
    const key = schema.encodeKey(table.number, table.columns, null, table.key, data.ptr + length) orelse return .refused;
    const item = record.of(address);
    item.* = .{ .key_len = @intCast(key.length), .flags = 0, .row_len = length, .link = 0 };
    state.arena.trim(address, item.size());
    const old = find(item.key());
    standOver(item);
    const old_length: u32 = if (old == 0) 0 else record.of(old).row_len;
    const rows = state.now.rows + @intFromBool(old == 0);
    const bytes = state.now.row_bytes + length - old_length;
    if (rows > schema.limits.rows_max or bytes > schema.limits.row_bytes_total_max) return .refused;
    if (table.indexes.len > 0 and !index(table, address, old)) return .refused;
    write(address);
    state.found = address;
    state.now.rows = rows;
    state.now.row_bytes = bytes;
    return if (old == 0) .inserted else .replaced;
}

/// Remove a row; whether there was one.
pub fn delete(table: *const schema.Table, key: []const u8) bool {
    const old = find(key);
    if (old == 0) return false;
    const grave = entry(key, record.tombstone, 0);
    standOver(record.of(grave));
    if (table.indexes.len > 0) _ = index(table, 0, old);
    state.now.rows -= 1;
    state.now.row_bytes -= record.of(old).row_len;
    write(grave);
    return true;
}

fn entry(key: []const u8, flags: u16, link: u32) u32 {
    const address = state.arena.alloc(@intCast(record.header + key.len));
    const item = record.of(address);
    item.* = .{ .key_len = @intCast(key.len), .flags = flags, .row_len = 0, .link = link };
    memory.copy(memory.bytesAt(address + record.header, @intCast(key.len)).ptr, key);
    return address;
}

/// Move the index entries of a row from its old form to its new one (0 for none); false when a key is too long.
fn index(table: *const schema.Table, new: u32, old: u32) bool {
    if (new != 0) { // all may be refused, so before anything changes
        for (table.indexes) |*item| if (indexEntry(table, item, new) == 0) return false;
    }
    for (table.indexes) |*item| {
        const before = if (old == 0) 0 else indexEntry(table, item, old);
        const after = if (new == 0) 0 else indexEntry(table, item, new);
        if (before != 0 and after != 0 and record.equal(record.of(before).key(), record.of(after).key())) continue;
        if (before != 0) {
            record.of(before).flags |= record.tombstone;
            write(before);
        }
        if (after != 0) write(after);
    }
    return true;
}

/// The entry of a row in an index, made in the arena; 0 when its key is too long.
fn indexEntry(table: *const schema.Table, item: *const schema.Index, address: u32) u32 {
    const row = record.of(address);
    schema.locate(table.columns.len, row.row());
    const count: u32 = @intCast(item.columns.len);
    const primary = row.key()[2..];
    const room = schema.keySize(item.columns, item.positions, count);
    const made = state.arena.alloc(record.header + room + @as(u32, @intCast(primary.len)));
    const out = memory.bytesAt(made + record.header, room);
    const key = schema.encodeKey(item.number, item.columns, item.positions, count, out.ptr) orelse return 0;
    const flags = if (key.has_null) record.has_null else 0;
    record.of(made).* = .{ .key_len = @intCast(key.length + primary.len), .flags = flags, .row_len = 0, .link = key.length };
    memory.copy(out.ptr + key.length, primary);
    state.arena.trim(made, record.of(made).size());
    return made;
}

/// The row that an index entry stands for.
pub fn rowOf(table: *const schema.Table, address: u32) u32 {
    const item = record.of(address);
    const primary = item.key()[item.link..];
    const copy = state.arena.alloc(@intCast(2 + primary.len));
    const key = memory.bytesAt(copy, @intCast(2 + primary.len));
    key[0] = @truncate(table.number >> 8);
    key[1] = @truncate(table.number);
    memory.copy(key.ptr + 2, primary);
    const found = find(key);
    state.arena.trim(copy, 0);
    return found;
}

/// The first record at or (`strict`) beyond a key, or 0.
pub fn seek(start: []const u8, start_strict: bool) u32 {
    var key = start;
    var strict = start_strict;
    while (true) {
        var found = tree.seek(state.now.overlay, key, strict);
        found = nearer(found, tree.seek(layer.root, key, strict), -1);
        found = nearer(found, tree.seek(state.base_root, key, strict), -1);
        if (found == 0 or !record.of(found).gone()) return found;
        key = record.of(found).key();
        strict = true;
    }
}

/// The last record before a key, or 0.
pub fn seekBefore(start: []const u8) u32 {
    var key = start;
    while (true) {
        var found = tree.seekBefore(state.now.overlay, key);
        found = nearer(found, tree.seekBefore(layer.root, key), 1);
        found = nearer(found, tree.seekBefore(state.base_root, key), 1);
        if (found == 0 or !record.of(found).gone()) return found;
        key = record.of(found).key();
    }
}

/// Which of two records comes first (`sign` -1) or last (1); the upper one where both have one key.
inline fn nearer(upper: u32, lower: u32, comptime sign: i32) u32 {
    if (upper == 0) return lower;
    if (lower == 0) return upper;
    return if (record.compare(record.of(lower).key(), record.of(upper).key()) == sign) lower else upper;
}

/// Number of a unique index in which two rows share a value that this message wrote, or 0.
pub fn collision() u32 {
    var found: u32 = 0;
    var address = state.now.writes;
    while (address != 0) : (address = record.of(address).next) {
        const item = record.of(address);
        const number = item.number();
        if (number < schema.tables.len or !isUnique(number)) continue;
        if (item.flags != 0) continue; // an entry that was removed, or one with a NULL
        if (shared(item)) found = number; // the writes come latest first; the earliest is the one to name
    }
    return found;
}

fn isUnique(number: u32) bool {
    return indexOf(number).index.unique;
}

pub const Found = struct { table: *const schema.Table, index: *const schema.Index };

/// Table and index by the number that reducers use.
pub fn indexOf(number: u32) Found {
    for (schema.tables) |*table| {
        for (table.indexes) |*item| if (item.number == number) return .{ .table = table, .index = item };
    }
    unreachable;
}

fn shared(item: *const Record) bool {
    const prefix = item.key()[0..item.link];
    const first = seek(prefix, false);
    if (first == 0 or !sharesPrefix(first, prefix)) return false;
    const second = seek(record.of(first).key(), true);
    return second != 0 and sharesPrefix(second, prefix);
}

fn sharesPrefix(address: u32, prefix: []const u8) bool {
    const key = record.of(address).key();
    return key.len >= prefix.len and record.equal(key[0..prefix.len], prefix);
}
