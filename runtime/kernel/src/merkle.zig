//! The state tree: a compact sparse Merkle tree over row paths. Nodes never change once made, so a batch makes new ones
//! beside the old and either side can be dropped. A node holds its children's hashes, so that hashing it again after a
//! change reads nothing else. Format: docs/reference/state-root.md.

const keccak = @import("keccak.zig");
const memory = @import("memory.zig");
const record = @import("record.zig");
const state = @import("state.zig");

const Digest = keccak.Digest;
pub const empty: Digest = @splat(0);

/// Place of a row in the tree; shared by all versions of the row.
pub const Leaf = extern struct { path: Digest, row: u32 };

const Node = extern struct { left_hash: Digest, right_hash: Digest, left: u32, right: u32 };

const leaf_tag: u32 = 1; // in the lowest bit of a child: heap addresses are multiples of 16

pub const Root = extern struct { child: u32 = 0, hash: Digest = empty };

/// One changed leaf: `gone`, or with a new hash.
pub const Update = extern struct { path: *const Digest, leaf: u32, gone: u32, hash: Digest };

pub var base: Root = .{};
var made: List = .{};
var superseded: List = .{};

/// Addresses in the arena of the batch.
const List = struct {
    items: u32 = 0,
    count: u32 = 0,
    capacity: u32 = 0,

    fn add(self: *List, address: u32) void {
        if (self.count == self.capacity) {
            const larger = @max(64, 2 * self.capacity);
            const items = state.arena.alloc(4 * larger);
            if (self.count > 0) @memcpy(memory.bytesAt(items, 4 * self.count), memory.bytesAt(self.items, 4 * self.count));
            self.items = items;
            self.capacity = larger;
        }
        memory.at(u32, self.items + 4 * self.count).* = address;
        self.count += 1;
    }

    fn free(self: *List) void {
        for (0..self.count) |i| {
            const child = memory.at(u32, self.items + 4 * @as(u32, @intCast(i))).*;
            memory.free(child & ~leaf_tag, if (child & leaf_tag != 0) @sizeOf(Leaf) else @sizeOf(Node));
        }
        self.* = .{};
    }
};

/// Path of a key with its number in front.
pub fn pathOf(key: []const u8, out: *Digest) void {
    var hasher: keccak.Hasher = .{};
    hasher.update(&.{2});
    hasher.update(key);
    hasher.final(out);
}

pub fn leafHash(path: *const Digest, row: []const u8, out: *Digest) void {
    var row_hash: Digest = undefined;
    keccak.hash(row, &row_hash);
    keccak.hashPair(0, path, &row_hash, out);
}

/// A new leaf; forgotten when the batch is.
pub fn makeLeaf(path: *const Digest) u32 {
    const address = memory.alloc(@sizeOf(Leaf));
    memory.at(Leaf, address).* = .{ .path = path.*, .row = 0 };
    made.add(address | leaf_tag);
    return address;
}

/// A leaf that is no longer in the tree; kept until the batch is committed.
pub fn dropLeaf(address: u32) void {
    superseded.add(address | leaf_tag);
}

/// The new nodes are the tree.
pub fn keep(root: *const Root) void {
    base = root.*;
    superseded.free();
    made = .{};
}

/// The new nodes are gone. The arena's content must still be there.
pub fn forget() void {
    made.free();
    superseded = .{};
}

/// The tree after sorted `updates`, each path once.
pub fn apply(root: *const Root, updates: []Update) Root {
    return change(root.*, updates, 0);
}

/// Sort by path.
pub fn sort(updates: []Update) void {
    if (updates.len < 2) return;
    const scratch = slice(state.arena.alloc(@intCast(updates.len * @sizeOf(Update))), updates.len);
    mergeSort(updates, scratch);
}

fn slice(address: u32, count: usize) []Update {
    const many: [*]Update = @ptrFromInt(address);
    return many[0..count];
}

fn before(a: *const Update, b: *const Update) bool {
    return record.compare(a.path, b.path) < 0;
}

fn mergeSort(items: []Update, scratch: []Update) void {
    if (items.len <= 8) {
        for (1..items.len) |i| {
            const item = items[i];
            var j = i;
            while (j > 0 and before(&item, &items[j - 1])) : (j -= 1) items[j] = items[j - 1];
            items[j] = item;
        }
        return;
    }
    const half = items.len / 2;
    mergeSort(items[0..half], scratch[0..half]);
    mergeSort(items[half..], scratch[half..]);
    @memcpy(scratch[0..half], items[0..half]);
    var left: usize = 0;
    var right = half;
    var out: usize = 0;
    while (left < half) : (out += 1) {
        if (right < items.len and before(&items[right], &scratch[left])) {
            items[out] = items[right];
            right += 1;
        } else {
            items[out] = scratch[left];
            left += 1;
        }
    }
}

inline fn bit(path: *const Digest, depth: u32) u32 {
    return path[depth / 8] >> @intCast(7 - depth % 8) & 1;
}

/// How many of sorted updates go left at this depth; they agree on the bits before.
fn split(updates: []const Update, depth: u32) usize {
    var low: usize = 0;
    var high = updates.len;
    while (low < high) {
        const middle = (low + high) / 2;
        if (bit(updates[middle].path, depth) == 1) high = middle else low = middle + 1;
    }
    return low;
}

fn change(old: Root, updates: []Update, depth: u32) Root {
    if (updates.len == 0) return old;
    if (old.child != 0 and old.child & leaf_tag == 0) {
        const n = memory.at(Node, old.child);
        const at = split(updates, depth);
        const left = change(.{ .child = n.left, .hash = n.left_hash }, updates[0..at], depth + 1);
        const right = change(.{ .child = n.right, .hash = n.right_hash }, updates[at..], depth + 1);
        superseded.add(old.child);
        return join(left, right);
    }
    return build(leaves(old, updates), depth);
}

/// What stays of the updates and of the one leaf that was here, sorted.
fn leaves(old: Root, updates: []Update) []Update {
    const kept = slice(state.arena.alloc(@intCast((updates.len + 1) * @sizeOf(Update))), updates.len + 1);
    var count: usize = 0;
    var waiting = old.child != 0;
    const path = if (waiting) &memory.at(Leaf, old.child & ~leaf_tag).path else undefined;
    for (updates) |*update| {
        if (waiting) {
            const order = record.compare(path, update.path);
            if (order <= 0) waiting = false;
            if (order < 0) {
                kept[count] = .{ .path = path, .leaf = old.child & ~leaf_tag, .gone = 0, .hash = old.hash };
                count += 1;
            }
        }
        if (update.gone == 0) {
            kept[count] = update.*;
            count += 1;
        }
    }
    if (waiting) {
        kept[count] = .{ .path = path, .leaf = old.child & ~leaf_tag, .gone = 0, .hash = old.hash };
        count += 1;
    }
    return kept[0..count];
}

fn build(items: []const Update, depth: u32) Root {
    if (items.len == 0) return .{};
    if (items.len == 1) return .{ .child = items[0].leaf | leaf_tag, .hash = items[0].hash };
    const at = split(items, depth);
    return join(build(items[0..at], depth + 1), build(items[at..], depth + 1));
}

fn join(left: Root, right: Root) Root {
    // A subtree with one leaf is that leaf.
    if (left.child == 0 and (right.child == 0 or right.child & leaf_tag != 0)) return right;
    if (right.child == 0 and left.child & leaf_tag != 0) return left;
    const address = memory.alloc(@sizeOf(Node));
    const n = memory.at(Node, address);
    n.* = .{ .left_hash = left.hash, .right_hash = right.hash, .left = left.child, .right = right.child };
    made.add(address);
    var root: Root = .{ .child = address };
    keccak.hashPair(1, &n.left_hash, &n.right_hash, &root.hash);
    return root;
}

/// The way down to a path: writes siblings to `out` from the root on; returns their number and the leaf at the end, or
/// 0 where there is none.
pub fn walk(path: *const Digest, out: [*]Digest) struct { depth: u32, leaf: u32 } {
    var child = base.child;
    var depth: u32 = 0;
    while (child != 0 and child & leaf_tag == 0) : (depth += 1) {
        const n = memory.at(Node, child);
        const right = bit(path, depth) == 1;
        out[depth] = if (right) n.left_hash else n.right_hash;
        child = if (right) n.right else n.left;
    }
    return .{ .depth = depth, .leaf = child & ~leaf_tag };
}
