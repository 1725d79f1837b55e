//! NAME: anybody adds points to a name, up to a limit agreed when the channel opens. Start from here.

const scapp = @import("scapp");

pub const name = "NAME";
pub const version = "0.1.0";

const Score = struct {
    who: []const u8,
    points: i64,
    last_by: scapp.Address,

    pub const table = .{ .name = "score", .key = 1 };
};

const Rule = struct {
    id: i16 = 1,
    most: i64,

    pub const table = .{ .name = "rule", .key = 1 };
};

pub const db = scapp.Database(.{ Score, Rule });

pub const Params = struct { most: i64 = 10 };

pub const Message = union(enum) {
    add: struct { who: []const u8, points: i64 = 1 },
    clear: struct { who: []const u8 },
};

pub fn open(_: *const scapp.Context, opening: scapp.Opening(Params)) scapp.Rejection!void {
    _ = db.put(Rule{ .most = opening.params.most });
}

pub fn message(ctx: *const scapp.Context, msg: Message) scapp.Rejection!void {
    switch (msg) {
        .add => |body| try add(ctx, body.who, body.points),
        .clear => |body| if (!db.delete(Score, .{body.who})) return scapp.reject("nobody is called '{s}'", .{body.who}),
    }
}

fn add(ctx: *const scapp.Context, who: []const u8, points: i64) scapp.Rejection!void {
    const most = db.get(Rule, .{1}).?.most;
    if (points < 1 or points > most) return scapp.reject("points is {d}: allowed are 1 to {d}", .{ points, most });
    const before = if (db.get(Score, .{who})) |score| score.points else 0;
    _ = db.put(Score{ .who = who, .points = before + points, .last_by = ctx.address });
    scapp.emit("added", .{ .who = who, .points = points });
}
