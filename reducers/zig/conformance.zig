//! Calls every import of `scapp_1` with values of the sender's choosing, so that a test can see what each host makes
//! of them. Not an app: its messages are probes. Built to tests/golden/conformance.wasm.

const scapp = @import("scapp");

const abi = scapp.internal.abi;

pub const name = "conformance";
pub const version = "1.0.0";

/// One column of each type.
const Every = struct {
    id: i64,
    flag: bool,
    small: i16,
    medium: i32,
    amount: u256,
    word: u64,
    ratio: f64,
    title: []const u8,
    blob: scapp.Bytes,
    hash: scapp.Bytes32,
    owner: scapp.Address,
    uid: scapp.Uuid,
    at: scapp.Timestamp,
    doc: scapp.Json,
    colour: enum { red, green, blue },
    note: ?[]const u8,

    pub const table = .{
        .name = "every",
        .key = 1,
        .indexes = .{
            .{ .name = "every_by_title", .columns = .{ "title", "id" } },
            .{ .name = "every_by_note", .columns = .{"note"}, .unique = true },
        },
    };
};

const Pair = struct {
    left: i32,
    right: []const u8,
    value: i32,

    pub const table = .{
        .name = "pair",
        .key = 2,
        .indexes = .{.{ .name = "pair_by_value", .columns = .{"value"} }},
        .history = true,
    };
};

/// What probes found out, one row per message.
const Result = struct {
    sequence: i64,
    text: []const u8,

    pub const table = .{ .name = "result", .key = 1 };
};

pub const db = scapp.Database(.{ Every, Pair, Result });

pub const Params = struct { greeting: []const u8 = "hello" };

pub const Message = union(enum) {
    every: struct {
        id: i64,
        flag: bool,
        small: i16,
        medium: i32,
        amount: u256,
        word: u64,
        ratio: f64,
        title: []const u8,
        blob: scapp.Bytes,
        hash: scapp.Bytes32,
        owner: scapp.Address,
        uid: scapp.Uuid,
        at: scapp.Timestamp,
        doc: scapp.Json,
        colour: enum { red, green, blue },
        note: ?[]const u8,
    },
    copy: struct { from: i64, to: i64 },
    remove: struct { id: i64 },
    put_pairs: struct { pairs: []const struct { left: i32, right: []const u8, value: i32 } },
    scan_pairs: struct { left: ?i32 = null, from: ?i32 = null, to: ?i32 = null, inclusive: bool = false, backwards: bool = false },
    scan_values: struct { from: i32, to: i32, backwards: bool = false },
    scan_while_deleting,
    pay: struct { amounts: []const u256 },
    hash_both: struct { data: scapp.Bytes },
    hide: struct { salt: scapp.Bytes32, round: u64, value: scapp.Bytes },
    speak: struct { level: enum { err, warn, info, debug }, text: []const u8 },
    announce: struct { topic: []const u8, data: scapp.Bytes },
    announce_values: struct { a: i64, b: u256, c: ?bool, d: []const u8 },
    refuse_but_accept: struct { reason: []const u8 },
    move: struct { x: i32, y: i32 },
    context,
    overflow: struct { by: i32 },
    recurse: struct { depth: u32 },
    devour: struct { bytes: u32 },
    /// Calls an import with raw numbers: bad tables, pointers and lengths.
    raw: struct { import: enum { get, put, delete, scan, next, emit, set_outcome, keccak256 }, table: u32, ptr: u32, len: u32 },
};

pub fn open(ctx: *const scapp.Context, opening: scapp.Opening(Params)) scapp.Rejection!void {
    if (opening.params.greeting.len == 0) return scapp.reject("greeting is empty", .{});
    try note(ctx, "{s} {d} participants {d} slots", .{ opening.params.greeting, opening.participants.len, opening.slots.len });
}

pub fn message(ctx: *const scapp.Context, msg: Message) scapp.Rejection!void {
    switch (msg) {
        .every => |b| _ = db.put(Every{
            .id = b.id,
            .flag = b.flag,
            .small = b.small,
            .medium = b.medium,
            .amount = b.amount,
            .word = b.word,
            .ratio = b.ratio,
            .title = b.title,
            .blob = b.blob,
            .hash = b.hash,
            .owner = b.owner,
            .uid = b.uid,
            .at = b.at,
            .doc = b.doc,
            .colour = @fromBackingInt(@intCast(@backingInt(b.colour))),
            .note = b.note,
        }),
        .copy => |b| {
            var row = db.get(Every, .{b.from}) orelse return scapp.reject("no row {d}", .{b.from});
            row.id = b.to;
            row.note = null;
            try note(ctx, "replaced {}", .{db.put(row)});
        },
        .remove => |b| try note(ctx, "existed {}", .{db.delete(Every, .{b.id})}),
        .put_pairs => |b| for (b.pairs) |p| {
            _ = db.put(Pair{ .left = p.left, .right = p.right, .value = p.value });
        },
        .scan_pairs => |b| try scanPairs(ctx, b),
        .scan_values => |b| try list(ctx, db.scan(Pair, .{ .index = "pair_by_value", .from = .{b.from}, .to = .{b.to}, .backwards = b.backwards })),
        .scan_while_deleting => {
            var rows = db.scan(Pair, .{});
            while (rows.next()) |row| {
                _ = db.delete(Pair, .{ row.left, row.right });
                _ = db.delete(Pair, .{ row.left + 1, row.right });
            }
        },
        .pay => |b| scapp.setOutcome(b.amounts),
        .hash_both => |b| try note(ctx, "{f} {f}", .{ scapp.keccak256(b.data.data), scapp.sha256(b.data.data) }),
        .hide => |b| try note(ctx, "{f}", .{scapp.commitment(ctx, b.salt, b.round, b.value.data)}),
        .speak => |b| scapp.log(@fromBackingInt(@intCast(@backingInt(b.level))), "{s}", .{b.text}),
        .announce => |b| scapp.emitRaw(b.topic, b.data.data),
        .announce_values => |b| scapp.emit("values", .{ .a = b.a, .b = b.b, .c = b.c, .d = b.d, .list = .{ b.a, b.d } }),
        .refuse_but_accept => |b| abi.reject(b.reason.ptr, b.reason.len),
        .move => |b| try note(ctx, "{d} {d}", .{ b.x, b.y }),
        .context => try describe(ctx),
        .overflow => |b| try note(ctx, "{d}", .{@as(i32, 2147483647) + b.by}),
        .recurse => |b| {
            var frame: [16]u32 = @splat(b.depth + 1);
            try note(ctx, "{d}", .{deep(b.depth, &frame)});
        },
        .devour => |b| try note(ctx, "{d}", .{scapp.alloc(u8, b.bytes).len}),
        .raw => |b| raw(b),
    }
}

pub fn tick(ctx: *const scapp.Context) scapp.Rejection!void {
    try describe(ctx);
}

fn describe(ctx: *const scapp.Context) scapp.Rejection!void {
    try note(ctx, "{t} {d} {f} {f} {d} {d}", .{ ctx.kind, ctx.author, ctx.address, ctx.channel_id, ctx.sequence, ctx.time_ms });
}

fn note(ctx: *const scapp.Context, comptime template: []const u8, args: anytype) scapp.Rejection!void {
    _ = db.put(Result{ .sequence = @intCast(ctx.sequence), .text = scapp.format(template, args) });
}

fn list(ctx: *const scapp.Context, opened: scapp.Rows(Pair)) scapp.Rejection!void {
    var rows = opened;
    var text: []const u8 = "";
    while (rows.next()) |row| text = scapp.format("{s}{d}{s}={d} ", .{ text, row.left, row.right, row.value });
    try note(ctx, "{s}", .{text});
}

fn scanPairs(ctx: *const scapp.Context, b: @FieldType(Message, "scan_pairs")) scapp.Rejection!void {
    if (b.left) |left| return list(ctx, db.scan(Pair, .{ .prefix = .{left}, .backwards = b.backwards }));
    const from = b.from orelse return list(ctx, db.scan(Pair, .{ .backwards = b.backwards }));
    const to = b.to orelse return list(ctx, db.scan(Pair, .{ .from = .{from}, .backwards = b.backwards }));
    try list(ctx, db.scan(Pair, .{ .from = .{from}, .to = .{to}, .to_inclusive = b.inclusive, .backwards = b.backwards }));
}

/// Each level keeps 64 bytes of stack in use, because the level below reads them.
fn deep(depth: u32, above: *volatile [16]u32) u32 {
    var frame: [16]u32 = @splat(depth);
    if (depth == 0) return above[3] - 1;
    return 1 + @call(.never_inline, deep, .{ depth - 1, &frame }) + above[7] - depth - 1;
}

fn raw(b: @FieldType(Message, "raw")) void {
    const ptr: [*]allowzero u8 = @ptrFromInt(b.ptr);
    const start: [*]u8 = @ptrCast(ptr);
    switch (b.import) {
        .get => _ = abi.get(b.table, start, b.len, start, 0),
        .put => _ = abi.put(b.table, start, b.len),
        .delete => _ = abi.delete(b.table, start, b.len),
        .scan => _ = abi.scan(b.table, start, b.len, start, 0, b.ptr),
        .next => _ = abi.next(b.table, start, b.len),
        .emit => abi.emit(start, b.len, start, b.len),
        .set_outcome => abi.set_outcome(start, b.len),
        .keccak256 => abi.keccak256(start, b.len, start),
    }
}
