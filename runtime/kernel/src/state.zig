//! What a message and a batch may change, and how it is undone: everything that counts hangs on one small value, saved
//! before a message starts. Undoing is writing it back; it relies on nothing that a trapped message touched.

const layer = @import("layer.zig");
const memory = @import("memory.zig");
const tree = @import("tree.zig");

pub const State = extern struct {
    overlay: u32 = 0, // root of what the message wrote; what earlier ones of the batch wrote is in `layer`
    rows: u32 = 0,
    accepted: u32 = 0, // messages of this batch
    row_bytes: u64 = 0,
    amounts: u32 = 0, // one word for each slot
    first_event: u32 = 0,
    last_event: u32 = 0,
    writes: u32 = 0, // the records written by this message, the latest first
    events: u32 = 0, // of this message
    logs: u32 = 0,
    rejected: u32 = 0, // where its reason lies
    cursors: u32 = 0, // bit n: cursor n is open
    top: memory.Mark = .{},
};

pub const Phase = struct {
    pub const idle: u32 = 0; // no guest frame on the stack
    pub const alloc: u32 = 1; // in scapp_alloc
    pub const reduce: u32 = 2; // in scapp_reduce: imports work
};

/// After the last commit.
pub var base_root: u32 = 0;
pub var base_rows: u32 = 0;
pub var base_bytes: u64 = 0;
pub var table_rows: [64]u32 = @splat(0); // of `base_rows`, by table
pub var base_amounts: u32 = 0;

pub var now: State = .{};
var saved: State = .{};
pub var phase: u32 = Phase.idle;
pub var fuel: u64 = 0; // what imports may still spend
pub var kind: u8 = 0; // of the message that runs
pub var found: u32 = 0; // the row looked up last, while nothing was written since
pub var under: u32 = 0; // the row of the base with the key looked up last
pub var message: u32 = 0; // its place in the batch
pub var sequence: u64 = 0; // its place in the log

pub const arena = &tree.Batch.arena;
/// Log lines and reasons: kept when the message they are of is undone.
pub var notes: memory.Arena = .{};
pub var last_note: u32 = 0; // each links to the one before

/// Start a batch on the base, forgetting another one.
pub fn open() void {
    phase = Phase.idle;
    arena.clear(arena_pages_kept);
    layer.clear();
    notes.clear(1);
    last_note = 0;
    now = .{ .rows = base_rows, .row_bytes = base_bytes, .amounts = base_amounts };
}

const arena_pages_kept = 32;

/// A message starts.
pub fn begin(allowance: u64) void {
    tree.Message.arena.reset(.{});
    now.overlay = 0;
    found = 0;
    now.writes = 0;
    now.events = 0;
    now.logs = 0;
    now.rejected = 0;
    now.cursors = 0;
    now.top = arena.mark();
    saved = now;
    fuel = allowance;
}

/// The message did not happen.
pub fn undo() void {
    phase = Phase.idle;
    now = saved;
    arena.reset(saved.top);
}
