//! What K1 is compared with: the same counters in the module's own memory, one message a call, and the changed row as
//! the answer, as a host drives a module through the engine's public API.

var message: [64]u8 align(8) = undefined;
var row: [3]i64 = undefined;
var totals: [10_000]i64 = @splat(0);

export fn alloc(_: u32) u32 {
    return @intFromPtr(&message);
}

export fn reduce(pointer: u32, _: u32) u64 {
    const words: [*]const i64 = @ptrFromInt(pointer);
    const id: u32 = @intCast(words[0]);
    totals[id] +%= words[1];
    row = .{ words[0], totals[id], words[1] };
    return @as(u64, @intFromPtr(&row)) << 32 | @sizeOf(@TypeOf(row));
}
