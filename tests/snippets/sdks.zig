//! The Zig of docs/reference/sdks.md and zig-sdk.md in one reducer, so that a compiler has seen it.

const scapp = @import("scapp");

pub const name = "sdks";
pub const version = "1.0.0";

const Account = struct {
    owner: scapp.Address,
    balance: u256,
    note: ?[]const u8,

    pub const table = .{
        .name = "account",
        .key = 1, // leading fields that form the primary key
        .indexes = .{.{ .name = "account_by_balance", .columns = .{"balance"}, .unique = false }},
        .history = true, // every version of its rows is kept in the database; false when left out
    };
};

const Pair = struct {
    left: i32,
    right: []const u8,
    value: i32,

    pub const table = .{ .name = "pair", .key = 2, .indexes = .{.{ .name = "by_value", .columns = .{"value"} }} };
};

const Every = struct {
    id: i16 = 0,
    flag: bool = false,
    medium: ?i32 = null,
    large: i64 = 0,
    word: u64 = 0,
    wide: u128 = 0,
    ratio: f64 = 0,
    colour: enum { red, green } = .red,
    blob: scapp.Bytes,
    hash: scapp.Bytes32 = .zero,
    uid: scapp.Uuid = .zero,
    at: scapp.Timestamp,
    doc: scapp.Json,

    pub const table = .{ .name = "every", .key = 1 };
};

pub const db = scapp.Database(.{ Account, Pair, Every });

pub const views = .{.{ .name = "holder", .table = "account", .columns = .{"owner"} }};

pub const Params = struct { most: i64 = 10 };

comptime {
    _ = scapp.Opening(scapp.NoParams); // what `open` takes where there are no Params
}

pub const Message = union(enum) {
    add: struct { who: []const u8, points: i64 = 1, items: []const struct { x: i32 }, corners: [4]u8 },
    pass,
};

pub fn open(ctx: *const scapp.Context, opening: scapp.Opening(Params)) scapp.Rejection!void {
    const participants: []const scapp.Address = opening.participants;
    const slots: []const scapp.Slot = opening.slots;
    if (slots.len > 0) _ = .{ slots[0].asset, slots[0].destination, slots[0].amount, slots[0].payee() };
    const x = opening.params.most;
    if (x < participants.len) return scapp.reject("{d}", .{x});
    try note(ctx, ctx.channel_id.bytes[0..]);
}

pub fn message(ctx: *const scapp.Context, msg: Message) scapp.Rejection!void {
    const o = ctx.address;
    switch (msg) {
        .add => |body| {
            try note(ctx, body.who);
            const row = db.get(Account, .{o}) orelse Account{ .owner = o, .balance = 0, .note = null };
            const x, const overflowed = @addWithOverflow(row.balance, @as(u256, @intCast(body.points)));
            if (overflowed != 0) {
                const b = row.balance;
                return scapp.reject("balance is {d}", .{b});
            }
            _ = db.put(Account{ .owner = o, .balance = x, .note = row.note });
            scapp.emit("t", .{ .a = x });
            const value = body.corners[0];
            scapp.emit("topic", .{ .field = value });
            scapp.emitRaw("topic", body.who);
        },
        .pass => {
            if (!db.delete(Account, .{o})) return scapp.reject("{d}", .{ctx.author});
            scapp.log(.info, "{t} at {d}", .{ ctx.kind, ctx.sequence });
        },
    }
}

pub fn tick(ctx: *const scapp.Context) scapp.Rejection!void {
    scapp.log(.info, "tick", .{});
    var rows = db.scan(Pair, .{ .prefix = .{1} });
    var sum: i64 = 0;
    while (rows.next()) |row| sum += row.value;
    const last = db.first(Pair, .{ .from = .{ 1, "a" }, .to = .{2}, .to_inclusive = true, .backwards = true });
    if (last) |row| sum += row.value;
    var ordered: scapp.Rows(Pair) = db.scan(Pair, .{ .index = "by_value" });
    while (ordered.next()) |row| sum -= row.value;
    const amounts = [_]u256{ 1, 2 };
    scapp.setOutcome(&amounts);
    _ = db.put(Pair{ .left = 1, .right = scapp.format("{d}", .{sum}), .value = 0 });
    const salt, const round, const v = .{ scapp.keccak256("salt"), 1, "value" };
    const slice = scapp.alloc(u8, 4);
    @memcpy(slice, "null");
    _ = db.put(Every{
        .blob = .{ .data = slice },
        .hash = scapp.commitment(ctx, salt, round, v),
        .at = .fromMs(ctx.time_ms),
        .doc = .{ .text = slice },
    });
}

fn note(ctx: *const scapp.Context, text: []const u8) scapp.Rejection!void {
    const row = db.get(Every, .{0}) orelse return;
    if (row.at.toMs() > ctx.time_ms or row.hash.eql(scapp.sha256(text))) return scapp.reject("{f} {s}", .{ row.uid, row.doc.text });
    const slice = text[0..20];
    if (row.blob.data.len > 0 and scapp.Address.of(slice).eql(.zero)) return scapp.reject("{x}", .{row.hash.bytes});
}
