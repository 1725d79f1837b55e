//! What the benchmarks of derivation run: a transfer changes two balances and appends one row of history; a record
//! only appends, and a payment only changes. Nothing is refused, so that the SQL it is compared with has no checks to leave out.

const scapp = @import("scapp");

pub const name = "transfer";
pub const version = "1.0.0";

const Account = struct {
    id: i32,
    balance: i64,

    pub const table = .{ .name = "account", .key = 1 };
};

const History = struct {
    sequence: i64,
    sender: i32,
    recipient: i32,
    amount: i64,

    pub const table = .{ .name = "history", .key = 1 };
};

pub const db = scapp.Database(.{ Account, History });

const Body = struct { sender: i32, recipient: i32, amount: i64 };
pub const Message = union(enum) { transfer: Body, record: Body, payment: Body };
pub const Params = struct {};

pub fn open(_: *const scapp.Context, _: scapp.Opening(Params)) scapp.Rejection!void {}

pub fn message(ctx: *const scapp.Context, msg: Message) scapp.Rejection!void {
    const body = switch (msg) {
        inline else => |inner| inner,
    };
    if (msg != .record) {
        add(body.sender, -body.amount);
        add(body.recipient, body.amount);
    }
    if (msg == .payment) return;
    _ = db.put(History{
        .sequence = @intCast(ctx.sequence),
        .sender = body.sender,
        .recipient = body.recipient,
        .amount = body.amount,
    });
}

fn add(id: i32, amount: i64) void {
    const balance = if (db.get(Account, .{id})) |account| account.balance else 0;
    _ = db.put(Account{ .id = id, .balance = balance + amount });
}
