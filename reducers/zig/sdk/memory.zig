//! One arena from the end of the static data upwards, emptied before each message: what a message allocates never
//! outlives it, so nothing can be carried from one message to the next by accident.

const builtin = @import("builtin");
const std = @import("std");

const page_bytes = 65536;
var top: usize = 0;
var initial_end: usize = 0;

fn base() usize {
    // Zig's own linker, which quick builds use, does not say where the static data ends: the initial memory does.
    if (builtin.zig_backend == .stage2_wasm) {
        if (initial_end == 0) initial_end = @wasmMemorySize(0) * page_bytes;
        return initial_end;
    }
    const heap_base = @extern(*u8, .{ .name = "__heap_base" });
    return std.mem.alignForward(usize, @intFromPtr(heap_base), 16);
}

/// Forget everything allocated; called by the entry points only.
pub fn reset() void {
    top = base();
}

/// Where the arena stands, for `release`.
pub fn mark() usize {
    return top;
}

/// Give back everything allocated since `mark`.
pub fn release(position: usize) void {
    top = position;
}

/// `count` values of T, uninitialised, valid until the message ends. Traps when the deployment's memory limit is reached.
pub fn alloc(comptime T: type, count: usize) []T {
    const start = std.mem.alignForward(usize, top, @alignOf(T));
    const end = start + count * @sizeOf(T);
    const have = @wasmMemorySize(0) * page_bytes;
    if (end > have) {
        const pages = (end - have + page_bytes - 1) / page_bytes;
        if (@wasmMemoryGrow(0, pages) < 0) @panic("out of memory");
    }
    top = end;
    const many: [*]T = @ptrFromInt(start);
    return many[0..count];
}

const text_bytes_max = 4096;

/// Text from a format string, cut at 4096 bytes, valid until the message ends.
pub fn format(comptime template: []const u8, args: anytype) []const u8 {
    const position = mark();
    var writer: std.Io.Writer = .fixed(alloc(u8, text_bytes_max));
    writer.print(template, args) catch {}; // full: the rest is cut
    release(position + writer.end);
    return writer.buffered();
}
