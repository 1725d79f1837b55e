//! A batch of entries: the loop over its messages, its root, and making it the base.
//!
//! `run` calls the reducer and settles each message, all on the fuel of one message; when that runs out, or a trap
//! strikes outside the reducer, the host gives the batch up and runs it again with `step` and `settle` for each
//! message, where nothing of ours shares the reducer's fuel.

const std = @import("std");
const changes = @import("changes.zig");
const failure = @import("failure.zig");
const guest = @import("guest.zig");
const imports = @import("imports.zig");
const keccak = @import("keccak.zig");
const memory = @import("memory.zig");
const merkle = @import("merkle.zig");
const record = @import("record.zig");
const rows = @import("rows.zig");
const schema = @import("schema.zig");
const state = @import("state.zig");
const tree = @import("tree.zig");
const values = @import("values.zig");

const Base = tree.Tree(tree.Heap);

/// What became of an entry, for the host.
pub const Status = struct {
    pub const pending: u8 = 0;
    pub const accepted: u8 = 1;
    pub const rejected: u8 = 2; // `results`: what scapp_reduce returned; a reason is among the notes
    pub const collided: u8 = 3; // `results`: number of the unique index
    pub const malformed: u8 = 4; // no entry of this channel; the host says why
    pub const trapped: u8 = 5; // set by the host's `abandon`
};

const entry_header: u32 = 18; // kind u8, author u8, counter u64, time u64, big-endian
const Kind = struct {
    const open: u8 = 0;
    const close: u8 = 3;
};

/// The entries that the host wrote: offsets (one more than entries), then their bytes; statuses and results behind.
pub const Input = struct {
    var address: u32 = 0;
    var size: u32 = 0;
    pub var first_sequence: u64 = 0;
    pub var allowance: u64 = 0;
    pub var count: u32 = 0;

    fn offset(index: u32) u32 {
        return memory.at(u32, address + 4 * index).*;
    }
    pub fn entry(index: u32) []const u8 {
        return memory.bytesAt(address + offset(index), offset(index + 1) - offset(index));
    }
    pub fn statuses() u32 {
        return memory.aligned(address + offset(count), 8);
    }
    pub fn status(index: u32) *u8 {
        return memory.at(u8, statuses() + index);
    }
    fn result(index: u32) *i32 {
        return memory.at(i32, memory.aligned(statuses() + count, 8) + 4 * index);
    }
};

/// Room for the entries of a batch and what is said of them: `size` bytes of offsets and entries.
pub fn reserve(count: u32, size: u32) u32 {
    const needed = memory.aligned(size, 8) + memory.aligned(count, 8) + 4 * count;
    if (needed > Input.size) {
        if (Input.size > 0) memory.free(Input.address, Input.size);
        Input.size = @max(needed, 4096);
        Input.address = memory.alloc(Input.size);
    }
    Input.count = count;
    return Input.address;
}

/// A pass over the entries, from the base.
pub fn open(first_sequence: u64, allowance: u64) void {
    close();
    Input.first_sequence = first_sequence;
    Input.allowance = allowance;
    @memset(memory.bytesAt(Input.statuses(), Input.count), Status.pending);
}

/// No batch on the base.
pub fn close() void {
    merkle.forget();
    root = merkle.base;
    event_root = base_event_root;
    state.open();
}

/// Run the entries from `first` up to `end`; those that the host marked are left out.
pub fn run(first: u32, end: u32) void {
    var index = first;
    while (index < end) : (index += 1) {
        if (Input.status(index).* != Status.pending) continue;
        if (step(index) != 0) settle(index);
    }
}

var returned: i32 = 0;

/// Run one entry and leave what it did unsettled; 0 when there is nothing to settle.
pub fn step(index: u32) u32 {
    const data = Input.entry(index);
    const sequence = Input.first_sequence + state.now.accepted;
    if (!wellFormed(data, sequence)) {
        Input.status(index).* = Status.malformed;
        return 0;
    }
    state.message = index;
    state.sequence = sequence;
    state.begin(Input.allowance);
    state.kind = data[0];
    returned = if (data[0] == Kind.close) 0 else reduce(data, sequence); // close ends the log; no reducer runs
    state.phase = state.Phase.idle;
    return 1;
}

fn wellFormed(data: []const u8, sequence: u64) bool {
    if (data.len < entry_header or data[0] > Kind.close or data[1] >= schema.participants.len) return false;
    return (data[0] == Kind.open) == (sequence == 0);
}

fn reduce(data: []const u8, sequence: u64) i32 {
    const payload = data[entry_header..];
    const length = guest.header_bytes + @as(u32, @intCast(payload.len));
    state.phase = state.Phase.alloc;
    const pointer = guest.alloc(length);
    if (!guest.holds(pointer, length)) {
        failure.detail = pointer;
        failure.trap(failure.Code.alloc);
    }
    var header: [guest.header_bytes]u8 = @splat(0);
    header[0] = data[0];
    header[1] = data[1];
    std.mem.writeInt(u32, header[4..8], @intCast(payload.len), .little);
    std.mem.writeInt(u64, header[8..16], sequence, .little);
    std.mem.writeInt(u64, header[16..24], values.read(u64, data[10..]), .little);
    @memcpy(header[24..44], &schema.participants[data[1]]);
    @memcpy(header[44..76], &schema.channel);
    guest.store(@intFromPtr(&header), pointer, guest.header_bytes);
    guest.store(@intFromPtr(payload.ptr), pointer + guest.header_bytes, @intCast(payload.len));
    state.phase = state.Phase.reduce;
    return guest.reduce(pointer, length);
}

/// Decide the entry that ran.
pub fn settle(index: u32) void {
    var status = Status.accepted;
    if (returned != 0 or state.now.rejected != 0) {
        status = Status.rejected;
        Input.result(index).* = returned;
    } else if (state.now.writes != 0) {
        const number = rows.collision();
        if (number != 0) {
            status = Status.collided;
            Input.result(index).* = @bitCast(number);
        }
    }
    if (status == Status.accepted) state.now.accepted += 1 else state.undo();
    Input.status(index).* = status;
}

/// The entry that ran trapped: it did not happen.
pub fn abandon(index: u32) void {
    state.undo();
    Input.status(index).* = Status.trapped;
}

// -- root ------------------------------------------------------------------------------------------------------------

pub var root: merkle.Root = .{};
pub var event_root: keccak.Digest = merkle.empty;
pub var base_event_root: keccak.Digest = merkle.empty;
var event_leaf: u32 = 0;
var event_path: keccak.Digest = undefined;

/// The reserved row of the event chain, in the tree from the start.
pub fn init() void {
    merkle.pathOf(&.{ 0xff, 0xff }, &event_path);
    event_leaf = merkle.makeLeaf(&event_path);
    var updates = [1]merkle.Update{eventUpdate()};
    root = merkle.apply(&.{}, &updates);
    merkle.keep(&root);
    const words = memory.alloc(32 * @as(u32, @intCast(schema.slots.len)));
    for (schema.slots, 0..) |*slot, i| @memcpy(memory.bytesAt(words + 32 * @as(u32, @intCast(i)), 32), &slot.amount);
    state.base_amounts = words;
    close();
}

fn eventUpdate() merkle.Update {
    var update: merkle.Update = .{ .path = &event_path, .leaf = event_leaf, .gone = 0, .hash = undefined };
    merkle.leafHash(&event_path, &event_root, &update.hash);
    return update;
}

/// Event root and state root of the batch as it is now.
pub fn finish() void {
    var list: Updates = .{ .items = state.arena.alloc(@intCast((changedRows() + 1) * @sizeOf(merkle.Update))) };
    tree.walk(state.now.layer, &list, addUpdate);
    if (state.now.last_event != 0) {
        extendEvents();
        list.next().* = eventUpdate();
    }
    const updates = list.slice();
    merkle.sort(updates);
    root = merkle.apply(&merkle.base, updates);
}

fn changedRows() u32 {
    var count: u32 = 0;
    tree.walk(state.now.layer, &count, countRow);
    return count;
}

fn countRow(count: *u32, address: u32) void {
    if (record.of(address).number() < schema.tables.len) count.* += 1;
}

const Updates = struct {
    items: u32,
    count: u32 = 0,

    fn next(self: *Updates) *merkle.Update {
        self.count += 1;
        return memory.at(merkle.Update, self.items + (self.count - 1) * @sizeOf(merkle.Update));
    }
    fn slice(self: *const Updates) []merkle.Update {
        const many: [*]merkle.Update = @ptrFromInt(self.items);
        return many[0..self.count];
    }
};

fn addUpdate(list: *Updates, address: u32) void {
    const item = record.of(address);
    if (item.number() >= schema.tables.len) return;
    const old = tree.find(state.base_root, item.key());
    if (item.gone()) {
        if (old == 0) return;
        const leaf = record.of(old).link;
        list.next().* = .{ .path = &memory.at(merkle.Leaf, leaf).path, .leaf = leaf, .gone = 1, .hash = undefined };
        merkle.dropLeaf(leaf);
        return;
    }
    if (old == 0) {
        var path: keccak.Digest = undefined;
        merkle.pathOf(item.key(), &path);
        item.link = merkle.makeLeaf(&path);
    } else {
        if (record.equal(record.of(old).row(), item.row())) {
            item.link = 0; // as it was: nothing to do at the commit either
            return;
        }
        item.link = record.of(old).link;
    }
    const leaf = memory.at(merkle.Leaf, item.link);
    const update = list.next();
    update.* = .{ .path = &leaf.path, .leaf = item.link, .gone = 0, .hash = undefined };
    merkle.leafHash(&leaf.path, item.row(), &update.hash);
}

fn extendEvents() void {
    event_root = base_event_root;
    var address = state.now.first_event;
    while (true) {
        const event = memory.at(imports.Event, address);
        var head: [12]u8 = undefined;
        std.mem.writeInt(u64, head[0..8], event.sequence, .big);
        std.mem.writeInt(u32, head[8..12], event.topic, .big);
        var hasher: keccak.Hasher = .{};
        hasher.update(&head);
        hasher.update(memory.bytesAt(address + @sizeOf(imports.Event), event.topic + event.data));
        var digest: keccak.Digest = undefined;
        hasher.final(&digest);
        keccak.hashWords(&event_root, &digest, &event_root);
        if (address == state.now.last_event) return;
        address = event.next;
    }
}

// -- commit ----------------------------------------------------------------------------------------------------------

/// Make the batch the base; `finish` came before. `turn` goes with the messages that are handed over.
pub fn commit(turn: u64) void {
    changes.commit(turn);
    tree.walk(state.now.layer, {}, merge);
    merkle.keep(&root);
    base_event_root = event_root;
    if (state.now.amounts != state.base_amounts) {
        const size = 32 * @as(u32, @intCast(schema.slots.len));
        @memcpy(memory.bytesAt(state.base_amounts, size), memory.bytesAt(state.now.amounts, size));
    }
    state.base_rows = state.now.rows;
    state.base_bytes = state.now.row_bytes;
    close();
}

/// Event root and amounts (words at an address) become those of the base.
pub fn restore(new_event_root: []const u8, amounts: u32) void {
    close();
    @memcpy(&base_event_root, new_event_root);
    event_root = base_event_root;
    var updates = [1]merkle.Update{eventUpdate()};
    root = merkle.apply(&merkle.base, &updates);
    merkle.keep(&root);
    const size = 32 * @as(u32, @intCast(schema.slots.len));
    @memcpy(memory.bytesAt(state.base_amounts, size), memory.bytesAt(amounts, size));
    close();
}

fn merge(_: void, address: u32) void {
    const item = record.of(address);
    const is_row = item.number() < schema.tables.len;
    if (item.gone()) {
        const old = Base.remove(&state.base_root, item.key());
        if (old == 0) return;
        if (!(is_row and changes.replaced(item, old))) record.drop(old);
        return;
    }
    if (is_row and item.link == 0) return;
    const kept = record.keep(item);
    const old = Base.insert(&state.base_root, kept);
    if (is_row) {
        memory.at(merkle.Leaf, item.link).row = kept;
        if (changes.replaced(item, old)) return;
    }
    if (old != 0) record.drop(old);
}
