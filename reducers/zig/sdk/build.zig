//! The SDK as a Zig package, for projects that build with `zig build`: see `addReducer`. The flags are those of
//! `scapp build` (`scapp.reducers.zig`), so both give the same bytes.

const std = @import("std");

pub fn build(b: *std.Build) void {
    _ = b.addModule("scapp", .{ .root_source_file = b.path("scapp.zig") });
}

/// A reducer as a module for `scapp deploy`. In the build.zig of an app that depends on `scapp`:
///
///     const scapp = @import("scapp");
///     pub fn build(b: *std.Build) void {
///         b.installArtifact(scapp.addReducer(b, b.dependency("scapp", .{}), "tally", b.path("tally.zig")));
///     }
pub fn addReducer(b: *std.Build, sdk: *std.Build.Dependency, name: []const u8, source: std.Build.LazyPath) *std.Build.Step.Compile {
    const scapp = sdk.module("scapp");
    const features = std.Target.wasm.featureSet(&.{
        .bulk_memory, .multivalue, .mutable_globals, .nontrapping_fptoint, .sign_ext,
    });
    const root = b.createModule(.{
        .root_source_file = sdk.path("entry.zig"),
        .target = b.resolveTargetQuery(.{
            .cpu_arch = .wasm32,
            .os_tag = .freestanding,
            .cpu_model = .{ .explicit = &std.Target.wasm.cpu.mvp },
            .cpu_features_add = features,
        }),
        .optimize = .safe,
        .strip = true,
        .single_threaded = true,
        .imports = &.{
            .{ .name = "scapp", .module = scapp },
            .{ .name = "app", .module = b.createModule(.{
                .root_source_file = source,
                .imports = &.{.{ .name = "scapp", .module = scapp }},
            }) },
        },
    });
    root.export_symbol_names = &.{ "scapp_manifest", "scapp_alloc", "scapp_reduce" };
    const reducer = b.addExecutable(.{ .name = name, .root_module = root });
    reducer.entry = .disabled;
    reducer.stack_size = 65_536;
    reducer.max_memory = 16_777_216;
    return reducer;
}
