//! Linear memory: page regions, a heap for what is committed, arenas for what a batch may still undo.
//!
//! The heap is changed only while no reducer frame is on the stack, because a trap may strike anywhere above such a
//! frame. Arenas may grow there: a region is taken with one store, and its chunk linked, in straight-line code, where no
//! trap can strike (fuel and stack are checked at function entries and loop heads only).

const failure = @import("failure.zig");

pub const page_bytes: u32 = 65536;

pub inline fn at(comptime T: type, address: u32) *T {
    return @ptrFromInt(address);
}

pub inline fn bytesAt(address: u32, length: u32) []u8 {
    const many: [*]u8 = @ptrFromInt(address);
    return many[0..length];
}

pub inline fn aligned(size: u32, comptime to: u32) u32 {
    return (size + (to - 1)) & ~@as(u32, to - 1);
}

/// Copy between places that do not overlap. The engine's own instruction costs a call, which short copies do not repay.
pub inline fn copy(to: [*]u8, from: []const u8) void {
    if (from.len > 128) return move(@intFromPtr(to), @intFromPtr(from.ptr), from.len);
    var i: usize = 0;
    if (from.len >= 8) {
        while (i + 8 < from.len) : (i += 8) store(u64, to + i, load(u64, from.ptr + i));
        // The last eight bytes, some of them again.
        return store(u64, to + from.len - 8, load(u64, from.ptr + from.len - 8));
    }
    if (from.len >= 4) {
        store(u32, to, load(u32, from.ptr));
        return store(u32, to + from.len - 4, load(u32, from.ptr + from.len - 4));
    }
    while (i < from.len) : (i += 1) to[i] = from[i];
}

/// A number that lies anywhere.
pub inline fn load(comptime T: type, from: [*]const u8) T {
    return @as(*align(1) const T, @ptrCast(from)).*;
}

pub inline fn store(comptime T: type, to: [*]u8, value: T) void {
    @as(*align(1) T, @ptrCast(to)).* = value;
}

/// The engine's copy, for what is long or may overlap.
pub fn move(to: u32, from: u32, length: u32) void {
    asm volatile (
        \\ local.get %[to]
        \\ local.get %[from]
        \\ local.get %[length]
        \\ memory.copy 0, 0
        :
        : [to] "r" (to),
          [from] "r" (from),
          [length] "r" (length),
        : .{ .memory = true });
}

/// Set bytes to zero.
pub fn wipe(address: u32, length: u32) void {
    asm volatile (
        \\ local.get %[address]
        \\ i32.const 0
        \\ local.get %[length]
        \\ memory.fill 0
        :
        : [address] "r" (address),
          [length] "r" (length),
        : .{ .memory = true });
}

inline fn pagesFor(size: u32) u32 {
    return @intCast((@as(u64, size) + page_bytes - 1) / page_bytes);
}

// -- regions: whole pages, in address order, neighbours joined -----------------------------------------------------

const Region = extern struct { next: u32, pages: u32 };
var regions: u32 = 0;
var known_pages: u32 = 0; // memory beyond belongs to nobody yet

pub fn init() void {
    known_pages = @intCast(@wasmMemorySize(0));
}

inline fn grow(pages: u32) u32 {
    const old = @wasmMemoryGrow(0, pages);
    if (old < 0) failure.outOfMemory();
    known_pages = @as(u32, @intCast(old)) + pages;
    return @as(u32, @intCast(old)) * page_bytes;
}

fn takePages(pages: u32) u32 {
    var link: *u32 = &regions;
    while (link.* != 0) {
        const address = link.*;
        const region = at(Region, address);
        if (region.pages == pages) {
            link.* = region.next;
            return address;
        }
        if (region.pages > pages) {
            region.pages -= pages;
            return address + region.pages * page_bytes;
        }
        link = &region.next;
    }
    return grow(pages);
}

fn givePages(address: u32, pages: u32) void {
    var previous: u32 = 0;
    var next = regions;
    while (next != 0 and next < address) {
        previous = next;
        next = at(Region, next).next;
    }
    const region = at(Region, address);
    region.* = .{ .next = next, .pages = pages };
    if (next != 0 and address + pages * page_bytes == next) {
        region.pages += at(Region, next).pages;
        region.next = at(Region, next).next;
    }
    if (previous == 0) {
        regions = address;
        return;
    }
    const before = at(Region, previous);
    if (previous + before.pages * page_bytes == address) {
        before.pages += region.pages;
        before.next = region.next;
    } else before.next = address;
}

// -- heap: size classes, freed blocks kept by class ------------------------------------------------------------------

const small_max: u32 = 1024; // classes of 16 bytes up to here, then four to a doubling
const block_max: u32 = 32768; // larger ones are page regions
const small_classes = small_max / 16;
var lists: [small_classes + 20]u32 = @splat(0);
var fresh: u32 = 0;
var fresh_end: u32 = 0;

const Class = struct { index: u32, size: u32 };

inline fn classOf(size: u32) Class {
    if (size <= small_max) {
        const rounded = aligned(@max(size, 16), 16);
        return .{ .index = rounded / 16 - 1, .size = rounded };
    }
    const octave: u5 = @intCast(31 - @clz(size - 1)); // size is in (2^octave, 2^(octave+1)]
    const step = @as(u32, 1) << (octave - 2);
    const rounded = (size + step - 1) & ~(step - 1);
    const quarter = (rounded - (@as(u32, 1) << octave)) / step; // 1 to 4
    return .{ .index = small_classes + (@as(u32, octave) - 10) * 4 + quarter - 1, .size = rounded };
}

/// Aligned to 16, uninitialised. Never while a reducer frame is on the stack.
pub inline fn alloc(size: u32) u32 {
    if (size > block_max) return takePages(pagesFor(size));
    const class = classOf(size);
    const head = lists[class.index];
    if (head != 0) {
        lists[class.index] = at(u32, head).*;
        return head;
    }
    return allocFresh(class);
}

noinline fn allocFresh(class: Class) u32 {
    if (fresh_end - fresh < class.size) refill();
    const address = fresh;
    fresh += class.size;
    return address;
}

fn refill() void {
    while (fresh_end - fresh >= 16) { // what is left goes to the classes it fills
        const left = @min(fresh_end - fresh, small_max);
        push(fresh, left / 16 - 1);
        fresh += left;
    }
    fresh = takePages(1);
    fresh_end = fresh + page_bytes;
}

inline fn push(address: u32, class: u32) void {
    at(u32, address).* = lists[class];
    lists[class] = address;
}

/// Give back what `alloc` gave for this size.
pub inline fn free(address: u32, size: u32) void {
    if (size > block_max) return givePages(address, pagesFor(size));
    push(address, classOf(size).index);
}

// -- arenas ----------------------------------------------------------------------------------------------------------

const Chunk = extern struct { next: u32, end: u32 };
const chunk_header: u32 = 16;

/// A position to come back to.
pub const Mark = extern struct { chunk: u32 = 0, top: u32 = 0 };

pub const Arena = struct {
    first: u32 = 0,
    chunk: u32 = 0,
    top: u32 = 0,
    end: u32 = 0,

    /// Aligned to 8, uninitialised; traps when memory is exhausted.
    pub inline fn alloc(self: *Arena, size: u32) u32 {
        const room = aligned(size, 8);
        if (self.end - self.top < room) self.advance(room);
        const address = self.top;
        self.top += room;
        return address;
    }

    /// Give back the end of the latest allocation, of which `used` bytes are kept.
    pub inline fn trim(self: *Arena, address: u32, used: u32) void {
        self.top = address + aligned(used, 8);
    }

    noinline fn advance(self: *Arena, size: u32) void {
        if (size > 1 << 30) failure.outOfMemory();
        const next = if (self.chunk == 0) self.first else at(Chunk, self.chunk).next;
        if (next != 0 and at(Chunk, next).end - next - chunk_header >= size) return self.enter(next);
        const pages = pagesFor(size + chunk_header);
        const address = takePages(pages);
        at(Chunk, address).* = .{ .next = next, .end = address + pages * page_bytes };
        if (self.chunk == 0) self.first = address else at(Chunk, self.chunk).next = address;
        self.enter(address);
    }

    inline fn enter(self: *Arena, chunk: u32) void {
        self.chunk = chunk;
        self.top = chunk + chunk_header;
        self.end = at(Chunk, chunk).end;
    }

    pub fn mark(self: *const Arena) Mark {
        return .{ .chunk = self.chunk, .top = self.top };
    }

    pub fn reset(self: *Arena, to: Mark) void {
        self.chunk = to.chunk;
        self.top = to.top;
        self.end = if (to.chunk == 0) 0 else at(Chunk, to.chunk).end;
    }

    /// Empty it and keep about `keep_pages` of its memory. Never while a reducer frame is on the stack.
    pub fn clear(self: *Arena, keep_pages: u32) void {
        adopt();
        self.reset(.{});
        var kept: u32 = 0;
        var link: *u32 = &self.first;
        while (link.* != 0) {
            const address = link.*;
            const chunk = at(Chunk, address);
            const pages = (chunk.end - address) / page_bytes;
            if (kept + pages <= keep_pages) {
                kept += pages;
                link = &chunk.next;
            } else {
                link.* = chunk.next;
                givePages(address, pages);
            }
        }
    }
};

/// Memory that a trap left without an owner becomes a free region.
fn adopt() void {
    const pages: u32 = @intCast(@wasmMemorySize(0));
    if (pages == known_pages) return;
    const address = known_pages * page_bytes;
    const count = pages - known_pages;
    known_pages = pages;
    givePages(address, count);
}
