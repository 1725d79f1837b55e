//! The manifest document, written at compile time from the same declarations that the code uses.

const std = @import("std");
const table = @import("table.zig");
const types = @import("types.zig");

/// JSON of a reducer's root file `app`: its `name`, `version`, `db`, `Message` and, when declared, `views`.
pub fn json(comptime app: type) []const u8 {
    @setEvalBranchQuota(1_000_000);
    const views = if (@hasDecl(app, "views")) app.views else .{};
    return "{\"name\":\"" ++ app.name ++ "\",\"version\":\"" ++ app.version ++
        "\",\"abi\":\"scapp_1\",\"encoding\":\"msgpack\",\"tables\":[" ++ tables(app.db.tables) ++
        "],\"views\":[" ++ viewList(views) ++ "],\"messages\":[" ++ messages(app.Message) ++ "]}";
}

fn comma(comptime index: usize) []const u8 {
    return if (index == 0) "" else ",";
}

fn tables(comptime list: anytype) []const u8 {
    var text: []const u8 = "";
    for (list, 0..) |T, index| {
        text = text ++ comma(index) ++ "{\"name\":\"" ++ T.table.name ++ "\",\"columns\":[" ++ columns(T) ++ "],\"key\":" ++
            std.fmt.comptimePrint("{d}", .{T.table.key}) ++ ",\"indexes\":[" ++ indexes(table.indexesOf(T)) ++ "]" ++
            (if (table.hasHistory(T)) ",\"history\":true}" else "}");
    }
    return text;
}

fn columns(comptime T: type) []const u8 {
    const info = @typeInfo(T).@"struct";
    var text: []const u8 = "";
    for (info.field_names, info.field_types, 0..) |name, Field, index| {
        text = text ++ comma(index) ++ "{\"name\":\"" ++ name ++ "\",\"type\":\"" ++ types.columnType(Field) ++ "\"" ++
            (if (@typeInfo(Field) == .optional) ",\"nullable\":true}" else "}");
    }
    return text;
}

fn indexes(comptime list: anytype) []const u8 {
    var text: []const u8 = "";
    for (list, 0..) |index, at| {
        const unique = @hasField(@TypeOf(index), "unique") and index.unique;
        text = text ++ comma(at) ++ "{\"name\":\"" ++ index.name ++ "\",\"columns\":[" ++ names(index.columns) ++
            "],\"unique\":" ++ (if (unique) "true}" else "false}");
    }
    return text;
}

fn names(comptime list: anytype) []const u8 {
    var text: []const u8 = "";
    for (list, 0..) |name, index| text = text ++ comma(index) ++ "\"" ++ name ++ "\"";
    return text;
}

fn viewList(comptime list: anytype) []const u8 {
    var text: []const u8 = "";
    for (list, 0..) |view, index| {
        text = text ++ comma(index) ++ "{\"name\":\"" ++ view.name ++ "\",\"table\":\"" ++ view.table ++
            "\",\"columns\":[" ++ names(view.columns) ++ "]}";
    }
    return text;
}

fn messages(comptime Message: type) []const u8 {
    const info = @typeInfo(Message).@"union";
    var text: []const u8 = "";
    for (info.field_names, info.field_types, 0..) |name, Body, index|
        text = text ++ comma(index) ++ "{\"name\":\"" ++ name ++ "\",\"fields\":[" ++ fields(Body) ++ "]}";
    return text;
}

fn fields(comptime Body: type) []const u8 {
    if (Body == void) return "";
    const info = @typeInfo(Body).@"struct";
    var text: []const u8 = "";
    for (info.field_names, info.field_types, 0..) |name, Field, index|
        text = text ++ comma(index) ++ "{\"name\":\"" ++ name ++ "\",\"type\":\"" ++ fieldType(Field) ++ "\"}";
    return text;
}

fn fieldType(comptime T: type) []const u8 {
    if (T == []const u8 or T == types.Json) return "text";
    if (T == types.Timestamp) return "int";
    if (types.isScalarStruct(T)) return "bytes";
    return switch (@typeInfo(T)) {
        .optional => |optional| fieldType(optional.child),
        .bool => "bool",
        .int => "int",
        .float => "float",
        .@"enum" => "text",
        .array, .pointer => "array",
        .@"struct" => "map",
        else => "any",
    };
}
