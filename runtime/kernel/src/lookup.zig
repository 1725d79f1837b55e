//! A hash table over the rows of the base, which finds a row faster than the tree does. It only helps: a key whose
//! places are all taken is left to the tree, so crafted collisions cost no more than a walk down the tree.
//! Changed between messages only; growing is part of a commit.

const memory = @import("memory.zig");
const record = @import("record.zig");
const state = @import("state.zig");
const tree = @import("tree.zig");

pub const Slot = extern struct { tag: u32, row: u32 };
const vacated: u32 = 1; // a row was here: look on
const probes_max = 16;
const rows_min = 64; // below, the tree is as fast

var slots: u32 = 0;
var capacity: u32 = 0;
var used: u32 = 0; // and vacated

inline fn slot(index: u32) *Slot {
    return memory.at(Slot, slots + (index & (capacity - 1)) * @sizeOf(Slot));
}

pub const Hash = struct { place: u32, tag: u32 };

pub inline fn hashOf(key: []const u8) Hash {
    var h: u64 = key.len;
    var i: usize = 0;
    while (i + 8 <= key.len) : (i += 8) h = mix(h ^ memory.load(u64, key.ptr + i));
    if (i < key.len) h = mix(h ^ lastOf(key));
    h = mix(h);
    return .{ .place = @truncate(h), .tag = @truncate(h >> 32) };
}

/// The last eight bytes, or as many as there are, some of them twice.
inline fn lastOf(key: []const u8) u64 {
    if (key.len >= 8) return memory.load(u64, key.ptr + key.len - 8);
    if (key.len >= 4) return @as(u64, memory.load(u32, key.ptr)) << 32 | memory.load(u32, key.ptr + key.len - 4);
    var bytes: u64 = 0;
    for (key) |byte| bytes = bytes << 8 | byte;
    return bytes;
}

/// Every bit comes down to the lower half, and with the next step up to all.
inline fn mix(h: u64) u64 {
    const product = (h ^ (h >> 32)) *% 0x9e37_79b9_7f4a_7c15;
    return product ^ (product >> 32);
}

/// The row of the base with this key, or 0.
pub fn find(key: []const u8, hash: Hash) u32 {
    if (capacity == 0) return tree.find(state.base_root, key);
    var i: u32 = 0;
    while (i < probes_max) : (i += 1) {
        const s = slot(hash.place +% i);
        if (s.row == 0) return 0;
        if (s.tag == hash.tag and s.row != vacated and record.equal(record.of(s.row).key(), key)) return s.row;
    }
    return tree.find(state.base_root, key);
}

/// A row came into the base.
pub fn add(row: u32) void {
    if (capacity == 0) return;
    const hash = hashOf(record.of(row).key());
    var i: u32 = 0;
    while (i < probes_max) : (i += 1) {
        const s = slot(hash.place +% i);
        if (s.row > vacated) continue;
        used += @intFromBool(s.row == 0);
        s.* = .{ .tag = hash.tag, .row = row };
        return;
    }
}

/// A row leaves the base, or another takes its place (0 for none).
pub fn replace(row: u32, by: u32) void {
    if (capacity == 0) return;
    const hash = hashOf(record.of(row).key());
    var i: u32 = 0;
    while (i < probes_max) : (i += 1) {
        const s = slot(hash.place +% i);
        if (s.row == row) {
            s.row = if (by == 0) vacated else by;
            return;
        }
    }
}

/// After a commit: room for as many rows again.
pub fn grow(rows: u32, row_numbers: u32) void {
    if (rows < rows_min or used < capacity / 2) return;
    if (capacity > 0) memory.free(slots, capacity * @sizeOf(Slot));
    capacity = @as(u32, 1) << @intCast(33 - @clz(rows)); // two to four times as many
    slots = memory.alloc(capacity * @sizeOf(Slot));
    memory.wipe(slots, capacity * @sizeOf(Slot));
    used = 0;
    tree.walk(state.base_root, row_numbers, addRow);
}

fn addRow(row_numbers: u32, address: u32) void {
    if (record.of(address).number() < row_numbers) add(address);
}
