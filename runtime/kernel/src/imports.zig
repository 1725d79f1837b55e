//! What a reducer imports from `scapp_1`. Nothing it passes is trusted. A refused call ends in a trap after its number
//! and arguments were left in `call`: the host repeats it in Python (host.py) to say what was wrong, so each text
//! stands in one place. The order of checks and of spending is the same there.

const std = @import("std");
const failure = @import("failure.zig");
const guest = @import("guest.zig");
const keccak = @import("keccak.zig");
const memory = @import("memory.zig");
const record = @import("record.zig");
const rows = @import("rows.zig");
const schema = @import("schema.zig");
const state = @import("state.zig");
const values = @import("values.zig");

pub const Import = enum(u32) { none, get, put, delete, scan, next, emit, set_outcome, reject, log, keccak256, sha256 };

/// The import that runs, for the host after a trap.
pub const Call = extern struct { import: u32 = 0, fuel: u64 = 0, arguments: [6]u32 = @splat(0) };
pub var call: Call = .{};

const cost: u64 = 500;
const topic_bytes_max = 256;
const cursors_max = 16;

/// Lengths of topic and data; their bytes follow.
pub const Event = extern struct {
    sequence: u64,
    next: u32,
    topic: u32,
    data: u32,

    pub inline fn content(self: *const Event) []const u8 {
        return memory.bytesAt(@as(u32, @intFromPtr(self)) + @sizeOf(Event), self.topic + self.data);
    }
};
/// A log line, or a rejection's `reason` in place of a level; the bytes follow.
pub const Note = extern struct { next: u32, message: u32, kind: u32, length: u32 };
pub const reason: u32 = 4;

fn refuse() noreturn {
    failure.trap(failure.Code.import);
}

inline fn enter(comptime import: Import, arguments: anytype) void {
    call.import = @intFromEnum(import);
    call.fuel = state.fuel;
    inline for (arguments, 0..) |argument, i| call.arguments[i] = argument;
    if (state.phase != state.Phase.reduce) refuse();
    spend(cost);
}

inline fn leave() void {
    call.import = 0;
}

inline fn spend(units: u64) void {
    if (units > state.fuel) failure.trap(failure.Code.fuel);
    state.fuel -= units;
}

inline fn check(condition: bool) void {
    if (!condition) refuse();
}

inline fn span(pointer: u32, length: u32) void {
    check(guest.holds(pointer, length));
}

/// Guest bytes in the arena.
inline fn read(pointer: u32, length: u32) []u8 {
    span(pointer, length);
    spend(length);
    const address = state.arena.alloc(length);
    guest.load(pointer, address, length);
    return memory.bytesAt(address, length);
}

inline fn addressOf(slice: []const u8) u32 {
    return @intFromPtr(slice.ptr);
}

inline fn forget(slice: []const u8) void {
    state.arena.trim(addressOf(slice), 0);
}

fn give(row: *const record.Record, pointer: u32, room: u32) i32 {
    if (row.row_len <= room) {
        spend(row.row_len);
        guest.store(addressOf(row.row()), pointer, row.row_len);
    }
    return @intCast(row.row_len);
}

inline fn tableAt(number: u32) *const schema.Table {
    check(number < schema.tables.len);
    return &schema.tables[number];
}

/// Encoded key of a key tuple of the guest's; it takes the tuple's place in the arena.
inline fn readKey(table: *const schema.Table, pointer: u32, length: u32) []const u8 {
    return encoded(table.number, table.columns[0..table.key], read(pointer, length), false);
}

fn encoded(number: u32, columns: []const schema.Column, tuple: []const u8, prefix: bool) []const u8 {
    const count = schema.parse(columns, tuple, prefix) orelse refuse();
    const size = schema.keySize(columns, null, count);
    const out = memory.bytesAt(state.arena.alloc(size), size);
    const key = schema.encodeKey(number, columns, null, count, out.ptr) orelse refuse();
    return out[0..key.length];
}

// -- rows ------------------------------------------------------------------------------------------------------------

pub export fn abi_get(number: u32, key_ptr: u32, key_len: u32, out_ptr: u32, out_cap: u32) i32 {
    enter(.get, .{ number, key_ptr, key_len, out_ptr, out_cap });
    const table = tableAt(number);
    const mark = state.arena.mark();
    const key = readKey(table, key_ptr, key_len);
    span(out_ptr, out_cap);
    const found = rows.find(key);
    state.arena.reset(mark);
    const length = if (found == 0) -1 else give(record.of(found), out_ptr, out_cap);
    leave();
    return length;
}

pub export fn abi_put(number: u32, row_ptr: u32, row_len: u32) i32 {
    enter(.put, .{ number, row_ptr, row_len });
    const table = tableAt(number);
    span(row_ptr, row_len);
    spend(row_len);
    check(row_len <= schema.row_bytes_max);
    const address = state.arena.alloc(record.header + row_len);
    guest.load(row_ptr, address + record.header, row_len);
    const done = rows.put(table, address, row_len);
    check(done != .refused);
    leave();
    return @intFromBool(done == .replaced);
}

pub export fn abi_delete(number: u32, key_ptr: u32, key_len: u32) i32 {
    enter(.delete, .{ number, key_ptr, key_len });
    const table = tableAt(number);
    const existed = rows.delete(table, readKey(table, key_ptr, key_len));
    leave();
    return @intFromBool(existed);
}

// -- cursors ---------------------------------------------------------------------------------------------------------

const Cursor = struct {
    number: u32,
    backwards: bool,
    low: []const u8, // both with the number in front
    beyond: []const u8,
    last: u32, // the record given last, or 0
};
var cursors: [cursors_max]Cursor = undefined;

pub export fn abi_scan(number: u32, lo_ptr: u32, lo_len: u32, hi_ptr: u32, hi_len: u32, flags: u32) i32 {
    enter(.scan, .{ number, lo_ptr, lo_len, hi_ptr, hi_len, flags });
    check(flags & ~@as(u32, 3) == 0);
    check(number < schema.tables.len + schema.index_count);
    const low = bound(number, lo_ptr, lo_len);
    const high = bound(number, hi_ptr, hi_len);
    const open = @ctz(~state.now.cursors);
    check(open < cursors_max);
    cursors[open] = .{
        .number = number,
        .backwards = flags & 1 != 0,
        .low = low,
        // Without a bound the scan ends where the next number's keys begin.
        .beyond = if (high.len == 2 or flags & 2 != 0) after(high) else high,
        .last = 0,
    };
    state.now.cursors |= @as(u32, 1) << @intCast(open);
    leave();
    return @intCast(open);
}

fn bound(number: u32, pointer: u32, length: u32) []u8 {
    const tuple = read(pointer, length);
    const key: []const u8 = if (length == 0) "" else if (number < schema.tables.len) blk: {
        const table = &schema.tables[number];
        break :blk encoded(number, table.columns[0..table.key], tuple, true);
    } else encoded(number, rows.indexOf(number).index.columns, tuple, true);
    if (key.len > 0) return @constCast(key);
    const out = memory.bytesAt(state.arena.alloc(2), 2);
    out[0] = @truncate(number >> 8);
    out[1] = @truncate(number);
    return out;
}

/// The least key beyond all that start with this one; it begins with a number, so there always is one.
fn after(key: []u8) []const u8 {
    var length = key.len;
    while (key[length - 1] == 0xff) length -= 1;
    key[length - 1] += 1;
    return key[0..length];
}

pub export fn abi_next(number: u32, out_ptr: u32, out_cap: u32) i32 {
    enter(.next, .{ number, out_ptr, out_cap });
    check(number < cursors_max and state.now.cursors >> @intCast(number) & 1 != 0);
    span(out_ptr, out_cap);
    const cursor = &cursors[number];
    const found = peek(cursor);
    if (found == 0) {
        state.now.cursors &= ~(@as(u32, 1) << @intCast(number));
        leave();
        return -1;
    }
    const is_row = cursor.number < schema.tables.len;
    const row = record.of(if (is_row) found else rows.rowOf(rows.indexOf(cursor.number).table, found));
    if (row.row_len <= out_cap) cursor.last = found;
    const length = give(row, out_ptr, out_cap);
    leave();
    return length;
}

fn peek(cursor: *const Cursor) u32 {
    if (cursor.backwards) {
        const found = rows.seekBefore(if (cursor.last == 0) cursor.beyond else record.of(cursor.last).key());
        return if (found != 0 and record.compare(record.of(found).key(), cursor.low) >= 0) found else 0;
    }
    const found = if (cursor.last == 0) rows.seek(cursor.low, false) else rows.seek(record.of(cursor.last).key(), true);
    return if (found != 0 and record.compare(record.of(found).key(), cursor.beyond) < 0) found else 0;
}

// -- everything else -------------------------------------------------------------------------------------------------

pub export fn abi_emit(topic_ptr: u32, topic_len: u32, data_ptr: u32, data_len: u32) void {
    enter(.emit, .{ topic_ptr, topic_len, data_ptr, data_len });
    check(state.now.events < schema.limits.events_per_message_max);
    check(@as(u64, topic_len) + data_len <= schema.limits.event_bytes_max);
    check(topic_len >= 1 and topic_len <= topic_bytes_max);
    span(topic_ptr, topic_len);
    spend(topic_len);
    span(data_ptr, data_len);
    spend(data_len);
    const address = state.arena.alloc(@sizeOf(Event) + topic_len + data_len);
    const topic = address + @sizeOf(Event);
    guest.load(topic_ptr, topic, topic_len);
    check(values.utf8(memory.bytesAt(topic, topic_len), true));
    guest.load(data_ptr, topic + topic_len, data_len);
    memory.at(Event, address).* = .{ .sequence = state.sequence, .next = 0, .topic = topic_len, .data = data_len };
    // An undone event may still be linked behind the last one that counts; nobody follows a link beyond that.
    if (state.now.last_event == 0) state.now.first_event = address else memory.at(Event, state.now.last_event).next = address;
    state.now.last_event = address;
    state.now.events += 1;
    leave();
}

/// In a projection, whose outcome nobody signs.
pub var ignore_outcome = false;

pub export fn abi_set_outcome(pointer: u32, length: u32) void {
    enter(.set_outcome, .{ pointer, length });
    if (ignore_outcome) {
        span(pointer, length);
        return leave();
    }
    check(state.kind != 0);
    check(length == 32 * schema.slots.len);
    const amounts = read(pointer, length);
    for (0..schema.asset_count) |asset| check(sameSum(asset, amounts));
    if (length > 0) state.now.amounts = addressOf(amounts);
    leave();
}

fn sameSum(asset: usize, amounts: []const u8) bool {
    var given: u320 = 0;
    var agreed: u320 = 0;
    for (schema.slots, 0..) |*slot, i| {
        if (slot.asset != asset) continue;
        given += std.mem.readInt(u256, amounts[32 * i ..][0..32], .big);
        agreed += std.mem.readInt(u256, &slot.amount, .big);
    }
    return given == agreed;
}

pub export fn abi_reject(pointer: u32, length: u32) void {
    enter(.reject, .{ pointer, length });
    span(pointer, length);
    const kept = @min(length, schema.limits.log_bytes_max);
    spend(kept);
    if (state.now.rejected == 0) state.now.rejected = note(reason, pointer, kept);
    leave();
}

pub export fn abi_log(level: u32, pointer: u32, length: u32) void {
    enter(.log, .{ level, pointer, length });
    check(level <= 3);
    span(pointer, length);
    const kept = @min(length, schema.limits.log_bytes_max);
    spend(kept);
    if (state.now.logs < schema.limits.logs_per_message_max) {
        _ = note(level, pointer, kept);
        state.now.logs += 1;
    }
    leave();
}

/// Bytes of the guest's that are kept when its message is undone.
fn note(kind: u32, pointer: u32, length: u32) u32 {
    const address = state.notes.alloc(@sizeOf(Note) + length);
    const bytes = address + @sizeOf(Note);
    guest.load(pointer, bytes, length);
    memory.at(Note, address).* = .{ .next = state.last_note, .message = state.message, .kind = kind, .length = length };
    state.last_note = address;
    return address;
}

pub export fn abi_keccak256(pointer: u32, length: u32, out_ptr: u32) void {
    enter(.keccak256, .{ pointer, length, out_ptr });
    const data = read(pointer, length);
    var digest: keccak.Digest = undefined;
    keccak.hash(data, &digest);
    answer(&digest, out_ptr);
    forget(data);
    leave();
}

pub export fn abi_sha256(pointer: u32, length: u32, out_ptr: u32) void {
    enter(.sha256, .{ pointer, length, out_ptr });
    const data = read(pointer, length);
    var digest: [32]u8 = undefined;
    std.crypto.hash.sha2.Sha256.hash(data, &digest, .{});
    answer(&digest, out_ptr);
    forget(data);
    leave();
}

fn answer(digest: *const [32]u8, pointer: u32) void {
    span(pointer, 32);
    spend(32);
    guest.store(@intFromPtr(digest), pointer, 32);
}
