//! MessagePack payloads as typed values, decided at compile time; what does not fit is rejected with a reason that
//! names the field. `msgpack.zig` reads the bytes.
//!
//! A message is a map of one key, the message's name, to its body: a map of fields, or their array in order. A name
//! alone is a message without fields. Bytes may also come as `0x…` text and amounts as decimal text or big-endian bin,
//! because JSON has neither.

const std = @import("std");
const host = @import("host.zig");
const memory = @import("memory.zig");
const msgpack = @import("msgpack.zig");
const types = @import("types.zig");

const Rejection = host.Rejection;
const reject = host.reject;

/// Payload of entry 0.
pub fn Opening(comptime Params: type) type {
    return struct {
        participants: []const types.Address,
        slots: []const Slot,
        params: Params,
    };
}

/// An outcome slot: who may be paid in which asset, and the amount at the start.
pub const Slot = struct {
    asset: types.Address,
    destination: types.Bytes32,
    amount: u256,

    /// The address behind the destination, or null when it is a channel.
    pub fn payee(self: Slot) ?types.Address {
        for (self.destination.bytes[0..12]) |byte| if (byte != 0) return null;
        return .of(self.destination.bytes[12..]);
    }
};

/// A whole payload as T; bytes left over are rejected.
pub fn decode(comptime T: type, payload: []const u8) Rejection!T {
    var decoder: Decoder = .{ .reader = .{ .data = payload } };
    const value = if (@typeInfo(T) == .@"union") try decoder.message(T) else try decoder.value(T, "");
    if (!decoder.reader.ended()) return reject("{d} bytes after the payload's value", .{payload.len - decoder.reader.at});
    return value;
}

const Decoder = struct {
    reader: msgpack.Reader,

    fn next(self: *Decoder) Rejection!msgpack.Item {
        return self.reader.next() catch
            reject("payload is not valid MessagePack (at byte {d} of {d})", .{ self.reader.at, self.reader.data.len });
    }

    fn message(self: *Decoder, comptime Message: type) Rejection!Message {
        const info = @typeInfo(Message).@"union";
        const item = try self.next();
        const name = switch (item) {
            .str => |alone| alone,
            .map => |count| if (count == 1) switch (try self.next()) {
                .str => |inside| inside,
                else => |key| return reject("a message's name is text, not {s}", .{describe(key)}),
            } else return reject("a message is a map of one name to a body, not of {d}", .{count}),
            else => return reject("a message is a map of one name to a body, not {s}", .{describe(item)}),
        };
        inline for (info.field_names, info.field_types) |known, Body| {
            if (std.mem.eql(u8, name, known)) {
                if (Body == void) {
                    if (item == .map) try self.emptyBody(known);
                    return @unionInit(Message, known, {});
                }
                if (item == .str) return reject("message '{s}' needs a body", .{known});
                return @unionInit(Message, known, try self.value(Body, ""));
            }
        }
        return reject("unknown message '{s}': known are {s}", .{ name, comptime join(info.field_names) });
    }

    fn emptyBody(self: *Decoder, comptime name: []const u8) Rejection!void {
        switch (try self.next()) {
            .nil => {},
            .map, .array => |count| if (count != 0) return reject("message '{s}' has no fields, not {d}", .{ name, count }),
            else => |item| return reject("message '{s}' has no fields, not {s}", .{ name, describe(item) }),
        }
    }

    /// One value; `path` names it in reasons and is empty for a message's body.
    fn value(self: *Decoder, comptime T: type, comptime path: []const u8) Rejection!T {
        if (T == []const u8) return self.text(path);
        if (T == types.Bytes) return .{ .data = try self.bytes(null, path) };
        if (T == types.Json) return .{ .text = try self.text(path) };
        if (T == types.Timestamp) return .fromMs(try self.integer(u53, path));
        if (comptime types.isScalarStruct(T)) return T.of(try self.bytes(T.byte_count, path));
        return switch (@typeInfo(T)) {
            .optional => |optional| if (self.reader.skipNil()) null else try self.value(optional.child, path),
            .bool => switch (try self.next()) {
                .bool => |flag| flag,
                else => |item| wrong(path, "true or false", item),
            },
            .int => self.integer(T, path),
            .float => self.float(path),
            .@"enum" => self.choice(T, path),
            .array => |array| self.fixedArray(T, array.child, path),
            .pointer => |pointer| self.slice(pointer.child, path),
            .@"struct" => self.fields(T, path),
            else => @compileError("a message cannot hold " ++ @typeName(T)),
        };
    }

    fn text(self: *Decoder, comptime path: []const u8) Rejection![]const u8 {
        const item = try self.next();
        if (item != .str) return wrong(path, "text", item);
        if (!std.unicode.utf8ValidateSlice(item.str)) return reject(label(path) ++ " is not valid UTF-8", .{});
        return item.str;
    }

    fn bytes(self: *Decoder, comptime size: ?usize, comptime path: []const u8) Rejection![]const u8 {
        const item = try self.next();
        const data = switch (item) {
            .bin => |data| data,
            .str => |digits| try fromHex(digits, path),
            else => return wrong(path, "bytes or 0x text", item),
        };
        if (size) |wanted| if (data.len != wanted)
            return reject(label(path) ++ " has {d} bytes, {d} are needed", .{ data.len, wanted });
        return data;
    }

    fn integer(self: *Decoder, comptime T: type, comptime path: []const u8) Rejection!T {
        const item = try self.next();
        const wide = @typeInfo(T).int.bits > 64;
        switch (item) {
            .int => |number| return std.math.cast(T, number) orelse outOfRange(T, path),
            .str => |digits| if (wide) return std.fmt.parseInt(T, digits, 10) catch
                reject(label(path) ++ " is not a whole number from 0 to 2^{d}-1: '{s}'", .{ @typeInfo(T).int.bits, digits }),
            .bin => |data| if (wide) {
                if (data.len > @sizeOf(T)) return outOfRange(T, path);
                return std.mem.readVarInt(T, data, .big);
            },
            else => {},
        }
        return wrong(path, "a whole number", item);
    }

    fn float(self: *Decoder, comptime path: []const u8) Rejection!f64 {
        return switch (try self.next()) {
            .float => |number| number,
            .int => |number| @floatFromInt(number),
            else => |item| wrong(path, "a number", item),
        };
    }

    fn choice(self: *Decoder, comptime T: type, comptime path: []const u8) Rejection!T {
        const name = try self.text(path);
        return std.meta.stringToEnum(T, name) orelse
            reject(label(path) ++ " is '{s}': allowed are {s}", .{ name, comptime join(@typeInfo(T).@"enum".field_names) });
    }

    fn arrayLength(self: *Decoder, comptime path: []const u8) Rejection!u32 {
        const item = try self.next();
        return if (item == .array) item.array else wrong(path, "an array", item);
    }

    fn fixedArray(self: *Decoder, comptime T: type, comptime Child: type, comptime path: []const u8) Rejection!T {
        const count = try self.arrayLength(path);
        var values: T = undefined;
        if (count != values.len) return reject(label(path) ++ " has {d} items, {d} are needed", .{ count, values.len });
        for (&values) |*item| item.* = try self.value(Child, path);
        return values;
    }

    fn slice(self: *Decoder, comptime Child: type, comptime path: []const u8) Rejection![]const Child {
        const count = try self.arrayLength(path);
        // Each item takes at least a byte, so this bounds what a short payload can make us allocate.
        if (count > self.reader.data.len - self.reader.at) return reject(label(path) ++ " ends before its {d} items", .{count});
        const values = memory.alloc(Child, count);
        for (values) |*item| item.* = try self.value(Child, path);
        return values;
    }

    fn fields(self: *Decoder, comptime T: type, comptime path: []const u8) Rejection!T {
        const names = @typeInfo(T).@"struct".field_names;
        var result: T = undefined;
        var seen: [names.len]bool = @splat(false);
        const item = try self.next();
        switch (item) {
            .nil => {},
            .map => |count| for (0..count) |_| {
                const key = try self.next();
                if (key != .str) return wrong(path, "a map with text keys", key);
                try self.namedField(T, path, key.str, &result, &seen);
            },
            .array => |count| {
                if (count > names.len) return reject(label(path) ++ " has {d} values for {d} fields", .{ count, names.len });
                inline for (names, 0..) |name, index| if (index < count) {
                    @field(result, name) = try self.value(@FieldType(T, name), comptime child(path, name));
                    seen[index] = true;
                };
            },
            else => return wrong(path, "a map or an array", item),
        }
        try missing(T, path, &result, &seen);
        return result;
    }

    fn namedField(self: *Decoder, comptime T: type, comptime path: []const u8, name: []const u8, result: *T, seen: []bool) Rejection!void {
        const names = @typeInfo(T).@"struct".field_names;
        inline for (names, 0..) |known, index| {
            if (std.mem.eql(u8, name, known)) {
                const inner = comptime child(path, known);
                if (seen[index]) return reject(label(inner) ++ " is given twice", .{});
                seen[index] = true;
                @field(result, known) = try self.value(@FieldType(T, known), inner);
                return;
            }
        }
        return reject("unknown field '{s}': known are {s}", .{ name, comptime join(names) });
    }
};

fn missing(comptime T: type, comptime path: []const u8, result: *T, seen: []const bool) Rejection!void {
    const info = @typeInfo(T).@"struct";
    inline for (info.field_names, info.field_types, info.field_attrs, 0..) |name, Field, attrs, index| {
        if (!seen[index]) {
            if (comptime attrs.defaultValue(Field)) |default| {
                @field(result, name) = default;
            } else if (@typeInfo(Field) == .optional) {
                @field(result, name) = null;
            } else return reject(label(comptime child(path, name)) ++ " missing", .{});
        }
    }
}

fn fromHex(digits: []const u8, comptime path: []const u8) Rejection![]const u8 {
    const problem = comptime label(path) ++ " is text, but not 0x and pairs of hexadecimal digits";
    if (!std.mem.startsWith(u8, digits, "0x") or digits.len % 2 != 0) return reject(problem, .{});
    const out = memory.alloc(u8, digits.len / 2 - 1);
    return std.fmt.hexToBytes(out, digits[2..]) catch reject(problem, .{});
}

fn wrong(comptime path: []const u8, comptime wanted: []const u8, item: msgpack.Item) Rejection {
    return reject(label(path) ++ " must be " ++ wanted ++ ", not {s}", .{describe(item)});
}

fn outOfRange(comptime T: type, comptime path: []const u8) Rejection {
    if (@typeInfo(T).int.bits > 64)
        return reject(label(path) ++ " is out of range: 0 to 2^{d}-1", .{@typeInfo(T).int.bits});
    return reject(label(path) ++ " is out of range: {d} to {d}", .{ std.math.minInt(T), std.math.maxInt(T) });
}

fn describe(item: msgpack.Item) []const u8 {
    return switch (item) {
        .nil => "nil",
        .bool => "a boolean",
        .int => "a whole number",
        .float => "a fraction",
        .str => "text",
        .bin => "bytes",
        .array => "an array",
        .map => "a map",
        .ext => "an extension",
    };
}

fn label(comptime path: []const u8) []const u8 {
    return if (path.len == 0) "the body" else "field '" ++ path ++ "'";
}

fn child(comptime path: []const u8, comptime name: []const u8) []const u8 {
    return if (path.len == 0) name else path ++ "." ++ name;
}

fn join(comptime names: []const [:0]const u8) []const u8 {
    var text: []const u8 = "";
    for (names, 0..) |name, index| text = text ++ (if (index == 0) "" else ", ") ++ name;
    return if (names.len == 0) "none" else text;
}
