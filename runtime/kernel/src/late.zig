//! Rows of the base that changed since the state tree was last made from it: what a root that comes late is made of,
//! over one commit or many. A row's leaf stands for it, because the row may move or go; leaves of new rows are made here,
//! and get their path when the root comes.

const batch = @import("batch.zig");
const changes = @import("changes.zig");
const memory = @import("memory.zig");
const merkle = @import("merkle.zig");
const record = @import("record.zig");
const state = @import("state.zig");

const Leaf = merkle.Leaf;
const fresh: u32 = 1; // the tree does not have it, and its path is not known
const listed: u32 = 2;

var leaves: changes.Vector = .{};

/// The leaf of a row that came.
pub fn came() u32 {
    const leaf = memory.alloc(@sizeOf(Leaf));
    memory.at(Leaf, leaf).state = fresh;
    changed(leaf);
    return leaf;
}

/// The row of this leaf changed; its leaf says where it is now.
pub fn changed(leaf: u32) void {
    if (memory.at(Leaf, leaf).state & listed != 0) return;
    memory.at(Leaf, leaf).state |= listed;
    memory.at(u32, leaves.add(4)).* = leaf;
}

/// The row of this leaf went.
pub fn gone(leaf: u32) void {
    changed(leaf);
    memory.at(Leaf, leaf).row = 0;
}

/// Changes of the tree for all of it, and `more` places behind them; afterwards nothing is due. In the arena.
pub fn take(more: u32) []merkle.Update {
    const count = leaves.length / 4;
    const all: [*]const u32 = @ptrFromInt(if (count == 0) 4 else leaves.address);
    findPaths(all[0..count]);
    const updates: [*]merkle.Update = @ptrFromInt(state.arena.alloc((count + more) * @sizeOf(merkle.Update)));
    var made: u32 = 0;
    for (all[0..count]) |leaf| {
        const at = memory.at(Leaf, leaf);
        if (at.row == 0 and at.state & fresh != 0) {
            memory.free(leaf, @sizeOf(Leaf));
            continue;
        }
        at.state = 0;
        updates[made] = batch.updateOf(leaf, if (at.row == 0) "" else record.of(at.row).row());
        if (at.row == 0) {
            updates[made].gone = 1;
            merkle.dropLeaf(leaf);
        }
        made += 1;
    }
    leaves.clear();
    return updates[0 .. made + more];
}

fn findPaths(all: []const u32) void {
    var waiting: u32 = 0;
    for (all) |leaf| {
        if (memory.at(Leaf, leaf).state & fresh == 0 or memory.at(Leaf, leaf).row == 0) continue;
        if (waiting == 0) {
            waiting = leaf;
            continue;
        }
        const other = memory.at(Leaf, waiting);
        const at = memory.at(Leaf, leaf);
        merkle.pathsOf(record.of(other.row).key(), &other.path, record.of(at.row).key(), &at.path);
        waiting = 0;
    }
    if (waiting != 0) merkle.pathOf(record.of(memory.at(Leaf, waiting).row).key(), &memory.at(Leaf, waiting).path);
}
