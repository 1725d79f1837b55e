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
var slots: u32 = 0; // on the heap; kept from batch to batch
var capacity: u32 = 0;
var allocated: u32 = 0;

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
pub fn find(key: []const u8) u32 {
    if (count == 0) return 0;
    const hash = lookup.hashOf(key);
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
        count += @intFromBool(s.row == 0);
        s.* = .{ .tag = hash.tag, .row = address };
        return;
    }
}

fn grow() void {
    const old_slots = slots;
    const old_capacity = capacity;
    const old_allocated = allocated;
    const larger = @max(capacity_min, 4 * capacity);
    if (larger > allocated) {
        // A trap may strike in the allocation: the size is said only of the table that has it.
        const table = memory.alloc(larger * @sizeOf(Slot));
        memory.wipe(table, larger * @sizeOf(Slot));
        slots = table;
        allocated = larger;
        capacity = larger;
        count = 0;
        for (0..old_capacity) |i| {
            const s = memory.at(Slot, old_slots + @as(u32, @intCast(i)) * @sizeOf(Slot));
            if (s.row != 0) place(s.row);
        }
        if (old_allocated > 0) memory.free(old_slots, old_allocated * @sizeOf(Slot));
        return;
    }
    // The table is there already: what is in its first part moves to where it belongs in the whole.
    const moved = state.arena.alloc(4 * count);
    capacity = larger;
    var kept: u32 = 0;
    for (0..old_capacity) |i| {
        const s = memory.at(Slot, slots + @as(u32, @intCast(i)) * @sizeOf(Slot));
        if (s.row == 0) continue;
        memory.at(u32, moved + 4 * kept).* = s.row;
        kept += 1;
    }
    memory.wipe(slots, capacity * @sizeOf(Slot));
    count = 0;
    for (0..kept) |i| place(memory.at(u32, moved + 4 * @as(u32, @intCast(i))).*);
}

/// Call `visit` with every record, in no order.
pub fn each(context: anytype, comptime visit: fn (@TypeOf(context), u32) void) void {
    for (0..capacity) |i| {
        const row = memory.at(Slot, slots + @as(u32, @intCast(i)) * @sizeOf(Slot)).row;
        if (row != 0) visit(context, row);
    }
}
