//! The state tree: a compact sparse Merkle tree over row paths. Nodes never change once made, so a batch makes new ones
//! beside the old and either side can be dropped. A node holds its children's hashes, so that hashing it again after a
//! change reads nothing else. Format: docs/reference/state-root.md.

const keccak = @import("keccak.zig");
const memory = @import("memory.zig");
const record = @import("record.zig");
const sort = @import("sort.zig");
const state = @import("state.zig");

const Digest = keccak.Digest;
pub const empty: Digest = @splat(0);

/// Place of a row in the tree; shared by all versions of the row. `state` is for `late.zig`.
pub const Leaf = extern struct { path: Digest, row: u32, state: u32 };

const Node = extern struct {
    left_hash: Digest,
    right_hash: Digest,
    left: u32,
    right: u32,
    next: u32, // the one made before at this depth, while hashes are due
    place: u32, // where its own hash goes

    inline fn pair(self: *const Node) keccak.Pair {
        return .{ .tag = 1, .left = &self.left_hash, .right = &self.right_hash };
    }
};

// In the lowest bits of a child, as heap addresses are multiples of 16.
const leaf_tag: u32 = 1;
const due_tag: u32 = 2; // a node whose hash is still due; never in a node

pub const Root = extern struct { hash: Digest = empty, child: u32 = 0 };

/// One changed leaf: `gone`, or with a new row.
pub const Update = extern struct { path: *const Digest, leaf: u32, gone: u32, row: u32, row_len: u32, hash: Digest };

/// An update in order: its `start` is the beginning of the path.
const Ref = sort.Item;

pub var base: Root = .{};
var made: List = .{};
var superseded: List = .{};

/// Memory of nodes that were freed, by address: taking one out does not read it, as a list through it would.
const Spare = struct {
    var items: u32 = 0; // on the heap
    var count: u32 = 0;
    var capacity: u32 = 0;

    inline fn take() u32 {
        if (count == 0) return memory.alloc(@sizeOf(Node));
        count -= 1;
        return memory.at(u32, items + 4 * count).*;
    }

    /// Read those that are taken next.
    fn fetch(wanted: u32) void {
        for (0..@min(wanted, count)) |i| {
            const node = memory.at(Node, memory.at(u32, items + 4 * (count - 1 - @as(u32, @intCast(i)))).*);
            fetched +%= node.left_hash[0] +% node.place;
        }
    }

    fn give(address: u32) void {
        if (count == capacity) grow();
        memory.at(u32, items + 4 * count).* = address;
        count += 1;
    }

    noinline fn grow() void {
        const larger = @max(64, 2 * capacity);
        const new = memory.alloc(4 * larger);
        memory.move(new, items, 4 * count);
        if (capacity > 0) memory.free(items, 4 * capacity);
        items = new;
        capacity = larger;
    }
};

/// Addresses in the arena of the batch.
const List = struct {
    items: u32 = 0,
    count: u32 = 0,
    capacity: u32 = 0,

    inline fn add(self: *List, address: u32) void {
        if (self.count == self.capacity) self.grow();
        memory.at(u32, self.items + 4 * self.count).* = address;
        self.count += 1;
    }

    noinline fn grow(self: *List) void {
        const larger = @max(64, 2 * self.capacity);
        const items = state.arena.alloc(4 * larger);
        memory.move(items, self.items, 4 * self.count);
        self.items = items;
        self.capacity = larger;
    }

    fn free(self: *List) void {
        for (0..self.count) |i| {
            const child = memory.at(u32, self.items + 4 * @as(u32, @intCast(i))).*;
            if (child & leaf_tag != 0) memory.free(child & ~leaf_tag, @sizeOf(Leaf)) else Spare.give(child);
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

/// Paths of two keys.
pub fn pathsOf(a: []const u8, out_a: *Digest, b: []const u8, out_b: *Digest) void {
    if (keccak.Short.fits(1 + a.len) and keccak.Short.fits(1 + b.len)) {
        return keccak.hashTwo(keccak.Short.of(&.{2}, a), keccak.Short.of(&.{2}, b), out_a, out_b);
    }
    pathOf(a, out_a);
    pathOf(b, out_b);
}

/// Hash each update's leaf.
fn hashLeaves(updates: []const Ref) void {
    var waiting: ?*Update = null; // the first of two
    var first: keccak.Digest = undefined;
    for (updates) |ref| {
        const update = updateAt(ref);
        if (update.gone != 0) continue;
        if (waiting) |other| {
            var second: keccak.Digest = undefined;
            hashRows(rowOf(other), &first, rowOf(update), &second);
            keccak.hashTwo(leafOf(other, &first), leafOf(update, &second), &other.hash, &update.hash);
            waiting = null;
        } else waiting = update;
    }
    if (waiting) |last| {
        keccak.hash(rowOf(last), &first);
        keccak.hashOne(leafOf(last, &first), &last.hash);
    }
}

inline fn leafOf(update: *const Update, row_hash: *const Digest) keccak.Pair {
    return .{ .tag = 0, .left = update.path, .right = row_hash };
}

inline fn rowOf(update: *const Update) []const u8 {
    return memory.bytesAt(update.row, update.row_len);
}

fn hashRows(a: []const u8, out_a: *Digest, b: []const u8, out_b: *Digest) void {
    if (keccak.Short.fits(a.len) and keccak.Short.fits(b.len)) {
        return keccak.hashTwo(keccak.Short.of(a, ""), keccak.Short.of(b, ""), out_a, out_b);
    }
    keccak.hash(a, out_a);
    keccak.hash(b, out_b);
}

/// A new leaf, whose path is to be written; forgotten when the batch is.
pub fn makeLeaf() u32 {
    const address = memory.alloc(@sizeOf(Leaf));
    memory.at(Leaf, address).row = 0;
    memory.at(Leaf, address).state = 0;
    made.add(address | leaf_tag);
    return address;
}

/// A leaf that is no longer in the tree; kept until the batch is committed.
pub fn dropLeaf(address: u32) void {
    superseded.add(address | leaf_tag);
}

/// Nodes and leaves that the batch made.
pub fn madeCount() u32 {
    return made.count;
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

/// The tree after `updates`, each path once.
pub fn apply(root: *const Root, updates: []Update) Root {
    return change(root.*, sorted(updates), 0);
}

/// The same where a path may come twice: for a row that went and, in another leaf, for one that came with its key.
pub fn applyLate(root: *const Root, updates: []Update) Root {
    const list = sorted(updates);
    var count: usize = 0;
    for (list) |ref| {
        if (count > 0 and list[count - 1].start == ref.start and record.equal(updateAt(list[count - 1]).path, updateAt(ref).path)) {
            if (updateAt(ref).gone == 0) list[count - 1] = ref;
            continue;
        }
        list[count] = ref;
        count += 1;
    }
    return change(root.*, list[0..count], 0);
}

const depths = 256;
var due: [depths]u32 = @splat(0); // nodes made, by depth
var deepest: u32 = 0;

/// With the nodes hashed that were made at this depth and below, from the deepest up, two at once; no others are due.
fn hashed(root: Root, top: u32) Root {
    if (root.child & due_tag == 0) return root;
    var done: Root = .{ .child = root.child & ~due_tag };
    memory.at(Node, done.child).place = @intFromPtr(&done.hash);
    var depth = deepest + 1;
    while (depth > top) {
        depth -= 1;
        var address = due[depth];
        due[depth] = 0;
        while (address != 0) {
            const a = memory.at(Node, address);
            if (a.next == 0) {
                keccak.hashOne(a.pair(), memory.at(Digest, a.place));
                break;
            }
            const b = memory.at(Node, a.next);
            keccak.hashTwo(a.pair(), b.pair(), memory.at(Digest, a.place), memory.at(Digest, b.place));
            address = b.next;
        }
    }
    deepest = 0;
    return done;
}

fn sorted(updates: []Update) []Ref {
    const list = sort.items(updates.len);
    for (list, updates) |*item, *update| item.* = refTo(update);
    sort.sort(list, before);
    return list;
}

inline fn refTo(update: *const Update) Ref {
    return .{ .start = sort.startOf(update.path), .value = @intFromPtr(update) };
}

inline fn updateAt(ref: Ref) *Update {
    return memory.at(Update, ref.value);
}

fn before(a: u32, b: u32) bool {
    return record.compare(memory.at(Update, a).path, memory.at(Update, b).path) < 0;
}

inline fn bit(path: *const Digest, depth: u32) u32 {
    return path[depth / 8] >> @intCast(7 - depth % 8) & 1;
}

inline fn goesRight(ref: Ref, depth: u32) bool {
    if (depth < 64) return ref.start >> @intCast(63 - depth) & 1 == 1;
    return bit(updateAt(ref).path, depth) == 1;
}

/// How many of sorted updates go left at this depth; they agree on the bits before.
inline fn split(updates: []const Ref, depth: u32) usize {
    if (updates.len == 1) return @intFromBool(!goesRight(updates[0], depth));
    var low: usize = 0;
    var high = updates.len;
    while (low < high) {
        const middle = (low + high) / 2;
        if (goesRight(updates[middle], depth)) high = middle else low = middle + 1;
    }
    return low;
}

/// So many updates are carried through all steps at once: what they touch stays in a core's own cache.
const together = 64;

fn change(old: Root, updates: []Ref, depth: u32) Root {
    if (updates.len == 0) return old;
    if (updates.len <= together or !isNode(old)) {
        fetch(old.child, updates, depth);
        hashLeaves(updates);
        return hashed(changeFew(old, updates, depth), depth);
    }
    const n = memory.at(Node, old.child);
    const at = split(updates, depth);
    const left = change(.{ .child = n.left, .hash = n.left_hash }, updates[0..at], depth + 1);
    const right = change(.{ .child = n.right, .hash = n.right_hash }, updates[at..], depth + 1);
    superseded.add(old.child);
    return hashed(join(left, right, depth), depth);
}

inline fn isNode(root: Root) bool {
    return root.child != 0 and root.child & leaf_tag == 0;
}

/// Changes no hash that is there and leaves new ones due.
fn changeFew(old: Root, updates: []Ref, depth: u32) Root {
    if (updates.len == 0) return old;
    if (!isNode(old)) return build(leaves(old, updates), depth);
    const n = memory.at(Node, old.child);
    const at = split(updates, depth);
    const left = changeFew(.{ .child = n.left, .hash = n.left_hash }, updates[0..at], depth + 1);
    const right = changeFew(.{ .child = n.right, .hash = n.right_hash }, updates[at..], depth + 1);
    superseded.add(old.child);
    return join(left, right, depth);
}

var fetched: u32 = 0;
const ways = 16;

/// Read what is on the ways down to some updates and where as many new nodes will go. Done side by side, reading many
/// places from memory takes hardly longer than one, and afterwards they are near.
fn fetch(top: u32, updates: []const Ref, top_depth: u32) void {
    var nodes: u32 = 0;
    var first: usize = 0;
    while (first < updates.len) : (first += ways) {
        const group = updates[first..@min(first + ways, updates.len)];
        var children: [ways]u32 = @splat(top);
        var depth = top_depth;
        var going = true;
        while (going) : (depth += 1) {
            going = false;
            var previous: u32 = 0;
            for (group, children[0..group.len]) |ref, *child| {
                const address = child.*;
                if (address == 0 or address & leaf_tag != 0) continue;
                const n = memory.at(Node, address);
                fetched +%= n.left_hash[0];
                child.* = if (goesRight(ref, depth)) n.right else n.left;
                going = true;
                nodes += @intFromBool(address != previous);
                previous = address;
            }
        }
        for (children[0..group.len]) |child| {
            if (child != 0) fetched +%= memory.at(Leaf, child & ~leaf_tag).path[0];
        }
    }
    Spare.fetch(nodes);
}

/// What stays of the updates and of the one leaf that was here, sorted.
fn leaves(old: Root, updates: []Ref) []Ref {
    const kept = sort.items(updates.len + 1);
    var count: usize = 0;
    var waiting = old.child != 0;
    const path = if (waiting) &memory.at(Leaf, old.child & ~leaf_tag).path else undefined;
    for (updates) |ref| {
        const update = updateAt(ref);
        if (waiting) {
            const order = record.compare(path, update.path);
            if (order <= 0) waiting = false;
            if (order < 0) {
                kept[count] = unchanged(old);
                count += 1;
            }
        }
        if (update.gone == 0) {
            kept[count] = ref;
            count += 1;
        }
    }
    if (waiting) {
        kept[count] = unchanged(old);
        count += 1;
    }
    return kept[0..count];
}

fn unchanged(old: Root) Ref {
    const update = memory.at(Update, state.arena.alloc(@sizeOf(Update)));
    const leaf = old.child & ~leaf_tag;
    update.* = .{ .path = &memory.at(Leaf, leaf).path, .leaf = leaf, .gone = 0, .row = 0, .row_len = 0, .hash = old.hash };
    return refTo(update);
}

fn build(items: []const Ref, depth: u32) Root {
    if (items.len == 0) return .{};
    if (items.len == 1) return .{ .child = updateAt(items[0]).leaf | leaf_tag, .hash = updateAt(items[0]).hash };
    const at = split(items, depth);
    return join(build(items[0..at], depth + 1), build(items[at..], depth + 1), depth);
}

inline fn join(left: Root, right: Root, depth: u32) Root {
    // A subtree with one leaf is that leaf.
    if (left.child == 0 and (right.child == 0 or right.child & leaf_tag != 0)) return right;
    if (right.child == 0 and left.child & leaf_tag != 0) return left;
    const address = Spare.take();
    const n = memory.at(Node, address);
    n.left = put(left, &n.left_hash);
    n.right = put(right, &n.right_hash);
    n.next = due[depth];
    due[depth] = address;
    deepest = @max(deepest, depth);
    made.add(address);
    return .{ .child = address | due_tag };
}

/// A child's hash, or where it is to go; returns the child.
inline fn put(child: Root, hash: *Digest) u32 {
    const address = child.child & ~due_tag;
    if (address != child.child) memory.at(Node, address).place = @intFromPtr(hash) else hash.* = child.hash;
    return address;
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
