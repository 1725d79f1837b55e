//! A batch of entries: the loop over its messages, its root, and making it the base.
//!
//! `run` calls the reducer and settles each message, all on the fuel of one message; when that runs out, or a trap
//! strikes outside the reducer, the host gives the batch up and runs it again with `step` and `settle` for each
//! message, where nothing of ours shares the reducer's fuel.

const std = @import("std");
const changes = @import("changes.zig");
const failure = @import("failure.zig");
const guest = @import("guest.zig");
const history = @import("history.zig");
const imports = @import("imports.zig");
const keccak = @import("keccak.zig");
const late_rows = @import("late.zig");
const layer = @import("layer.zig");
const lookup = @import("lookup.zig");
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

pub const entry_header: u32 = 18; // kind u8, author u8, counter u64, time u64, big-endian
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

/// Log root after the entries. A link of the chain is hashed beside the entry after it.
pub fn extendLogRoot(log_root: *keccak.Digest) void {
    if (Input.count == 0) return;
    var digest: keccak.Digest = undefined;
    keccak.hash(Input.entry(0), &digest);
    for (1..Input.count) |i| {
        const data = Input.entry(@intCast(i));
        const link: keccak.Words = .{ .left = log_root, .right = &digest };
        if (keccak.Block.fits(data.len)) {
            keccak.hashTwo(link, keccak.Block.of(data, ""), log_root, &digest);
        } else {
            keccak.hashOne(link, log_root);
            keccak.hash(data, &digest);
        }
    }
    keccak.hashOne(keccak.Words{ .left = log_root, .right = &digest }, log_root);
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
    history.forget();
    late = false;
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
    guest.measure();
    if (!guest.holds(pointer, length)) {
        failure.detail = pointer;
        failure.trap(failure.Code.alloc);
    }
    const address = state.arena.alloc(length);
    const header = memory.bytesAt(address, guest.header_bytes);
    @memset(header, 0);
    header[0] = data[0];
    header[1] = data[1];
    std.mem.writeInt(u32, header[4..8], @intCast(payload.len), .little);
    std.mem.writeInt(u64, header[8..16], sequence, .little);
    std.mem.writeInt(u64, header[16..24], values.read(u64, data[10..]), .little);
    memory.copy(header.ptr + 24, &schema.participants[data[1]]);
    memory.copy(header.ptr + 44, &schema.channel);
    memory.copy(header.ptr + guest.header_bytes, payload);
    guest.store(address, pointer, length);
    state.arena.trim(address, 0);
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
    if (status == Status.accepted) {
        if (history.wanted) history.settle();
        keep();
        state.now.accepted += 1;
    } else state.undo();
    Input.status(index).* = status;
}

/// What the open message wrote is part of the batch.
pub fn keep() void {
    tree.walk(state.now.overlay, {}, keepWrite);
}

fn keepWrite(_: void, address: u32) void {
    layer.put(address);
}

/// The entry that ran trapped: it did not happen. In the idle phase it had not begun, and what would be put back is of
/// an earlier one.
pub fn abandon(index: u32) void {
    if (state.phase != state.Phase.idle) state.undo();
    Input.status(index).* = Status.trapped;
}

// -- root ------------------------------------------------------------------------------------------------------------

pub var root: merkle.Root = .{};
pub var event_root: keccak.Digest = merkle.empty;
pub var base_event_root: keccak.Digest = merkle.empty;
var event_leaf: u32 = 0;

/// The reserved row of the event chain, in the tree from the start.
pub fn init() void {
    event_leaf = merkle.makeLeaf();
    merkle.pathOf(&.{ 0xff, 0xff }, &memory.at(merkle.Leaf, event_leaf).path);
    var updates = [1]merkle.Update{eventUpdate()};
    root = merkle.apply(&.{}, &updates);
    merkle.keep(&root);
    const words = memory.alloc(32 * @as(u32, @intCast(schema.slots.len)));
    for (schema.slots, 0..) |*slot, i| memory.copy(@ptrFromInt(words + 32 * @as(u32, @intCast(i))), &slot.amount);
    state.base_amounts = words;
    close();
}

fn eventUpdate() merkle.Update {
    return updateOf(event_leaf, &event_root);
}

pub fn updateOf(leaf: u32, row: []const u8) merkle.Update {
    return .{
        .path = &memory.at(merkle.Leaf, leaf).path,
        .leaf = leaf,
        .gone = 0,
        .row = @intFromPtr(row.ptr),
        .row_len = @intCast(row.len),
        .hash = undefined,
    };
}

/// Without roots (a projection signs nothing) finishing only finds what has changed.
pub var rooted = true;

var changes_of_tree: []merkle.Update = &.{};
/// The open batch's state root comes after its commit.
var late = false;

/// Event root and state root of the batch as it is now.
pub fn finish() void {
    find();
    if (rooted) root = merkle.apply(&merkle.base, changes_of_tree);
}

/// The same without the state root, which is to come after the commit, or after more of them.
pub fn finishLate() void {
    late = rooted;
    find();
}

/// The state root of all that is committed.
pub fn settleRoot() void {
    close();
    const updates = late_rows.take(1);
    updates[updates.len - 1] = eventUpdate();
    root = merkle.applyLate(&merkle.base, updates);
    merkle.keep(&root);
    close();
}

fn find() void {
    var changed: Changed = .{};
    layer.each(&changed, countRow);
    if (!rooted) return;
    if (late) {
        if (state.now.last_event != 0) extendEvents();
        return;
    }
    changed.rows = state.arena.alloc(4 * changed.count);
    changed.count = 0;
    layer.each(&changed, listRow);
    makeLeaves(changed.slice());
    const many: [*]merkle.Update = @ptrFromInt(state.arena.alloc((changed.count + 1) * @sizeOf(merkle.Update)));
    for (changed.slice(), many) |address, *update| update.* = rowUpdate(record.of(address));
    var count = changed.count;
    if (state.now.last_event != 0) {
        extendEvents();
        many[count] = eventUpdate();
        count += 1;
    }
    changes_of_tree = many[0..count];
}

/// Rows of the layer that differ from the base.
const Changed = struct {
    rows: u32 = 0,
    count: u32 = 0,

    fn slice(self: *const Changed) []const u32 {
        if (self.count == 0) return &.{}; // an empty arena has no address
        const many: [*]const u32 = @ptrFromInt(self.rows);
        return many[0..self.count];
    }
};

fn countRow(changed: *Changed, address: u32) void {
    const item = record.of(address);
    if (item.number() >= schema.tables.len) return;
    const under = item.under();
    const unchanged = if (item.gone()) under == 0 else under != 0 and record.equal(record.of(under).row(), item.row());
    if (unchanged) item.flags |= record.same else changed.count += 1;
}

fn listRow(changed: *Changed, address: u32) void {
    const item = record.of(address);
    if (item.number() >= schema.tables.len or item.flags & record.same != 0) return;
    memory.at(u32, changed.rows + 4 * changed.count).* = address;
    changed.count += 1;
}

/// Places in the tree for the rows that are new there.
fn makeLeaves(changed: []const u32) void {
    var waiting: u32 = 0;
    for (changed) |address| {
        const item = record.of(address);
        if (item.under() != 0) continue;
        item.link = merkle.makeLeaf();
        if (waiting == 0) {
            waiting = address;
            continue;
        }
        const other = record.of(waiting);
        merkle.pathsOf(other.key(), leafPath(other.link), item.key(), leafPath(item.link));
        waiting = 0;
    }
    if (waiting != 0) merkle.pathOf(record.of(waiting).key(), leafPath(record.of(waiting).link));
}

fn leafPath(leaf: u32) *keccak.Digest {
    return &memory.at(merkle.Leaf, leaf).path;
}

fn rowUpdate(item: *const record.Record) merkle.Update {
    const under = item.under();
    const leaf = if (under == 0) item.link else record.of(under).link;
    var update = updateOf(leaf, item.row());
    if (item.gone()) {
        update.gone = 1;
        merkle.dropLeaf(leaf);
    }
    return update;
}

/// Event root after the events of the batch. A link of the chain is hashed beside the event after it.
fn extendEvents() void {
    event_root = base_event_root;
    var digest: keccak.Digest = undefined;
    var event = memory.at(imports.Event, state.now.first_event);
    hashEvent(event, &digest);
    while (@intFromPtr(event) != state.now.last_event) {
        event = memory.at(imports.Event, event.next);
        const link: keccak.Words = .{ .left = &event_root, .right = &digest };
        if (keccak.Short.fits(12 + event.content().len)) {
            const following = keccak.Short.of(&headOf(event), event.content());
            keccak.hashTwo(link, following, &event_root, &digest);
        } else {
            keccak.hashOne(link, &event_root);
            hashEvent(event, &digest);
        }
    }
    keccak.hashOne(keccak.Words{ .left = &event_root, .right = &digest }, &event_root);
}

const EventHead = [12]u8;

inline fn headOf(event: *const imports.Event) EventHead {
    var head: EventHead = undefined;
    std.mem.writeInt(u64, head[0..8], event.sequence, .big);
    std.mem.writeInt(u32, head[8..12], event.topic, .big);
    return head;
}

fn hashEvent(event: *const imports.Event, out: *keccak.Digest) void {
    var hasher: keccak.Hasher = .{};
    hasher.update(&headOf(event));
    hasher.update(event.content());
    hasher.final(out);
}

// -- commit ----------------------------------------------------------------------------------------------------------

/// Make the batch the base; `finish` or `finishLate` came before. `turn` goes with the messages that are handed over,
/// unless they were taken already.
pub fn commit(turn: u64, with_messages: bool) void {
    changes.commit(turn, with_messages);
    if (history.wanted) history.commit();
    layer.each({}, merge);
    if (rooted and !late) merkle.keep(&root);
    base_event_root = event_root;
    if (state.now.amounts != state.base_amounts) {
        const size = 32 * @as(u32, @intCast(schema.slots.len));
        @memcpy(memory.bytesAt(state.base_amounts, size), memory.bytesAt(state.now.amounts, size));
    }
    state.base_rows = state.now.rows;
    state.base_bytes = state.now.row_bytes;
    lookup.grow(state.base_rows, @intCast(schema.tables.len));
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
    if (item.number() < schema.tables.len) {
        if (item.flags & record.same == 0) mergeRow(item);
        return;
    }
    if (item.gone()) {
        const old = Base.remove(&state.base_root, item.key());
        if (old != 0) record.drop(old);
        return;
    }
    const old = Base.insert(&state.base_root, record.make(item.key(), "", item.flags, item.link));
    if (old != 0) record.drop(old);
}

fn mergeRow(item: *const record.Record) void {
    const under = item.under();
    if (under == 0) {
        const leaf = if (late) late_rows.came() else item.link;
        const made = record.make(item.key(), item.row(), record.committed, leaf);
        _ = Base.insert(&state.base_root, made);
        state.table_rows[item.number()] += 1;
        lookup.add(made);
        changes.came(record.of(made));
        if (leaf != 0) memory.at(merkle.Leaf, leaf).row = made;
        return;
    }
    const old = record.of(under);
    changes.before(item.key(), old);
    if (late) late_rows.changed(old.link);
    if (item.gone()) {
        if (late) late_rows.gone(old.link);
        state.table_rows[item.number()] -= 1;
        lookup.replace(under, 0);
        changes.gone(old.next);
        record.drop(Base.remove(&state.base_root, item.key()));
    } else if (old.row_len == item.row_len) { // the usual change of a row: in place
        memory.copy(@ptrFromInt(under + record.header), item.row());
    } else {
        const made = record.make(item.key(), item.row(), record.committed, old.link);
        _ = Base.insert(&state.base_root, made);
        lookup.replace(under, made);
        changes.moved(old.next, record.of(made));
        if (old.link != 0) memory.at(merkle.Leaf, old.link).row = made;
        record.drop(under);
    }
}
