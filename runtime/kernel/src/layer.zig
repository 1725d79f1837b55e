//! What the accepted messages of a batch wrote, over the base: the latest record of each key in a hash table, and in a
//! tree as well where somebody looks for order (scans, unique indexes). Written when a message is settled, never while
//! a reducer runs. The open message's own writes are in `state.now.overlay`.

const memory = @import("memory.zig");
const lookup = @import("lookup.zig");
const record = @import("record.zig");
const state = @import("state.zig");
const tree = @import("tree.zig");

const Slot = lookup.Slot;
const Ordered = tree.Tree(tree.Batch);
const capacity_min = 64;

/// Whether order is asked for at all; the host knows.
pub var ordered = true;
/// Root of the tree.
pub var root: u32 = 0;
pub var count: u32 = 0;
/// Capacity and room of a table: slots, and behind them the places of those in use, as the keys came.
var slots: u32 = 0; // on the heap; kept from batch to batch
var order: u32 = 0;
var capacity: u32 = 0;
var allocated: u32 = 0;

inline fn room(entries: u32) u32 {
    return entries * @sizeOf(Slot) + entries / 2 * 4;
}

inline fn placeAt(index: u32) *u32 {
    return memory.at(u32, order + 4 * index);
}

/// Forget everything.
pub fn clear() void {
    root = 0;
    // A table that grew for a large batch is not wiped for each small one after it.
    capacity = @min(allocated, if (count <= capacity_min / 2) capacity_min else capacity);
    count = 0;
    if (capacity > 0) memory.wipe(slots, capacity * @sizeOf(Slot));
}

inline fn slot(index: u32) *Slot {
    return memory.at(Slot, slots + (index & (capacity - 1)) * @sizeOf(Slot));
}

/// The record with this key, or 0.
pub fn find(key: []const u8, hash: lookup.Hash) u32 {
    if (count == 0) return 0;
    var i = hash.place;
    while (true) : (i +%= 1) {
        const s = slot(i);
        if (s.row == 0) return 0;
        if (s.tag == hash.tag and record.equal(record.of(s.row).key(), key)) return s.row;
    }
}

/// A record of a settled message takes the place of the one before.
pub fn put(address: u32) void {
    if (2 * (count + 1) > capacity) grow();
    place(address);
    if (ordered) _ = Ordered.insert(&root, address);
}

fn place(address: u32) void {
    const key = record.of(address).key();
    const hash = lookup.hashOf(key);
    var i = hash.place;
    while (true) : (i +%= 1) {
        const s = slot(i);
        if (s.row != 0 and !(s.tag == hash.tag and record.equal(record.of(s.row).key(), key))) continue;
        if (s.row == 0) {
            placeAt(count).* = i & (capacity - 1);
            count += 1;
        }
        s.* = .{ .tag = hash.tag, .row = address };
        return;
    }
}

fn grow() void {
    // Rows in their order, put aside: the table is made anew, in the same memory when there is room.
    const kept = count;
    const rows = state.arena.alloc(4 * kept);
    for (0..kept) |i| memory.at(u32, rows + 4 * @as(u32, @intCast(i))).* = rowAt(@intCast(i));
    const larger = @max(capacity_min, 4 * capacity);
    if (larger > allocated) {
        // A trap may strike in the allocation: the size is said only of the table that has it.
        const table = memory.alloc(room(larger));
        if (allocated > 0) memory.free(slots, room(allocated));
        slots = table;
        allocated = larger;
        order = slots + allocated * @sizeOf(Slot);
    }
    memory.wipe(slots, larger * @sizeOf(Slot));
    capacity = larger;
    count = 0;
    for (0..kept) |i| place(memory.at(u32, rows + 4 * @as(u32, @intCast(i))).*);
}

inline fn rowAt(index: u32) u32 {
    return slot(placeAt(index).*).row;
}

/// Call `visit` with every record, in the order in which their keys came.
pub fn each(context: anytype, comptime visit: fn (@TypeOf(context), u32) void) void {
    for (0..count) |i| visit(context, rowAt(@intCast(i)));
}
