//! The module's exports, over the reducer file imported as `app`; compiled as the root of every reducer.

const std = @import("std");
const app = @import("app");
const scapp = @import("scapp");

const abi = scapp.internal.abi;
const memory = scapp.internal.memory;
const manifest = scapp.internal.manifest.json(app);
const Params = if (@hasDecl(app, "Params")) app.Params else scapp.NoParams;

/// A failed safety check (overflow, bad index, unreachable) says so in the log and traps; the host undoes the message.
pub const panic = std.debug.FullPanic(struct {
    fn panic(text: []const u8, _: ?usize) noreturn {
        abi.log(0, text.ptr, text.len);
        @trap();
    }
}.panic);

export fn scapp_manifest() u64 {
    return @as(u64, @intFromPtr(manifest.ptr)) << 32 | manifest.len;
}

export fn scapp_alloc(len: u32) u32 {
    memory.reset();
    return @intFromPtr(memory.alloc(u64, (len + 7) / 8).ptr);
}

export fn scapp_reduce(ptr: u32, len: u32) u32 {
    const start: [*]const u8 = @ptrFromInt(ptr);
    reduce(start[0..len]) catch return 1;
    return 0;
}

fn reduce(buffer: []const u8) scapp.Rejection!void {
    const ctx = scapp.Context.of(buffer);
    const payload = buffer[abi.header_bytes..];
    switch (ctx.kind) {
        .open => try app.open(&ctx, try scapp.decode(scapp.Opening(Params), payload)),
        .message => try app.message(&ctx, try scapp.decode(app.Message, payload)),
        .tick => if (@hasDecl(app, "tick")) try app.tick(&ctx) else return scapp.reject("this app takes no ticks", .{}),
        else => return scapp.reject("entries of kind {d} are unknown here", .{@backingInt(ctx.kind)}),
    }
}
