//! The kernel of one channel: its tables, index entries, state tree and the loop over a batch. What the host calls
//! stands here; `imports.zig` holds what the reducer calls. The host side is scapp/runtime/native.

const batch = @import("batch.zig");
const changes = @import("changes.zig");
const failure = @import("failure.zig");
const history = @import("history.zig");
const imports = @import("imports.zig");
const keccak = @import("keccak.zig");
const layer = @import("layer.zig");
const lookup = @import("lookup.zig");
const memory = @import("memory.zig");
const merkle = @import("merkle.zig");
const output = @import("output.zig");
const record = @import("record.zig");
const rows = @import("rows.zig");
const schema = @import("schema.zig");
const state = @import("state.zig");
const tree = @import("tree.zig");

comptime {
    _ = imports; // its exports
}

/// What the host reads after a call; its address never changes.
const Report = extern struct {
    phase: u32 = 0,
    message: u32 = 0,
    failure_code: u32 = 0,
    failure_detail: u32 = 0,
    call: imports.Call = .{},
    open_cursors: u32 = 0,
    events: u32 = 0,
    rows: u32 = 0,
    row_bytes: u64 = 0,
    accepted: u32 = 0,
    output: u32 = 0,
    output_length: u32 = 0,
    statuses: u32 = 0,
    amounts: u32 = 0,
    last_note: u32 = 0,
    nodes_made: u32 = 0, // of the state tree, by the last finish
    has_collision: u32 = 0,
    state_root: keccak.Digest = merkle.empty, // of the batch as of the last finish
    base_state_root: keccak.Digest = merkle.empty,
    base_event_root: keccak.Digest = merkle.empty,
    base_amounts: u32 = 0,
};
var report: Report = .{};
var scratch: u32 = 0;
var scratch_size: u32 = 0;

/// Address of the report.
export fn scapp_report() u32 {
    return @intFromPtr(&report);
}

/// Bring the report up to date after a trap, or to see the base.
export fn scapp_describe() void {
    report.phase = state.phase;
    report.message = state.message;
    report.failure_code = failure.code;
    report.failure_detail = failure.detail;
    report.call = imports.call;
    report.open_cursors = state.now.cursors;
    report.events = state.now.events;
    report.rows = state.now.rows;
    report.row_bytes = state.now.row_bytes;
    report.accepted = state.now.accepted;
    report.last_note = state.last_note;
    failure.code = failure.Code.none;
    failure.detail = 0;
    imports.call.import = 0;
    base();
}

fn base() void {
    report.output = output.address;
    report.output_length = output.length;
    report.amounts = state.now.amounts;
    report.last_note = state.last_note;
    report.state_root = batch.root.hash;
    report.base_state_root = merkle.base.hash;
    report.base_event_root = batch.base_event_root;
    report.base_amounts = state.base_amounts;
}

/// Room for what the host passes to the next call.
export fn scapp_scratch(size: u32) u32 {
    if (size > scratch_size) {
        if (scratch_size > 0) memory.free(scratch, scratch_size);
        scratch_size = @max(size, 1024);
        scratch = memory.alloc(scratch_size);
    }
    return scratch;
}

/// Once, first of all, with the description in the scratch; 0 memory was used by nobody.
export fn scapp_configure(length: u32) void {
    schema.configure(memory.bytesAt(scratch, length));
    history.configure();
    batch.init();
    base();
}

export fn scapp_init() void {
    memory.init();
}

export fn scapp_track(on: u32) void {
    changes.tracking = on != 0;
}

/// Whether the reducer scans, or an index is unique: then what a batch writes is kept in order.
export fn scapp_set_ordered(on: u32) void {
    layer.ordered = on != 0;
}

export fn scapp_ignore_outcome(on: u32) void {
    imports.ignore_outcome = on != 0;
}

export fn scapp_set_rooted(on: u32) void {
    batch.rooted = on != 0;
}

// -- a batch ---------------------------------------------------------------------------------------------------------

export fn scapp_reserve(count: u32, size: u32) u32 {
    return batch.reserve(count, size);
}

/// Log root after the entries, of the one in the scratch, and in its place; returns that place.
export fn scapp_log_root(length: u32) u32 {
    batch.extendLogRoot(memory.bytesAt(scratch, length)[0..32]);
    return scratch;
}

export fn scapp_open(first_sequence: u64, allowance: u64) void {
    batch.open(first_sequence, allowance);
    report.statuses = batch.Input.statuses();
}

export fn scapp_run(first: u32, end: u32) void {
    batch.run(first, end);
}

export fn scapp_step(index: u32) u32 {
    return batch.step(index);
}

export fn scapp_settle(index: u32) void {
    batch.settle(index);
}

export fn scapp_abandon(index: u32) void {
    batch.abandon(index);
}

export fn scapp_finish() void {
    batch.finish();
    report.accepted = state.now.accepted;
    report.nodes_made = merkle.madeCount();
    base();
}

export fn scapp_finish_late() void {
    batch.finishLate();
    report.accepted = state.now.accepted;
    base();
}

export fn scapp_settle_root() void {
    batch.settleRoot();
    base();
}

export fn scapp_commit(turn: u64, with_messages: u32) void {
    batch.commit(turn, with_messages != 0);
    base();
}

export fn scapp_close() void {
    batch.close();
    base();
}

/// Rows of messages for the reserved entries to the output, as COPY tuples.
export fn scapp_messages(first_sequence: u64, turn: u64) void {
    changes.writeMessages(first_sequence, turn);
    base();
}

/// Bytes kept for the next take, roughly.
export fn scapp_held() u64 {
    return changes.held();
}

export fn scapp_take(copy_rows_min: u32) void {
    changes.take(copy_rows_min);
    base();
}

/// Log lines and reasons of the pass, the latest first: message, level, length and bytes of each.
export fn scapp_notes() void {
    var size: u32 = 0;
    var address = state.last_note;
    while (address != 0) : (address = memory.at(imports.Note, address).next) {
        size += 12 + memory.at(imports.Note, address).length;
    }
    var out = output.make(size);
    address = state.last_note;
    while (address != 0) : (address = memory.at(imports.Note, address).next) {
        const note = memory.at(imports.Note, address);
        out.word(note.message);
        out.word(note.kind);
        out.word(note.length);
        out.bytes(memory.bytesAt(address + @sizeOf(imports.Note), note.length));
    }
    base();
}

/// Length of the committed or batch row with the encoded key (number in front) in the scratch, plus one; 0 for none.
export fn scapp_row_length(length: u32) u32 {
    const found = rows.find(memory.bytesAt(scratch, length));
    return if (found == 0) 0 else record.of(found).row_len + 1;
}

// -- the base --------------------------------------------------------------------------------------------------------

/// Committed rows of a table beyond the key in the scratch (number in front), about `bytes_max` of them: how many,
/// the length of the last key and that key, then each row behind its length.
export fn scapp_rows(length: u32, bytes_max: u32) void {
    const key = memory.bytesAt(scratch, length);
    var count: u32 = 0;
    var size: u32 = 0;
    var last: u32 = 0;
    var item = nextRow(key, key);
    while (item != 0 and (count == 0 or size < bytes_max)) : (item = nextRow(key, record.of(item).key())) {
        count += 1;
        size += 4 + record.of(item).row_len;
        last = item;
    }
    const last_key = if (last == 0) key[0..0] else record.of(last).key();
    var out = output.make(8 + @as(u32, @intCast(last_key.len)) + size);
    out.word(count);
    out.word(@intCast(last_key.len));
    out.bytes(last_key);
    item = nextRow(key, key);
    for (0..count) |_| {
        const row = record.of(item);
        out.word(row.row_len);
        out.bytes(row.row());
        item = nextRow(key, row.key());
    }
    base();
}

fn nextRow(start: []const u8, after: []const u8) u32 {
    const found = tree.seek(state.base_root, after, true);
    return if (found != 0 and record.equal(record.of(found).key()[0..2], start[0..2])) found else 0;
}

/// Row and proof of the encoded key in the scratch: 1 and the row's length and bytes, or 0; then the number of siblings
/// and those; then 1 with path and row hash of another leaf in the key's place, or 0.
export fn scapp_prove(length: u32) void {
    const key = memory.bytesAt(scratch, length);
    var path: keccak.Digest = undefined;
    merkle.pathOf(key, &path);
    var siblings: [256]keccak.Digest = undefined;
    const end = merkle.walk(&path, &siblings);
    const found = lookup.find(key, lookup.hashOf(key));
    const row: []const u8 = if (found == 0) "" else record.of(found).row();
    const is_other = found == 0 and end.leaf != 0;
    const size = 12 + row.len + 4 + 32 * end.depth + 64;
    var out = output.make(@intCast(size));
    out.word(@intFromBool(found != 0));
    out.word(@intCast(row.len));
    out.bytes(row);
    out.word(end.depth);
    for (siblings[0..end.depth]) |*sibling| out.bytes(sibling);
    out.word(@intFromBool(is_other));
    if (is_other) {
        const leaf = memory.at(merkle.Leaf, end.leaf);
        var row_hash: keccak.Digest = undefined;
        if (leaf.row == 0) keccak.hash(&batch.base_event_root, &row_hash) else keccak.hash(record.of(leaf.row).row(), &row_hash);
        out.bytes(&leaf.path);
        out.bytes(&row_hash);
    }
    output.length = out.at - output.address;
    base();
}

// -- filling the base from outside -----------------------------------------------------------------------------------

/// Put rows into the open batch: `count` of them in the scratch, each behind its length. Returns 0, or the number of the
/// first one, from 1, that is malformed, beyond a limit or has the key of another.
export fn scapp_load(number: u32, count: u32) u32 {
    state.begin(0);
    defer batch.keep();
    var address = scratch;
    for (0..count) |i| {
        const length = memory.at(u32, address).*; // padded to 4 bytes
        if (length > schema.row_bytes_max) return @intCast(i + 1);
        const made = state.arena.alloc(record.header + length);
        memory.move(made + record.header, address + 4, length);
        if (rows.put(&schema.tables[number], made, length) != .inserted) return @intCast(i + 1);
        address += 4 + memory.aligned(length, 4);
    }
    report.has_collision = rows.collision();
    return 0;
}

/// Event root and amounts of the base, from the scratch.
export fn scapp_restore() void {
    batch.restore(memory.bytesAt(scratch, 32), scratch + 32);
    base();
}

// -- the shadow stack, which a trap leaves where it was ----------------------------------------------------------------

export fn scapp_stack() u32 {
    return asm volatile (
        \\ global.get __stack_pointer
        \\ local.set %[top]
        : [top] "=r" (-> u32),
    );
}

export fn scapp_set_stack(top: u32) void {
    asm volatile (
        \\ local.get %[top]
        \\ global.set __stack_pointer
        :
        : [top] "r" (top),
    );
}
