//! A B-tree of records by key, with nodes on the heap or in an arena.

const memory = @import("memory.zig");
const record = @import("record.zig");
const Record = record.Record;

const capacity = 31;
const least = capacity / 2; // items of a node that is not the root

const Node = extern struct {
    count: u16,
    leaf: u16,
    items: [capacity]u32,
    kids: [capacity + 1]u32, // a leaf's memory ends before them

    inline fn size(is_leaf: u16) u32 {
        return if (is_leaf != 0) @offsetOf(Node, "kids") else @sizeOf(Node);
    }
};

inline fn node(address: u32) *Node {
    return memory.at(Node, address);
}

const Place = struct { index: u32, found: bool };

inline fn search(n: *const Node, key: []const u8) Place {
    var low: u32 = 0;
    var high: u32 = n.count;
    while (low < high) {
        const middle = (low + high) / 2;
        const order = record.compare(key, record.of(n.items[middle]).key());
        if (order == 0) return .{ .index = middle, .found = true };
        if (order < 0) high = middle else low = middle + 1;
    }
    return .{ .index = low, .found = false };
}

/// The record with this key, or 0.
pub fn find(root: u32, key: []const u8) u32 {
    var address = root;
    while (address != 0) {
        const n = node(address);
        const place = search(n, key);
        if (place.found) return n.items[place.index];
        if (n.leaf != 0) return 0;
        address = n.kids[place.index];
    }
    return 0;
}

/// The first record with a key at or (`strict`) beyond this one, or 0.
pub fn seek(root: u32, key: []const u8, strict: bool) u32 {
    var best: u32 = 0;
    var address = root;
    while (address != 0) {
        const n = node(address);
        var place = search(n, key);
        if (place.found) {
            if (!strict) return n.items[place.index];
            place.index += 1;
        }
        if (place.index < n.count) best = n.items[place.index];
        if (n.leaf != 0) break;
        address = n.kids[place.index];
    }
    return best;
}

/// The last record with a key before this one, or 0.
pub fn seekBefore(root: u32, key: []const u8) u32 {
    var best: u32 = 0;
    var address = root;
    while (address != 0) {
        const n = node(address);
        const place = search(n, key);
        if (place.index > 0) best = n.items[place.index - 1];
        if (n.leaf != 0) break;
        address = n.kids[place.index];
    }
    return best;
}

/// Call `visit` with every record in order of keys.
pub fn walk(root: u32, context: anytype, comptime visit: fn (@TypeOf(context), u32) void) void {
    if (root == 0) return;
    const n = node(root);
    var i: u32 = 0;
    while (i < n.count) : (i += 1) {
        if (n.leaf == 0) walk(n.kids[i], context, visit);
        visit(context, n.items[i]);
    }
    if (n.leaf == 0) walk(n.kids[n.count], context, visit);
}

/// Nodes on the heap.
pub const Heap = struct {
    inline fn alloc(size: u32) u32 {
        return memory.alloc(size);
    }
    inline fn free(address: u32) void {
        memory.free(address, Node.size(node(address).leaf));
    }
};

/// Nodes in the arena of the batch.
pub const Batch = struct {
    pub var arena: memory.Arena = .{};

    inline fn alloc(size: u32) u32 {
        return arena.alloc(size);
    }
};

/// Nodes in an arena that each message begins anew.
pub const Message = struct {
    pub var arena: memory.Arena = .{};

    inline fn alloc(size: u32) u32 {
        return arena.alloc(size);
    }
};

pub fn Tree(comptime Space: type) type {
    return struct {
        /// What a split node gives to the one above: an item and the node right of it.
        const Split = struct { middle: u32 = 0, right: u32 = 0 };

        var replaced: u32 = 0;

        /// The leaf that took the last record, and the records between which all of that leaf lie, 0 for no bound: the
        /// next record is often its neighbour. Not for trees in an arena, which may be gone at any moment.
        const Near = struct { root: u32 = 0, leaf: u32 = 0, low: u32 = 0, high: u32 = 0 };
        var near: Near = .{};
        const remembers = Space == Heap;

        /// Insert or replace; returns the record replaced, or 0.
        pub fn insert(root: *u32, item: u32) u32 {
            replaced = 0;
            if (remembers) {
                if (near.leaf != 0 and near.root == root.* and insertNear(item)) return replaced;
                near = .{ .root = root.* };
            }
            if (root.* == 0) {
                const first = create(1);
                node(first).count = 1;
                node(first).items[0] = item;
                root.* = first;
                return 0;
            }
            const done = insertAt(root.*, item);
            if (done.middle == 0) return replaced;
            const top = create(0);
            const n = node(top);
            n.count = 1;
            n.items[0] = done.middle;
            n.kids[0] = root.*;
            n.kids[1] = done.right;
            root.* = top;
            return replaced;
        }

        /// Whether the leaf at hand was the right one, and had room.
        fn insertNear(item: u32) bool {
            const key = record.of(item).key();
            if (near.low != 0 and record.compare(record.of(near.low).key(), key) >= 0) return false;
            if (near.high != 0 and record.compare(key, record.of(near.high).key()) >= 0) return false;
            const n = node(near.leaf);
            const place = searchFromEnd(n, key);
            if (place.found) {
                replaced = n.items[place.index];
                n.items[place.index] = item;
                return true;
            }
            if (n.count == capacity) return false;
            place_in(n, place.index, item, 0);
            return true;
        }

        /// As `search`, with one look for a key beyond all others.
        inline fn searchFromEnd(n: *const Node, key: []const u8) Place {
            if (n.count > 0 and record.compare(key, record.of(n.items[n.count - 1]).key()) > 0) return .{ .index = n.count, .found = false };
            return search(n, key);
        }

        fn create(leaf: u16) u32 {
            const address = Space.alloc(Node.size(leaf));
            node(address).count = 0;
            node(address).leaf = leaf;
            return address;
        }

        fn insertAt(address: u32, item: u32) Split {
            const n = node(address);
            const place = search(n, record.of(item).key());
            if (place.found) {
                replaced = n.items[place.index];
                n.items[place.index] = item;
                return .{};
            }
            if (n.leaf != 0) {
                if (remembers and n.count < capacity) near.leaf = address;
                return add(address, place.index, item, 0);
            }
            if (remembers) {
                if (place.index > 0) near.low = n.items[place.index - 1];
                if (place.index < n.count) near.high = n.items[place.index];
            }
            const below = insertAt(n.kids[place.index], item);
            if (below.middle == 0) return .{};
            return add(address, place.index, below.middle, below.right);
        }

        /// Put an item, and the kid after it, into a node, which is split when it is full.
        fn add(address: u32, index: u32, item: u32, kid: u32) Split {
            const n = node(address);
            if (n.count < capacity) {
                place_in(n, index, item, kid);
                return .{};
            }
            const right = create(n.leaf);
            const r = node(right);
            const half = capacity / 2;
            const middle = n.items[half];
            r.count = capacity - half - 1;
            @memcpy(r.items[0..r.count], n.items[half + 1 ..][0..r.count]);
            if (n.leaf == 0) @memcpy(r.kids[0 .. r.count + 1], n.kids[half + 1 ..][0 .. r.count + 1]);
            n.count = half;
            if (index <= half) place_in(n, index, item, kid) else place_in(r, index - half - 1, item, kid);
            return .{ .middle = middle, .right = right };
        }

        inline fn place_in(n: *Node, index: u32, item: u32, kid: u32) void {
            var i: u32 = n.count;
            while (i > index) : (i -= 1) n.items[i] = n.items[i - 1];
            n.items[index] = item;
            if (n.leaf == 0) {
                i = n.count + 1;
                while (i > index + 1) : (i -= 1) n.kids[i] = n.kids[i - 1];
                n.kids[index + 1] = kid;
            }
            n.count += 1;
        }

        /// Remove a key; returns its record, or 0 when there is none. Heap only.
        pub fn remove(root: *u32, key: []const u8) u32 {
            if (remembers) near = .{};
            if (root.* == 0) return 0;
            const removed = removeFrom(root.*, key);
            const n = node(root.*);
            if (n.count == 0) {
                const below = if (n.leaf != 0) 0 else n.kids[0];
                Space.free(root.*);
                root.* = below;
            }
            return removed;
        }

        /// The node has more than `least` items, or is the root.
        fn removeFrom(address: u32, key: []const u8) u32 {
            const n = node(address);
            const place = search(n, key);
            if (n.leaf != 0) return if (place.found) cut(n, place.index) else 0;
            if (!place.found) return removeFrom(n.kids[fill(n, place.index)], key);
            const item = n.items[place.index];
            if (node(n.kids[place.index]).count > least) {
                n.items[place.index] = removeEnd(n.kids[place.index], true);
            } else if (node(n.kids[place.index + 1]).count > least) {
                n.items[place.index] = removeEnd(n.kids[place.index + 1], false);
            } else {
                merge(n, place.index);
                return removeFrom(n.kids[place.index], key);
            }
            return item;
        }

        /// Remove and return the last or first record below a node with more than `least` items.
        fn removeEnd(start: u32, last: bool) u32 {
            var address = start;
            while (node(address).leaf == 0) {
                const n = node(address);
                address = n.kids[fill(n, if (last) n.count else 0)];
            }
            const n = node(address);
            return cut(n, if (last) n.count - 1 else 0);
        }

        fn cut(n: *Node, index: u32) u32 {
            const item = n.items[index];
            var i = index;
            while (i + 1 < n.count) : (i += 1) n.items[i] = n.items[i + 1];
            n.count -= 1;
            return item;
        }

        /// Give the kid at `index` more than `least` items; returns where that kid is now.
        fn fill(n: *Node, index: u32) u32 {
            const kid = node(n.kids[index]);
            if (kid.count > least) return index;
            if (index > 0 and node(n.kids[index - 1]).count > least) {
                const left = node(n.kids[index - 1]);
                var i: u32 = kid.count;
                while (i > 0) : (i -= 1) kid.items[i] = kid.items[i - 1];
                kid.items[0] = n.items[index - 1];
                if (kid.leaf == 0) {
                    i = kid.count + 1;
                    while (i > 0) : (i -= 1) kid.kids[i] = kid.kids[i - 1];
                    kid.kids[0] = left.kids[left.count];
                }
                kid.count += 1;
                n.items[index - 1] = left.items[left.count - 1];
                left.count -= 1;
                return index;
            }
            if (index < n.count and node(n.kids[index + 1]).count > least) {
                const right = node(n.kids[index + 1]);
                kid.items[kid.count] = n.items[index];
                if (kid.leaf == 0) kid.kids[kid.count + 1] = right.kids[0];
                kid.count += 1;
                n.items[index] = right.items[0];
                var i: u32 = 0;
                while (i + 1 < right.count) : (i += 1) right.items[i] = right.items[i + 1];
                if (right.leaf == 0) {
                    i = 0;
                    while (i < right.count) : (i += 1) right.kids[i] = right.kids[i + 1];
                }
                right.count -= 1;
                return index;
            }
            const left = if (index < n.count) index else index - 1;
            merge(n, left);
            return left;
        }

        /// Join the kids on both sides of an item, each with `least` items, and the item between them.
        fn merge(n: *Node, index: u32) void {
            const left = node(n.kids[index]);
            const right = node(n.kids[index + 1]);
            left.items[left.count] = n.items[index];
            @memcpy(left.items[left.count + 1 ..][0..right.count], right.items[0..right.count]);
            if (left.leaf == 0) @memcpy(left.kids[left.count + 1 ..][0 .. right.count + 1], right.kids[0 .. right.count + 1]);
            left.count += right.count + 1;
            Space.free(n.kids[index + 1]);
            var i = index;
            while (i + 1 < n.count) : (i += 1) {
                n.items[i] = n.items[i + 1];
                n.kids[i + 1] = n.kids[i + 2];
            }
            n.count -= 1;
        }

        /// Free every node; the records are the caller's.
        pub fn discard(root: *u32) void {
            if (remembers) near = .{};
            if (root.* != 0) discardNode(root.*);
            root.* = 0;
        }

        fn discardNode(address: u32) void {
            const n = node(address);
            if (n.leaf == 0) {
                var i: u32 = 0;
                while (i <= n.count) : (i += 1) discardNode(n.kids[i]);
            }
            Space.free(address);
        }
    };
}
