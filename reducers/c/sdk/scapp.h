// scapp: write reducers in C. One file includes this header, declares tables and messages with the macros of part 3,
// defines `on_open` and one `on_NAME` for each message, and ends with SCAPP_APP. `scapp build` compiles it.
// Reference: docs/reference/sdks.md; the calls underneath: docs/reference/abi.md. Needs clang 22 (`-std=gnu23`).
//
// Parts: 1 types, 2 imports and memory, 3 declarations, 4 the app and its manifest, 5 text, 6 rows, 7 messages in,
// 8 messages out, 9 entry points. Users read 1, 3 and 4; the functions they call are marked API.
#ifndef SCAPP_H
#define SCAPP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wunused-function" // a reducer uses part of this file

// ---- 1. Types ------------------------------------------------------------------------------------------------------

typedef int8_t i8;
typedef int16_t i16;
typedef int32_t i32;
typedef int64_t i64;
typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef double f64;
typedef unsigned _BitInt(256) u256;

typedef struct { const char *data; u32 size; } text;   // UTF-8 without NUL; lives until the message ends
typedef struct { const u8 *data; u32 size; } bytes;    // any bytes; lives until the message ends
typedef struct { const char *data; u32 size; } json;   // JSON text, kept verbatim
typedef struct { u8 bytes[20]; } address;
typedef struct { u8 bytes[32]; } bytes32;
typedef struct { u8 bytes[16]; } uuid;
typedef struct { i64 micros; } timestamp;              // microseconds since 2000-01-01 00:00 UTC

// What every handler returns. Pass a rejection on: `SCAPP_TRY(step(ctx));`
typedef enum [[nodiscard]] { SCAPP_OK = 0, SCAPP_REJECTED = 1 } scapp_result;
#define SCAPP_TRY(call) do { if ((call) != SCAPP_OK) return SCAPP_REJECTED; } while (0)

typedef enum { SCAPP_OPEN = 0, SCAPP_MESSAGE_ENTRY = 1, SCAPP_TICK = 2, SCAPP_CLOSE = 3 } scapp_kind;

// Who sent the entry, where and when.
typedef struct {
    u8 kind;             // a scapp_kind
    u8 author;           // index among the channel's participants
    address address;     // of the author
    bytes32 channel_id;
    u64 sequence;        // position in the channel's log; the opening is 0
    u64 time_ms;         // milliseconds since 1970 UTC; never decreases along the log
} scapp_context;

// An outcome slot: who may be paid in which asset, and the amount at the start.
typedef struct { address asset; bytes32 destination; u256 amount; } scapp_slot;

typedef enum { SCAPP_ERROR = 0, SCAPP_WARNING = 1, SCAPP_INFO = 2, SCAPP_DEBUG = 3 } scapp_level;

// How values of one C type are read and written. `column` is its PostgreSQL type, null where it cannot be a column.
enum { K_BOOL, K_SIGNED, K_UNSIGNED, K_WIDE, K_FLOAT, K_TEXT, K_BYTES, K_JSON, K_FIXED, K_TIMESTAMP, K_ENUM, K_OPTIONAL,
       K_ARRAY, K_STRUCT };
struct scapp_field;
typedef struct scapp_type {
    u8 kind;
    u32 size;                        // of the C value
    const char *column;
    const char *field;               // type of a message's field in the manifest
    const struct scapp_type *inner;  // of an optional's value, an array's items
    u32 offset;                      // of an optional's value
    const struct scapp_field *fields;
    u32 count;                       // of fields or of names
    const char *const *names;        // of an enum
} scapp_type;
typedef struct scapp_field { const char *name; const scapp_type *type; u32 offset; const void *fallback; } scapp_field;

#define SCAPP_TYPE_(T, KIND, COLUMN, FIELD, ...) \
    enum { T##_is_a_column = sizeof(COLUMN) > 1 }; \
    [[maybe_unused]] static const scapp_type T##_type = { .kind = KIND, .size = sizeof(T), .column = COLUMN, .field = FIELD, __VA_ARGS__ }; \
    typedef struct { bool some; T value; } opt_##T; \
    enum { opt_##T##_is_a_column = T##_is_a_column }; \
    [[maybe_unused]] static const scapp_type opt_##T##_type = { .kind = K_OPTIONAL, .size = sizeof(opt_##T), .column = COLUMN, \
        .field = FIELD, .inner = &T##_type, .offset = offsetof(opt_##T, value) }; \
    typedef struct { const T *items; u32 count; } T##_array; \
    enum { T##_array_is_a_column = 0 }; \
    [[maybe_unused]] static const scapp_type T##_array_type = { .kind = K_ARRAY, .size = sizeof(T##_array), .column = "", \
        .field = "array", .inner = &T##_type }

// Every type T also has opt_T { bool some; T value; } and T_array { const T *items; u32 count; }.
SCAPP_TYPE_(bool, K_BOOL, "bool", "bool");
SCAPP_TYPE_(i8, K_SIGNED, "", "int");
SCAPP_TYPE_(i16, K_SIGNED, "int2", "int");
SCAPP_TYPE_(i32, K_SIGNED, "int4", "int");
SCAPP_TYPE_(i64, K_SIGNED, "int8", "int");
SCAPP_TYPE_(u8, K_UNSIGNED, "", "int");
SCAPP_TYPE_(u16, K_UNSIGNED, "", "int");
SCAPP_TYPE_(u32, K_UNSIGNED, "", "int");
SCAPP_TYPE_(u64, K_UNSIGNED, "numeric", "int");
SCAPP_TYPE_(u256, K_WIDE, "numeric", "int");
SCAPP_TYPE_(f64, K_FLOAT, "float8", "float");
SCAPP_TYPE_(text, K_TEXT, "text", "text");
SCAPP_TYPE_(bytes, K_BYTES, "bytea", "bytes");
SCAPP_TYPE_(json, K_JSON, "json", "text");
SCAPP_TYPE_(address, K_FIXED, "address", "bytes");
SCAPP_TYPE_(bytes32, K_FIXED, "bytes32", "bytes");
SCAPP_TYPE_(uuid, K_FIXED, "uuid", "bytes");
SCAPP_TYPE_(timestamp, K_TIMESTAMP, "timestamptz", "int");

#define SCAPP_SOME(T, ...) ((opt_##T){ true, __VA_ARGS__ }) // API: SCAPP_SOME(address, to)
#define SCAPP_NULL(T) ((opt_##T){ false })                  // API: SCAPP_NULL(address)

// ---- 2. Imports and memory -----------------------------------------------------------------------------------------

#define SCAPP_IMPORT_(NAME) __attribute__((import_module("scapp_1"), import_name(#NAME))) extern
SCAPP_IMPORT_(get) i32 scapp_raw_get(u32 table, const void *key, u32 key_size, void *out, u32 capacity);
SCAPP_IMPORT_(put) i32 scapp_raw_put(u32 table, const void *row, u32 size);
SCAPP_IMPORT_(delete) i32 scapp_raw_delete(u32 table, const void *key, u32 size);
SCAPP_IMPORT_(scan) i32 scapp_raw_scan(u32 number, const void *lo, u32 lo_size, const void *hi, u32 hi_size, u32 flags);
SCAPP_IMPORT_(next) i32 scapp_raw_next(u32 cursor, void *out, u32 capacity);
SCAPP_IMPORT_(emit) void scapp_raw_emit(const void *topic, u32 topic_size, const void *data, u32 size);
SCAPP_IMPORT_(set_outcome) void scapp_raw_set_outcome(const void *amounts, u32 size);
SCAPP_IMPORT_(reject) void scapp_raw_reject(const void *reason, u32 size);
SCAPP_IMPORT_(log) void scapp_raw_log(u32 level, const void *line, u32 size);
SCAPP_IMPORT_(keccak256) void scapp_raw_keccak256(const void *data, u32 size, void *out);
SCAPP_IMPORT_(sha256) void scapp_raw_sha256(const void *data, u32 size, void *out);

#define SCAPP_COPY_(to, from, size) __builtin_memcpy(to, from, size)

static bool scapp_same_(const void *a, const void *b, u32 size) {
    for (u32 i = 0; i < size; i++) if (((const u8 *)a)[i] != ((const u8 *)b)[i]) return false;
    return true;
}

static u32 scapp_length_(const char *s) {
    u32 size = 0;
    while (s[size]) size++;
    return size;
}

[[noreturn]] static void scapp_panic_(const char *reason) {
    scapp_raw_log(SCAPP_ERROR, reason, scapp_length_(reason));
    __builtin_trap();
}

// A failed check (overflow, bad index, lost bits) says so in the log and traps; the host undoes the message. These are
// the handlers of -fsanitize-minimal-runtime.
#define SCAPP_FAILED_(CHECK, REASON) [[noreturn]] void __ubsan_handle_##CHECK##_minimal_abort(void) { scapp_panic_(REASON); }
SCAPP_FAILED_(add_overflow, "integer overflow")
SCAPP_FAILED_(sub_overflow, "integer overflow")
SCAPP_FAILED_(mul_overflow, "integer overflow")
SCAPP_FAILED_(negate_overflow, "integer overflow")
SCAPP_FAILED_(divrem_overflow, "division by zero or overflow")
SCAPP_FAILED_(shift_out_of_bounds, "shift by too many bits")
SCAPP_FAILED_(out_of_bounds, "index out of bounds")
SCAPP_FAILED_(local_out_of_bounds, "index out of bounds")
SCAPP_FAILED_(implicit_conversion, "number does not fit its new type")
SCAPP_FAILED_(float_cast_overflow, "number does not fit its new type")
SCAPP_FAILED_(load_invalid_value, "a bool or enum holds another value")
SCAPP_FAILED_(type_mismatch, "bad pointer")
SCAPP_FAILED_(alignment_assumption, "bad pointer")
SCAPP_FAILED_(pointer_overflow, "bad pointer")
SCAPP_FAILED_(nonnull_arg, "bad pointer")
SCAPP_FAILED_(nonnull_return, "bad pointer")
SCAPP_FAILED_(nullability_arg, "bad pointer")
SCAPP_FAILED_(nullability_return, "bad pointer")
SCAPP_FAILED_(invalid_builtin, "bad argument of a builtin")
SCAPP_FAILED_(builtin_unreachable, "reached what is unreachable")
SCAPP_FAILED_(missing_return, "a function ended without a value")
SCAPP_FAILED_(vla_bound_not_positive, "array without items")

// One arena from the end of the static data upwards, emptied before each message: nothing allocated can outlive it.
// The only variable of the SDK.
static u32 scapp_arena_top_;
extern u8 __heap_base;

// API: `size` bytes, uninitialised, valid until the message ends; traps at the deployment's memory limit.
static void *scapp_memory(u32 size, u32 alignment) {
    u64 start = ((u64)scapp_arena_top_ + alignment - 1) / alignment * alignment, end = start + size;
    u64 have = (u64)__builtin_wasm_memory_size(0) * 65536;
    if (end > 0xffffffffu) scapp_panic_("out of memory");
    if (end > have && __builtin_wasm_memory_grow(0, (u32)((end - have + 65535) / 65536)) == (size_t)-1)
        scapp_panic_("out of memory");
    scapp_arena_top_ = (u32)end;
    return (void *)(uintptr_t)start;
}

static void scapp_push_(const void *data, u32 size) { SCAPP_COPY_(scapp_memory(size, 1), data, size); }
static void scapp_push8_(u8 byte) { scapp_push_(&byte, 1); }
static void scapp_push_big_(u64 number, u32 size) {
    u8 *out = scapp_memory(size, 1);
    for (u32 i = 0; i < size; i++) out[i] = (u8)(number >> (8 * (size - 1 - i)));
}
static u64 scapp_read_big_(const u8 *data, u32 size) {
    u64 number = 0;
    for (u32 i = 0; i < size; i++) number = number << 8 | data[i];
    return number;
}
static u64 scapp_read_little_(const u8 *data, u32 size) {
    u64 number = 0;
    for (u32 i = size; i > 0; i--) number = number << 8 | data[i - 1];
    return number;
}

// ---- 3. Declarations -----------------------------------------------------------------------------------------------

#define SCAPP_PARENS_ ()
#define SCAPP_RUN_(...) SCAPP_RUN3_(SCAPP_RUN3_(SCAPP_RUN3_(__VA_ARGS__)))
#define SCAPP_RUN3_(...) SCAPP_RUN2_(SCAPP_RUN2_(SCAPP_RUN2_(__VA_ARGS__)))
#define SCAPP_RUN2_(...) SCAPP_RUN1_(SCAPP_RUN1_(SCAPP_RUN1_(__VA_ARGS__)))
#define SCAPP_RUN1_(...) SCAPP_RUN0_(SCAPP_RUN0_(SCAPP_RUN0_(__VA_ARGS__)))
#define SCAPP_RUN0_(...) __VA_ARGS__
#define SCAPP_EACH_(macro, context, ...) __VA_OPT__(SCAPP_RUN_(SCAPP_EACH_STEP_(macro, context, __VA_ARGS__)))
#define SCAPP_EACH_STEP_(macro, context, item, ...) \
    macro(context, item) __VA_OPT__(SCAPP_EACH_AGAIN_ SCAPP_PARENS_ (macro, context, __VA_ARGS__))
#define SCAPP_EACH_AGAIN_() SCAPP_EACH_STEP_
#define SCAPP_OPENED_(...) __VA_ARGS__
#define SCAPP_WITHOUT_FIRST_(...) SCAPP_WITHOUT_FIRST__(__VA_ARGS__)
#define SCAPP_WITHOUT_FIRST__(first, ...) __VA_ARGS__

// A declared column or field is a tuple: (type, name) or, in messages, (type, name, value when left out).
#define SCAPP_TYPE_OF_(T, ...) T
#define SCAPP_MEMBER_(S, tuple) SCAPP_MEMBER__ tuple
#define SCAPP_MEMBER__(T, name, ...) T name;
#define SCAPP_FIELD_(S, tuple) SCAPP_FIELD__(S, SCAPP_OPENED_ tuple)
#define SCAPP_FIELD__(S, ...) SCAPP_FIELD___(S, __VA_ARGS__)
#define SCAPP_FIELD___(S, T, name, ...) \
    { #name, &T##_type, offsetof(S, name), __VA_OPT__(&(const T){ __VA_ARGS__ } +) SCAPP_ZERO_(__VA_ARGS__) },
#define SCAPP_ZERO_(...) __VA_OPT__(0 SCAPP_SKIP_)(nullptr)
#define SCAPP_SKIP_(...)
#define SCAPP_COLUMN_CHECK_(S, tuple) SCAPP_COLUMN_CHECK__(S, SCAPP_OPENED_ tuple)
#define SCAPP_COLUMN_CHECK__(S, ...) SCAPP_COLUMN_CHECK___(S, __VA_ARGS__)
#define SCAPP_COLUMN_CHECK___(S, T, name) \
    static_assert(T##_is_a_column, "column " #name " of " #S ": no column type for " #T ": allowed are bool, i16, i32, i64, " \
        "u64, u256, f64, text, bytes, json, address, bytes32, uuid, timestamp, enums, and opt_ of each");
#define SCAPP_ARGUMENT_(S, tuple) SCAPP_ARGUMENT__ tuple
#define SCAPP_ARGUMENT__(T, name) , T name
#define SCAPP_INITIAL_(S, tuple) SCAPP_INITIAL__ tuple
#define SCAPP_INITIAL__(T, name) .name = name,
#define SCAPP_COUNT_(S, tuple) +1

// What SCAPP_APP does not list has no number: the linker then names the symbol that is missing.
#define SCAPP_MUST_BE_LISTED_(N) \
    extern const char N##_must_be_listed_in_SCAPP_APP; \
    __attribute__((used)) static const char *const N##_listed = &N##_must_be_listed_in_SCAPP_APP;

typedef struct { const char *name; const scapp_type *row; u32 key; bool history; } scapp_table;
// `columns`: positions in the row; `bound`: the C struct that holds values for the leading ones.
typedef struct { const char *name; const scapp_table *table; bool unique; const char *const *columns; u32 count;
                 const scapp_type *bound; } scapp_index;
typedef struct { u32 cursor; bool ended; } scapp_rows;
typedef struct { const char *name; const scapp_table *table; const char *const *columns; u32 count; } scapp_view;
typedef struct { const char *name; const scapp_type *body; scapp_result (*handle)(const scapp_context *, const void *); } scapp_message;

static bool scapp_table_get_(const scapp_table *, const void *key, void *out);
static bool scapp_table_put_(const scapp_table *, const void *row);
static bool scapp_table_delete_(const scapp_table *, const void *key);
static u32 scapp_table_number_(const scapp_table *);
static u32 scapp_index_number_(const scapp_index *);
static u32 scapp_scan_(u32 number, const scapp_field *, const void *prefix, const void *from, const void *to, bool to_inclusive, bool backwards);
static bool scapp_rows_next_(scapp_rows *, const scapp_table *, void *out);

// API: SCAPP_TABLE(account, KEY((address, owner)), (u256, balance)) makes the struct `account` and
//   bool account_get(account *out, address owner)     the row with this key; false when there is none
//   bool account_put(account row)                     insert or replace; true when it replaced
//   bool account_delete(address owner)                true when there was such a row
//   account_rows account_scan(account_options)        rows in key order; `account_next(&rows, &row)` until false
//   bool account_first(account *out, account_options) the first row of a scan
// Options are designated: { .prefix = {1, owner} } or { .from = {1, a}, .to = {1, b}, .to_inclusive = true }, and
// .backwards = true; a bound begins with how many leading columns it gives. A scan left early keeps one of 16 cursors.
// SCAPP_HISTORY_TABLE: the same, and the database keeps every version of its rows.
#define KEY(...) (__VA_ARGS__)
#define SCAPP_TABLE(S, ...) SCAPP_TABLE_(S, false, __VA_ARGS__)
#define SCAPP_HISTORY_TABLE(S, ...) SCAPP_TABLE_(S, true, __VA_ARGS__)
#define SCAPP_TABLE_(S, HISTORY, KEYS, ...) \
    SCAPP_EACH_(SCAPP_COLUMN_CHECK_, S, SCAPP_OPENED_ KEYS __VA_OPT__(,) __VA_ARGS__) \
    typedef struct S { SCAPP_EACH_(SCAPP_MEMBER_, S, SCAPP_OPENED_ KEYS __VA_OPT__(,) __VA_ARGS__) } S; \
    typedef struct { SCAPP_EACH_(SCAPP_MEMBER_, S, SCAPP_OPENED_ KEYS) } S##_key; \
    static const scapp_field S##_fields[] = { SCAPP_EACH_(SCAPP_FIELD_, S, SCAPP_OPENED_ KEYS __VA_OPT__(,) __VA_ARGS__) }; \
    static const scapp_type S##_row = { .kind = K_STRUCT, .size = sizeof(S), .fields = S##_fields, \
        .count = sizeof(S##_fields) / sizeof(scapp_field) }; \
    SCAPP_MUST_BE_LISTED_(S) \
    static const scapp_table S##_table = { #S, &S##_row, 0 SCAPP_EACH_(SCAPP_COUNT_, S, SCAPP_OPENED_ KEYS), HISTORY }; \
    [[maybe_unused]] static bool S##_get(S *out SCAPP_EACH_(SCAPP_ARGUMENT_, S, SCAPP_OPENED_ KEYS)) { \
        S##_key key = { SCAPP_EACH_(SCAPP_INITIAL_, S, SCAPP_OPENED_ KEYS) }; \
        return scapp_table_get_(&S##_table, &key, out); \
    } \
    [[maybe_unused]] static bool S##_put(S row) { return scapp_table_put_(&S##_table, &row); } \
    [[maybe_unused]] static bool S##_delete(SCAPP_WITHOUT_FIRST_(SCAPP_EACH_(SCAPP_ARGUMENT_, S, SCAPP_OPENED_ KEYS))) { \
        S##_key key = { SCAPP_EACH_(SCAPP_INITIAL_, S, SCAPP_OPENED_ KEYS) }; \
        return scapp_table_delete_(&S##_table, &key); \
    } \
    typedef struct { scapp_rows rows; } S##_rows; \
    [[maybe_unused]] static bool S##_next(S##_rows *rows, S *out) { return scapp_rows_next_(&rows->rows, &S##_table, out); } \
    typedef struct { u8 columns; SCAPP_EACH_(SCAPP_MEMBER_, S, SCAPP_OPENED_ KEYS) } S##_bound; \
    static const scapp_field S##_bound_fields[] = { SCAPP_EACH_(SCAPP_FIELD_, S##_bound, SCAPP_OPENED_ KEYS) }; \
    SCAPP_SCANS_(S, S, S##_bound_fields, scapp_table_number_(&S##_table))

#define SCAPP_SCANS_(S, N, FIELDS, NUMBER) \
    typedef struct { N##_bound prefix, from, to; bool to_inclusive, backwards; } N##_options; \
    [[maybe_unused]] static S##_rows N##_scan(N##_options o) { \
        return (S##_rows){ { scapp_scan_(NUMBER, FIELDS, &o.prefix, &o.from, &o.to, o.to_inclusive, o.backwards), false } }; \
    } \
    [[maybe_unused]] static bool N##_first(S *out, N##_options o) { \
        S##_rows rows = N##_scan(o); \
        return S##_next(&rows, out); \
    }

// API: SCAPP_INDEX(transfer, transfer_by_sender, sender, sequence) adds transfer_by_sender_scan and _first, which give
// rows of the table in the index's order. SCAPP_UNIQUE_INDEX: no two rows may agree in these columns.
#define SCAPP_INDEX(S, N, ...) SCAPP_INDEX_(S, N, false, __VA_ARGS__)
#define SCAPP_UNIQUE_INDEX(S, N, ...) SCAPP_INDEX_(S, N, true, __VA_ARGS__)
#define SCAPP_INDEX_MEMBER_(S, column) typeof(((S *)nullptr)->column) column;
#define SCAPP_INDEX_FIELD_(B, column) { #column, nullptr, offsetof(B, column), nullptr },
#define SCAPP_NAME_(S, column) #column,
#define SCAPP_INDEX_(S, N, UNIQUE, ...) \
    typedef struct { u8 columns; SCAPP_EACH_(SCAPP_INDEX_MEMBER_, S, __VA_ARGS__) } N##_bound; \
    static const char *const N##_columns[] = { SCAPP_EACH_(SCAPP_NAME_, S, __VA_ARGS__) }; \
    static const scapp_field N##_fields[] = { SCAPP_EACH_(SCAPP_INDEX_FIELD_, N##_bound, __VA_ARGS__) }; \
    static const scapp_type N##_bound_type = { .fields = N##_fields, .count = sizeof(N##_fields) / sizeof(scapp_field) }; \
    SCAPP_MUST_BE_LISTED_(N) \
    static const scapp_index N##_index = { #N, &S##_table, UNIQUE, N##_columns, sizeof(N##_columns) / sizeof(char *), &N##_bound_type }; \
    typedef struct { scapp_field f[sizeof(N##_fields) / sizeof(scapp_field)]; } N##_typed; \
    [[maybe_unused]] static N##_typed N##_typed_fields(void) { \
        N##_typed t; \
        for (u32 i = 0; i < sizeof(N##_fields) / sizeof(scapp_field); i++) t.f[i] = scapp_typed_(N##_fields[i], &S##_row); \
        return t; \
    } \
    SCAPP_SCANS_(S, N, N##_typed_fields().f, scapp_index_number_(&N##_index))

// API: SCAPP_VIEW(holder, account, owner, balance): a named selection of columns, for SQL.
#define SCAPP_VIEW_CHECK_(S, column) static_assert(sizeof(((S *)nullptr)->column) > 0);
#define SCAPP_VIEW(N, S, ...) \
    SCAPP_EACH_(SCAPP_VIEW_CHECK_, S, __VA_ARGS__) \
    static const char *const N##_columns[] = { SCAPP_EACH_(SCAPP_NAME_, S, __VA_ARGS__) }; \
    static const scapp_view N##_view = { #N, &S##_table, N##_columns, sizeof(N##_columns) / sizeof(char *) };

// API: SCAPP_ENUM(colour, red, green, blue) makes the enum `colour` with colour_red, …; in tables and messages its name.
#define SCAPP_ENUM_CASE_(S, name) S##_##name,
#define SCAPP_ENUM(S, ...) \
    typedef enum { SCAPP_EACH_(SCAPP_ENUM_CASE_, S, __VA_ARGS__) } S; \
    static const char *const S##_names[] = { SCAPP_EACH_(SCAPP_NAME_, S, __VA_ARGS__) }; \
    SCAPP_TYPE_(S, K_ENUM, "text", "text", .names = S##_names, .count = sizeof(S##_names) / sizeof(char *));

// API: SCAPP_STRUCT(balance, (address, owner), (u256, amount)): a group of fields, for messages and params.
#define SCAPP_STRUCT(S, ...) \
    typedef struct { SCAPP_EACH_(SCAPP_MEMBER_, S, __VA_ARGS__) } S; \
    static const scapp_field S##_fields[] = { SCAPP_EACH_(SCAPP_FIELD_, S, __VA_ARGS__) }; \
    SCAPP_TYPE_(S, K_STRUCT, "", "map", .fields = S##_fields, .count = sizeof(S##_fields) / sizeof(scapp_field));

// API: SCAPP_MESSAGE(transfer, (address, to), (u256, amount)) makes `transfer_message`; you define
//   static scapp_result on_transfer(const scapp_context *ctx, const transfer_message *msg)
// A field (type, name, value) may be left out, and so may one of a type opt_T.
#define SCAPP_MESSAGE(S, ...) \
    SCAPP_STRUCT(S##_message, __VA_ARGS__) \
    static scapp_result on_##S(const scapp_context *, const S##_message *); \
    static scapp_result S##_handle(const scapp_context *ctx, const void *body) { return on_##S(ctx, body); }

// API: SCAPP_PARAMS((i64, most, 10)): what the channel was proposed with, as `params`; SCAPP_PARAMS() for none.
// You define: static scapp_result on_open(const scapp_context *ctx, const scapp_opening *opening)
#define SCAPP_PARAMS(...) \
    SCAPP_STRUCT(params, __VA_ARGS__) \
    typedef struct { address_array participants; scapp_slot_array slots; params params; } scapp_opening; \
    static const scapp_field scapp_opening_fields[] = { { "participants", &address_array_type, offsetof(scapp_opening, participants), nullptr }, \
        { "slots", &scapp_slot_array_type, offsetof(scapp_opening, slots), nullptr }, { "params", &params_type, offsetof(scapp_opening, params), nullptr } }; \
    static const scapp_type scapp_opening_type = { .kind = K_STRUCT, .size = sizeof(scapp_opening), .fields = scapp_opening_fields, .count = 3 }; \
    static scapp_result on_open(const scapp_context *, const scapp_opening *); \
    static scapp_result scapp_open_(const scapp_context *ctx, const void *opening) { return on_open(ctx, opening); }

static const scapp_field scapp_slot_fields[] = {
    { "asset", &address_type, offsetof(scapp_slot, asset), nullptr },
    { "destination", &bytes32_type, offsetof(scapp_slot, destination), nullptr },
    { "amount", &u256_type, offsetof(scapp_slot, amount), nullptr },
};
SCAPP_TYPE_(scapp_slot, K_STRUCT, "", "map", .fields = scapp_slot_fields, .count = 3);

// API, optional: define `scapp_result on_tick(const scapp_context *ctx)` (not static); without it ticks are rejected.
__attribute__((weak)) scapp_result on_tick(const scapp_context *);

// ---- 4. The app and its manifest -----------------------------------------------------------------------------------

typedef struct {
    const char *name, *version;
    const scapp_table *const *tables;
    u32 table_count;
    const scapp_index *const *indexes;
    u32 index_count;
    const scapp_view *const *views;
    u32 view_count;
    const scapp_message *messages;
    u32 message_count;
    const scapp_type *opening;
    scapp_result (*open)(const scapp_context *, const void *);
} scapp_app;
extern const scapp_app scapp_the_app;

// API, last line of a reducer: SCAPP_APP("name", "1.0.0", TABLES(a, b), INDEXES(i), VIEWS(), MESSAGES(m, n))
#define TABLES(...) (__VA_ARGS__)
#define INDEXES(...) (__VA_ARGS__)
#define VIEWS(...) (__VA_ARGS__)
#define MESSAGES(...) (__VA_ARGS__)
#define SCAPP_LISTED_(S, name) const char name##_must_be_listed_in_SCAPP_APP = 0;
#define SCAPP_TABLE_ITEM_(S, name) &name##_table,
#define SCAPP_INDEX_ITEM_(S, name) &name##_index,
#define SCAPP_VIEW_ITEM_(S, name) &name##_view,
#define SCAPP_MESSAGE_ITEM_(S, name) { #name, &name##_message_type, name##_handle },
#define SCAPP_APP(NAME, VERSION, TABLE_LIST, INDEX_LIST, VIEW_LIST, MESSAGE_LIST) \
    SCAPP_EACH_(SCAPP_LISTED_, _, SCAPP_OPENED_ TABLE_LIST) \
    SCAPP_EACH_(SCAPP_LISTED_, _, SCAPP_OPENED_ INDEX_LIST) \
    static const scapp_table *const scapp_tables_[] = { SCAPP_EACH_(SCAPP_TABLE_ITEM_, _, SCAPP_OPENED_ TABLE_LIST) }; \
    static const scapp_index *const scapp_indexes_[] = { SCAPP_EACH_(SCAPP_INDEX_ITEM_, _, SCAPP_OPENED_ INDEX_LIST) }; \
    static const scapp_view *const scapp_views_[] = { SCAPP_EACH_(SCAPP_VIEW_ITEM_, _, SCAPP_OPENED_ VIEW_LIST) }; \
    static const scapp_message scapp_messages_[] = { SCAPP_EACH_(SCAPP_MESSAGE_ITEM_, _, SCAPP_OPENED_ MESSAGE_LIST) }; \
    const scapp_app scapp_the_app = { NAME, VERSION, scapp_tables_, sizeof(scapp_tables_) / sizeof(void *), \
        scapp_indexes_, sizeof(scapp_indexes_) / sizeof(void *), scapp_views_, sizeof(scapp_views_) / sizeof(void *), \
        scapp_messages_, sizeof(scapp_messages_) / sizeof(scapp_message), &scapp_opening_type, scapp_open_ };

static u32 scapp_table_number_(const scapp_table *table) {
    for (u32 i = 0; i < scapp_the_app.table_count; i++) if (scapp_the_app.tables[i] == table) return i;
    scapp_panic_("a table that SCAPP_APP does not list");
}

// Indexes are numbered after the tables, table by table, in the order of SCAPP_APP's list.
static u32 scapp_index_number_(const scapp_index *index) {
    u32 before = scapp_the_app.table_count, table = scapp_table_number_(index->table);
    bool passed = false;
    for (u32 i = 0; i < scapp_the_app.index_count; i++) {
        const scapp_index *other = scapp_the_app.indexes[i];
        u32 at = scapp_table_number_(other->table);
        passed |= other == index;
        if (at < table || (at == table && !passed)) before++;
    }
    return before;
}

static void scapp_push_text_(const char *s) { scapp_push_(s, scapp_length_(s)); }
static void scapp_push_quoted_(u32 position, const char *before, const char *s) {
    if (position) scapp_push8_(',');
    scapp_push_text_(before);
    scapp_push8_('"');
    scapp_push_text_(s);
    scapp_push8_('"');
}
static void scapp_push_number_(u32 number) {
    if (number >= 10) scapp_push_number_(number / 10);
    scapp_push8_((u8)('0' + number % 10));
}
static void scapp_push_names_(const char *const *names, u32 count) {
    for (u32 i = 0; i < count; i++) scapp_push_quoted_(i, "", names[i]);
}

static void scapp_push_table_(const scapp_table *table) {
    for (u32 i = 0; i < table->row->count; i++) {
        const scapp_field *field = &table->row->fields[i];
        scapp_push_quoted_(i, "{\"name\":", field->name);
        scapp_push_quoted_(1, "\"type\":", field->type->column);
        scapp_push_text_(field->type->kind == K_OPTIONAL ? ",\"nullable\":true}" : "}");
    }
    scapp_push_text_("],\"key\":");
    scapp_push_number_(table->key);
    scapp_push_text_(",\"indexes\":[");
    u32 at = 0;
    for (u32 i = 0; i < scapp_the_app.index_count; i++) {
        const scapp_index *index = scapp_the_app.indexes[i];
        if (index->table != table) continue;
        scapp_push_quoted_(at++, "{\"name\":", index->name);
        scapp_push_text_(",\"columns\":[");
        scapp_push_names_(index->columns, index->count);
        scapp_push_text_(index->unique ? "],\"unique\":true}" : "],\"unique\":false}");
    }
}

static void scapp_push_manifest_(void) {
    scapp_push_quoted_(0, "{\"name\":", scapp_the_app.name);
    scapp_push_quoted_(1, "\"version\":", scapp_the_app.version);
    scapp_push_text_(",\"abi\":\"scapp_1\",\"encoding\":\"msgpack\",\"tables\":[");
    for (u32 i = 0; i < scapp_the_app.table_count; i++) {
        scapp_push_quoted_(i, "{\"name\":", scapp_the_app.tables[i]->name);
        scapp_push_text_(",\"columns\":[");
        scapp_push_table_(scapp_the_app.tables[i]);
        scapp_push_text_(scapp_the_app.tables[i]->history ? "],\"history\":true}" : "]}");
    }
    scapp_push_text_("],\"views\":[");
    for (u32 i = 0; i < scapp_the_app.view_count; i++) {
        const scapp_view *view = scapp_the_app.views[i];
        scapp_push_quoted_(i, "{\"name\":", view->name);
        scapp_push_quoted_(1, "\"table\":", view->table->name);
        scapp_push_text_(",\"columns\":[");
        scapp_push_names_(view->columns, view->count);
        scapp_push_text_("]}");
    }
    scapp_push_text_("],\"messages\":[");
    for (u32 i = 0; i < scapp_the_app.message_count; i++) {
        const scapp_message *message = &scapp_the_app.messages[i];
        scapp_push_quoted_(i, "{\"name\":", message->name);
        scapp_push_text_(",\"fields\":[");
        for (u32 f = 0; f < message->body->count; f++) {
            scapp_push_quoted_(f, "{\"name\":", message->body->fields[f].name);
            scapp_push_quoted_(1, "\"type\":", message->body->fields[f].type->field);
            scapp_push8_('}');
        }
        scapp_push_text_("]}");
    }
    scapp_push_text_("]}");
}

// ---- 5. Text, values, hashes ---------------------------------------------------------------------------------------

// A value of any printable or emittable type; `{}` in formats and the fields of events take these.
typedef struct scapp_value { const scapp_type *type; union { u64 number; i64 integer; f64 real; u256 wide; text string; bytes binary;
    address address; bytes32 bytes32; uuid uuid; const struct scapp_value *items; } as; u32 count; bool null; } scapp_value;

#define SCAPP_BOX_(SUFFIX, T, MEMBER, TYPE) \
    static inline scapp_value scapp_box_##SUFFIX(T value) { return (scapp_value){ .type = &TYPE, .as.MEMBER = value }; } \

#define SCAPP_BOX_OPT_(SUFFIX, T, MEMBER, TYPE) \
    SCAPP_BOX_(SUFFIX, T, MEMBER, TYPE) \
    static inline scapp_value scapp_box_opt_##SUFFIX(opt_##T value) { \
        scapp_value boxed = scapp_box_##SUFFIX(value.value); \
        boxed.null = !value.some; \
        return boxed; \
    }
static const scapp_type scapp_list_type_ = { .kind = K_ARRAY };
SCAPP_BOX_OPT_(bool, bool, number, bool_type)
SCAPP_BOX_(signed, i64, integer, i64_type)
SCAPP_BOX_(unsigned, u64, number, u64_type)
SCAPP_BOX_OPT_(i16, i16, integer, i64_type)
SCAPP_BOX_OPT_(i32, i32, integer, i64_type)
SCAPP_BOX_OPT_(i64, i64, integer, i64_type)
SCAPP_BOX_OPT_(u64, u64, number, u64_type)
SCAPP_BOX_OPT_(u256, u256, wide, u256_type)
SCAPP_BOX_OPT_(f64, f64, real, f64_type)
SCAPP_BOX_OPT_(text, text, string, text_type)
SCAPP_BOX_OPT_(bytes, bytes, binary, bytes_type)
SCAPP_BOX_OPT_(address, address, address, address_type)
SCAPP_BOX_OPT_(bytes32, bytes32, bytes32, bytes32_type)
SCAPP_BOX_OPT_(uuid, uuid, uuid, uuid_type)
static inline scapp_value scapp_box_literal(const char *s) {
    return (scapp_value){ .type = &text_type, .as.string = { s, scapp_length_(s) } };
}
static inline scapp_value scapp_box_value(scapp_value value) { return value; }
#define SCAPP_VALUE_(x) _Generic((x), bool: scapp_box_bool, \
    signed char: scapp_box_signed, short: scapp_box_signed, int: scapp_box_signed, long: scapp_box_signed, long long: scapp_box_signed, \
    unsigned char: scapp_box_unsigned, unsigned short: scapp_box_unsigned, unsigned: scapp_box_unsigned, \
    unsigned long: scapp_box_unsigned, unsigned long long: scapp_box_unsigned, \
    u256: scapp_box_u256, f64: scapp_box_f64, text: scapp_box_text, char *: scapp_box_literal, const char *: scapp_box_literal, \
    bytes: scapp_box_bytes, address: scapp_box_address, bytes32: scapp_box_bytes32, uuid: scapp_box_uuid, \
    opt_bool: scapp_box_opt_bool, opt_i16: scapp_box_opt_i16, opt_i32: scapp_box_opt_i32, opt_i64: scapp_box_opt_i64, \
    opt_u64: scapp_box_opt_u64, opt_u256: scapp_box_opt_u256, opt_f64: scapp_box_opt_f64, opt_text: scapp_box_opt_text, \
    opt_bytes: scapp_box_opt_bytes, opt_address: scapp_box_opt_address, opt_bytes32: scapp_box_opt_bytes32, \
    opt_uuid: scapp_box_opt_uuid, scapp_value: scapp_box_value)(x)
#define SCAPP_VALUE_ITEM_(S, x) SCAPP_VALUE_(x),
#define SCAPP_VALUES_(...) (const scapp_value[]){ SCAPP_EACH_(SCAPP_VALUE_ITEM_, _, __VA_ARGS__) {} }
#define SCAPP_VALUE_COUNT_(...) (0 SCAPP_EACH_(SCAPP_COUNT_, _, __VA_ARGS__))

static text scapp_format_(const char *template, const scapp_value *values, u32 count);
// API: scapp_format("{} of {}", a, b) is text until the message ends, cut at 4,096 bytes; bytes print as 0x….
#define scapp_format(template, ...) scapp_format_(template, SCAPP_VALUES_(__VA_ARGS__), SCAPP_VALUE_COUNT_(__VA_ARGS__))
// API: return scapp_reject("balance is {}", balance); refuse the message with a reason for its author.
#define scapp_reject(...) scapp_reject_(scapp_format(__VA_ARGS__))
// API: a line of diagnostics; never part of state.
#define scapp_log(level, ...) scapp_log_(level, scapp_format(__VA_ARGS__))
// API: scapp_emit("topic", "field", value, …): an app event, a MessagePack map. SCAPP_LIST(a, b) is an array in it.
#define scapp_emit(topic, ...) scapp_emit_(topic, SCAPP_VALUES_(__VA_ARGS__), SCAPP_VALUE_COUNT_(__VA_ARGS__))
#define SCAPP_LIST(...) ((scapp_value){ .type = &scapp_list_type_, .as.items = SCAPP_VALUES_(__VA_ARGS__), .count = SCAPP_VALUE_COUNT_(__VA_ARGS__) })

static scapp_result scapp_reject_(text reason) {
    scapp_raw_reject(reason.data, reason.size);
    return SCAPP_REJECTED;
}
static void scapp_log_(scapp_level level, text line) { scapp_raw_log(level, line.data, line.size); }

static text scapp_text_of_(bytes data) { return (text){ (const char *)data.data, data.size }; }
// API
static text scapp_text(const char *literal) { return (text){ literal, scapp_length_(literal) }; }
static bool scapp_text_equal(text a, text b) { return a.size == b.size && scapp_same_(a.data, b.data, a.size); }
static bool scapp_address_equal(address a, address b) { return scapp_same_(&a, &b, sizeof a); }
static bool scapp_bytes32_equal(bytes32 a, bytes32 b) { return scapp_same_(&a, &b, sizeof a); }
static timestamp scapp_timestamp(u64 ms) { return (timestamp){ ((i64)ms - 946684800000) * 1000 }; }
static u64 scapp_timestamp_ms(timestamp t) {
    i64 rest = t.micros % 1000;
    return (u64)((t.micros - (rest < 0 ? rest + 1000 : rest)) / 1000 + 946684800000);
}
// API: *sum = a + b, or false when that exceeds 2^256-1. Plain +, - and * trap instead, as all overflows do.
static bool scapp_add(u256 a, u256 b, u256 *sum) {
    if (b > (u256)-1 - a) return false;
    *sum = a + b;
    return true;
}
// API: the address behind a slot's destination; false when it is a channel.
static bool scapp_payee(const scapp_slot *slot, address *out) {
    for (u32 i = 0; i < 12; i++) if (slot->destination.bytes[i]) return false;
    SCAPP_COPY_(out->bytes, slot->destination.bytes + 12, 20);
    return true;
}

// 256-bit numbers as eight 32-bit limbs, least significant first, for bytes and decimal forms.
typedef struct { u32 limb[8]; } scapp_limbs;
static scapp_limbs scapp_to_limbs_(u256 number) {
    scapp_limbs limbs;
    for (u32 i = 0; i < 8; i++) limbs.limb[i] = (u32)(number >> (32 * i));
    return limbs;
}
static u256 scapp_from_limbs_(scapp_limbs limbs) {
    u256 number = 0;
    for (u32 i = 0; i < 8; i++) number |= (u256)limbs.limb[i] << (32 * i);
    return number;
}
static bool scapp_limbs_zero_(const scapp_limbs *limbs) {
    u32 any = 0;
    for (u32 i = 0; i < 8; i++) any |= limbs->limb[i];
    return any == 0;
}
static u32 scapp_divide_(scapp_limbs *limbs, u32 divisor) {
    u64 remainder = 0;
    for (u32 i = 8; i > 0; i--) {
        u64 part = remainder << 32 | limbs->limb[i - 1];
        limbs->limb[i - 1] = (u32)(part / divisor);
        remainder = part % divisor;
    }
    return (u32)remainder;
}
static bool scapp_multiply_add_(scapp_limbs *limbs, u32 factor, u32 addend) {
    u64 carry = addend;
    for (u32 i = 0; i < 8; i++) {
        u64 part = (u64)limbs->limb[i] * factor + carry;
        limbs->limb[i] = (u32)(part & 0xffffffff);
        carry = part >> 32;
    }
    return carry == 0;
}
static void scapp_wide_to_bytes_(u256 number, u8 out[32]) {
    for (u32 i = 0; i < 32; i++) out[i] = (u8)(number >> (8 * (31 - i)));
}

static void scapp_push_decimal_(u256 number) {
    u8 digits[78];
    u32 at = sizeof digits;
    scapp_limbs limbs = scapp_to_limbs_(number);
    do digits[--at] = (u8)('0' + scapp_divide_(&limbs, 10)); while (!scapp_limbs_zero_(&limbs));
    scapp_push_(digits + at, sizeof digits - at);
}
static void scapp_push_hex_(const u8 *data, u32 size) {
    scapp_push_text_("0x");
    for (u32 i = 0; i < size; i++) {
        scapp_push8_((u8)"0123456789abcdef"[data[i] >> 4]);
        scapp_push8_((u8)"0123456789abcdef"[data[i] & 15]);
    }
}
static void scapp_push_printed_(const scapp_value *value) {
    if (value->null) return scapp_push_text_("null");
    switch (value->type->kind) {
        case K_BOOL: return scapp_push_text_(value->as.number ? "true" : "false");
        case K_SIGNED:
            if (value->as.integer < 0) {
                scapp_push8_('-');
                return scapp_push_decimal_((u256)(u64)(-(value->as.integer + 1)) + 1);
            }
            return scapp_push_decimal_((u64)value->as.integer);
        case K_UNSIGNED: return scapp_push_decimal_(value->as.number);
        case K_WIDE: return scapp_push_decimal_(value->as.wide);
        case K_TEXT: return scapp_push_(value->as.string.data, value->as.string.size);
        case K_BYTES: return scapp_push_hex_(value->as.binary.data, value->as.binary.size);
        case K_FIXED: return scapp_push_hex_(value->as.address.bytes, value->type->size);
        default: scapp_panic_("a value that has no printed form: fractions and lists");
    }
}

static text scapp_format_(const char *template, const scapp_value *values, u32 count) {
    u32 start = scapp_arena_top_, used = 0;
    for (const char *c = template; *c; c++) {
        if (c[0] == '{' && c[1] == '}' && used < count) {
            scapp_push_printed_(&values[used++]);
            c++;
        } else scapp_push8_((u8)*c);
    }
    u32 size = scapp_arena_top_ - start;
    return (text){ (const char *)(uintptr_t)start, size < 4096 ? size : 4096 };
}

// API
static bytes32 scapp_keccak256(bytes data) {
    bytes32 digest;
    scapp_raw_keccak256(data.data, data.size, &digest);
    return digest;
}
// API
static bytes32 scapp_sha256(bytes data) {
    bytes32 digest;
    scapp_raw_sha256(data.data, data.size, &digest);
    return digest;
}
// API: what hides `value` until its author reveals value and salt: keccak256(salt || channel id || author address ||
// round u64 big-endian || value). Channel, author and round are inside, so nobody can repeat another's commitment.
static bytes32 scapp_commitment(const scapp_context *ctx, bytes32 salt, u64 round, bytes value) {
    u32 start = scapp_arena_top_;
    scapp_push_(&salt, 32);
    scapp_push_(&ctx->channel_id, 32);
    scapp_push_(&ctx->address, 20);
    scapp_push_big_(round, 8);
    scapp_push_(value.data, value.size);
    return scapp_keccak256((bytes){ (const u8 *)(uintptr_t)start, scapp_arena_top_ - start });
}
// API: what each outcome slot gets from now on; traps unless there is one amount per slot and each asset's sum stays.
static void scapp_set_outcome(const u256 *amounts, u32 count) {
    if (count > 0x7ffffff) scapp_panic_("more amounts than memory can hold");
    u8 *out = scapp_memory(32 * count, 1);
    for (u32 i = 0; i < count; i++) scapp_wide_to_bytes_(amounts[i], out + 32 * i);
    scapp_raw_set_outcome(out, 32 * count);
}
// API: an app event with bytes of your own format.
static void scapp_emit_raw(text topic, bytes data) { scapp_raw_emit(topic.data, topic.size, data.data, data.size); }

// ---- 6. Rows: PostgreSQL COPY BINARY tuples, docs/reference/abi.md -------------------------------------------------

static void scapp_push_numeric_(u256 number) {
    u16 digits[20];
    u32 count = 0, low = 0;
    for (scapp_limbs limbs = scapp_to_limbs_(number); !scapp_limbs_zero_(&limbs);) digits[count++] = (u16)scapp_divide_(&limbs, 10000);
    while (low < count && digits[low] == 0) low++;
    scapp_push_big_(8 + 2 * (count - low), 4);
    scapp_push_big_(count - low, 2);
    scapp_push_big_(count ? count - 1 : 0, 2);
    scapp_push_big_(0, 4);
    for (u32 i = count; i > low; i--) scapp_push_big_(digits[i - 1], 2);
}

static u64 scapp_integer_at_(const scapp_type *type, const void *at) {
    switch (type->size) {
        case 1: return type->kind == K_SIGNED ? (u64)(i64) * (const i8 *)at : *(const u8 *)at;
        case 2: return type->kind == K_SIGNED ? (u64)(i64) * (const i16 *)at : *(const u16 *)at;
        case 4: return type->kind == K_SIGNED ? (u64)(i64) * (const i32 *)at : *(const u32 *)at;
        default: return *(const u64 *)at;
    }
}

static u64 scapp_float_bits_(f64 number) {
    u64 bits;
    SCAPP_COPY_(&bits, &number, 8);
    return number != number ? 0x7ff8000000000000u : bits;
}

static void scapp_push_column_(const scapp_type *type, const void *at) {
    switch (type->kind) {
        case K_OPTIONAL:
            if (!*(const bool *)at) return scapp_push_big_(0xffffffffu, 4);
            return scapp_push_column_(type->inner, (const u8 *)at + type->offset);
        case K_BOOL:
            scapp_push_big_(1, 4);
            return scapp_push8_(*(const bool *)at);
        case K_SIGNED:
        case K_TIMESTAMP:
            scapp_push_big_(type->size, 4);
            return scapp_push_big_(scapp_integer_at_(type, at), type->size);
        case K_UNSIGNED: return scapp_push_numeric_(scapp_integer_at_(type, at));
        case K_WIDE: return scapp_push_numeric_(*(const u256 *)at);
        case K_FLOAT:
            scapp_push_big_(8, 4);
            return scapp_push_big_(scapp_float_bits_(*(const f64 *)at), 8);
        case K_FIXED:
            scapp_push_big_(type->size, 4);
            return scapp_push_(at, type->size);
        case K_ENUM: {
            u32 chosen = *(const u32 *)at;
            if (chosen >= type->count) scapp_panic_("an enum column holds a number without a name");
            scapp_push_big_(scapp_length_(type->names[chosen]), 4);
            return scapp_push_text_(type->names[chosen]);
        }
        default: { // text, bytes and json have the same shape
            const text *slice = at;
            scapp_push_big_(slice->size, 4);
            return scapp_push_(slice->data, slice->size);
        }
    }
}

// The first `count` columns of `fields`, from the C struct at `base`.
static bytes scapp_tuple_(const scapp_field *fields, u32 count, const void *base) {
    u32 start = scapp_arena_top_;
    scapp_push_big_(count, 2);
    for (u32 i = 0; i < count; i++) scapp_push_column_(fields[i].type, (const u8 *)base + fields[i].offset);
    return (bytes){ (const u8 *)(uintptr_t)start, scapp_arena_top_ - start };
}

static u256 scapp_numeric_(const u8 *data) {
    u32 count = (u32)scapp_read_big_(data, 2), weight = (u32)scapp_read_big_(data + 2, 2);
    scapp_limbs limbs = {};
    for (u32 i = 0; count && i <= weight; i++)
        scapp_multiply_add_(&limbs, 10000, i < count ? (u32)scapp_read_big_(data + 8 + 2 * i, 2) : 0);
    return scapp_from_limbs_(limbs);
}

static void scapp_store_integer_(const scapp_type *type, void *out, u64 number) {
    switch (type->size) {
        case 1: *(u8 *)out = (u8)number; return;
        case 2: *(u16 *)out = (u16)number; return;
        case 4: *(u32 *)out = (u32)number; return;
        default: *(u64 *)out = number; return;
    }
}

static bool scapp_choose_(const scapp_type *type, text name, u32 *out) {
    for (u32 i = 0; i < type->count; i++)
        if (scapp_length_(type->names[i]) == name.size && scapp_same_(type->names[i], name.data, name.size)) return *out = i, true;
    return false;
}

// The host wrote the bytes and checked them when they were put, so a mismatch is a bug and traps.
static void scapp_take_column_(const scapp_type *type, const u8 *data, i32 size, void *out) {
    switch (type->kind) {
        case K_OPTIONAL:
            *(bool *)out = size >= 0;
            if (size >= 0) scapp_take_column_(type->inner, data, size, (u8 *)out + type->offset);
            return;
        case K_BOOL: *(bool *)out = data[0] != 0; return;
        case K_SIGNED:
        case K_TIMESTAMP: return scapp_store_integer_(type, out, scapp_read_big_(data, type->size));
        case K_UNSIGNED: return scapp_store_integer_(type, out, (u64)scapp_numeric_(data));
        case K_WIDE: *(u256 *)out = scapp_numeric_(data); return;
        case K_FLOAT: {
            u64 bits = scapp_read_big_(data, 8);
            SCAPP_COPY_(out, &bits, 8);
            return;
        }
        case K_FIXED: SCAPP_COPY_(out, data, type->size); return;
        case K_ENUM:
            if (!scapp_choose_(type, (text){ (const char *)data, (u32)size }, out)) scapp_panic_("a row holds a name that its enum lacks");
            return;
        default: *(bytes *)out = (bytes){ data, (u32)size }; return;
    }
}

static void scapp_take_row_(const scapp_type *row, const u8 *data, void *out) {
    const u8 *at = data + 2;
    for (u32 i = 0; i < row->count; i++) {
        i32 size = (i32)scapp_read_big_(at, 4);
        at += 4;
        scapp_take_column_(row->fields[i].type, at, size, (u8 *)out + row->fields[i].offset);
        if (size > 0) at += size;
    }
}

enum { SCAPP_ROW_GUESS_ = 512 };

static bool scapp_table_get_(const scapp_table *table, const void *key, void *out) {
    u32 number = scapp_table_number_(table);
    bytes k = scapp_tuple_(table->row->fields, table->key, key);
    u8 *buffer = scapp_memory(SCAPP_ROW_GUESS_, 1);
    i32 size = scapp_raw_get(number, k.data, k.size, buffer, SCAPP_ROW_GUESS_);
    if (size > SCAPP_ROW_GUESS_) {
        buffer = scapp_memory((u32)size, 1);
        scapp_raw_get(number, k.data, k.size, buffer, (u32)size);
    }
    if (size >= 0) scapp_take_row_(table->row, buffer, out);
    return size >= 0;
}
static bool scapp_table_put_(const scapp_table *table, const void *row) {
    u32 start = scapp_arena_top_;
    bytes tuple = scapp_tuple_(table->row->fields, table->row->count, row);
    bool replaced = scapp_raw_put(scapp_table_number_(table), tuple.data, tuple.size) != 0;
    scapp_arena_top_ = start;
    return replaced;
}
static bool scapp_table_delete_(const scapp_table *table, const void *key) {
    bytes k = scapp_tuple_(table->row->fields, table->key, key);
    return scapp_raw_delete(scapp_table_number_(table), k.data, k.size) != 0;
}

// An index's field has the type of the column it names.
static scapp_field scapp_typed_(scapp_field field, const scapp_type *row) {
    for (u32 i = 0; i < row->count; i++) {
        u32 size = scapp_length_(field.name);
        if (scapp_length_(row->fields[i].name) == size && scapp_same_(row->fields[i].name, field.name, size)) field.type = row->fields[i].type;
    }
    return field;
}

static u32 scapp_scan_(u32 number, const scapp_field *fields, const void *prefix, const void *from, const void *to, bool to_inclusive, bool backwards) {
    bool prefixed = *(const u8 *)prefix > 0;
    const void *lo = prefixed ? prefix : from, *hi = prefixed ? prefix : to;
    u32 flags = (backwards ? 1u : 0) | (prefixed || to_inclusive ? 2u : 0);
    bytes low = scapp_tuple_(fields, *(const u8 *)lo, lo), high = scapp_tuple_(fields, *(const u8 *)hi, hi);
    return (u32)scapp_raw_scan(number, low.data, low.size, high.data, high.size, flags);
}
static bool scapp_rows_next_(scapp_rows *rows, const scapp_table *table, void *out) {
    if (rows->ended) return false;
    u8 *buffer = scapp_memory(SCAPP_ROW_GUESS_, 1);
    i32 size = scapp_raw_next(rows->cursor, buffer, SCAPP_ROW_GUESS_);
    if (size > SCAPP_ROW_GUESS_) {
        buffer = scapp_memory((u32)size, 1);
        scapp_raw_next(rows->cursor, buffer, (u32)size);
    }
    rows->ended = size < 0;
    if (size >= 0) scapp_take_row_(table->row, buffer, out);
    return size >= 0;
}

// ---- 7. Messages in: MessagePack to C values; what does not fit is rejected with a reason that names the field -----

enum { M_NIL, M_BOOL, M_INT, M_FLOAT, M_STR, M_BIN, M_ARRAY, M_MAP, M_EXT };
// `number` is the absolute value of an int when `negative`, a float's bits, or the count of an array or map.
typedef struct { u8 kind; bool negative; u64 number; bytes data; } scapp_item;
typedef struct { const u8 *data; u32 size, at; } scapp_reader;
typedef struct scapp_path { const struct scapp_path *above; const char *name; } scapp_path;

static bool scapp_take_(scapp_reader *reader, u64 count, const u8 **out) {
    if (count > reader->size - reader->at) return false;
    *out = reader->data + reader->at;
    reader->at += (u32)count;
    return true;
}
static bool scapp_take_number_(scapp_reader *reader, u32 size, u64 *out) {
    const u8 *data;
    if (!scapp_take_(reader, size, &data)) return false;
    *out = scapp_read_big_(data, size);
    return true;
}
static bool scapp_take_data_(scapp_reader *reader, u32 length_size, u32 extra, scapp_item *item) {
    u64 size;
    if (!scapp_take_number_(reader, length_size, &size) || !scapp_take_(reader, size + extra, &item->data.data)) return false;
    item->data.size = (u32)(size + extra);
    return true;
}
static bool scapp_take_signed_(scapp_reader *reader, u32 size, scapp_item *item) {
    u64 raw;
    if (!scapp_take_number_(reader, size, &raw)) return false;
    u32 unused = 64 - 8 * size;
    i64 number = (i64)(unused ? (raw << unused & UINT64_MAX) : raw) >> unused;
    item->negative = number < 0;
    item->number = number < 0 ? (u64)(-(number + 1)) + 1 : (u64)number;
    return true;
}
static f64 scapp_float_of_(u64 bits) {
    f64 number;
    SCAPP_COPY_(&number, &bits, 8);
    return number;
}
static bool scapp_take_single_(scapp_reader *reader, scapp_item *item) {
    u64 raw;
    if (!scapp_take_number_(reader, 4, &raw)) return false;
    u32 bits = (u32)raw;
    float single;
    SCAPP_COPY_(&single, &bits, 4);
    f64 number = (f64)single;
    SCAPP_COPY_(&item->number, &number, 8);
    return true;
}

// The next value's head; the items of an array or map follow it. False when the bytes are not MessagePack.
static bool scapp_read_item_(scapp_reader *reader, scapp_item *item) {
    const u8 *first;
    *item = (scapp_item){};
    if (!scapp_take_(reader, 1, &first)) return false;
    u8 head = *first;
    if (head < 0x80) return item->kind = M_INT, item->number = head, true;
    if (head < 0x90) return item->kind = M_MAP, item->number = head & 15, true;
    if (head < 0xa0) return item->kind = M_ARRAY, item->number = head & 15, true;
    if (head < 0xc0) return item->kind = M_STR, item->data.size = head & 31, scapp_take_(reader, head & 31, &item->data.data);
    if (head >= 0xe0) return item->kind = M_INT, item->negative = true, item->number = 256u - head, true;
    switch (head) {
        case 0xc0: return item->kind = M_NIL, true;
        case 0xc2: case 0xc3: return item->kind = M_BOOL, item->number = head & 1, true;
        case 0xc4: case 0xc5: case 0xc6: return item->kind = M_BIN, scapp_take_data_(reader, 1u << (head - 0xc4), 0, item);
        case 0xc7: case 0xc8: case 0xc9: return item->kind = M_EXT, scapp_take_data_(reader, 1u << (head - 0xc7), 1, item);
        case 0xca: return item->kind = M_FLOAT, scapp_take_single_(reader, item);
        case 0xcb: return item->kind = M_FLOAT, scapp_take_number_(reader, 8, &item->number);
        case 0xcc: case 0xcd: case 0xce: case 0xcf: return item->kind = M_INT, scapp_take_number_(reader, 1u << (head - 0xcc), &item->number);
        case 0xd0: case 0xd1: case 0xd2: case 0xd3: return item->kind = M_INT, scapp_take_signed_(reader, 1u << (head - 0xd0), item);
        case 0xd4: case 0xd5: case 0xd6: case 0xd7: case 0xd8: return item->kind = M_EXT, scapp_take_(reader, (1u << (head - 0xd4)) + 1, &item->data.data);
        case 0xd9: case 0xda: case 0xdb: return item->kind = M_STR, scapp_take_data_(reader, 1u << (head - 0xd9), 0, item);
        case 0xdc: case 0xdd: return item->kind = M_ARRAY, scapp_take_number_(reader, 2u << (head - 0xdc), &item->number);
        case 0xde: case 0xdf: return item->kind = M_MAP, scapp_take_number_(reader, 2u << (head - 0xde), &item->number);
        default: return false; // 0xc1 is never used
    }
}

static const char *scapp_describe_(const scapp_item *item) {
    static const char *const words[] = { "nil", "a boolean", "a whole number", "a fraction", "text", "bytes", "an array", "a map", "an extension" };
    return words[item->kind];
}
static void scapp_push_path_(const scapp_path *path) {
    if (path->above->above) {
        scapp_push_path_(path->above);
        scapp_push8_('.');
    }
    scapp_push_text_(path->name);
}
// "the body" for a message's body, which has no name, "field 'a.b'" for what is inside.
static text scapp_label_(const scapp_path *path) {
    if (!path->above) return scapp_text("the body");
    u32 start = scapp_arena_top_;
    scapp_push_text_("field '");
    scapp_push_path_(path);
    scapp_push8_('\'');
    return (text){ (const char *)(uintptr_t)start, scapp_arena_top_ - start };
}
static text scapp_joined_(const char *const *names, u32 stride, u32 count) {
    u32 start = scapp_arena_top_;
    for (u32 i = 0; i < count; i++) {
        if (i) scapp_push_text_(", ");
        scapp_push_text_(*(const char *const *)((const u8 *)names + stride * i));
    }
    if (!count) return scapp_text("none");
    return (text){ (const char *)(uintptr_t)start, scapp_arena_top_ - start };
}

static scapp_result scapp_next_item_(scapp_reader *reader, scapp_item *item) {
    if (scapp_read_item_(reader, item)) return SCAPP_OK;
    return scapp_reject("payload is not valid MessagePack (at byte {} of {})", reader->at, reader->size);
}
static scapp_result scapp_wrong_(const scapp_path *path, const char *wanted, const scapp_item *item) {
    return scapp_reject("{} must be {}, not {}", scapp_label_(path), wanted, scapp_describe_(item));
}

static bool scapp_valid_utf8_(bytes data) {
    for (u32 i = 0; i < data.size;) {
        u8 head = data.data[i++];
        if (head < 0x80) continue;
        u32 more = head >= 0xf0 ? 3 : head >= 0xe0 ? 2 : 1, code = head & (0x3fu >> more);
        if (head < 0xc2 || head > 0xf4 || more > data.size - i) return false;
        for (u32 k = 0; k < more; k++, i++) {
            if ((data.data[i] & 0xc0) != 0x80) return false;
            code = code << 6 | (data.data[i] & 0x3f);
        }
        if ((more == 2 && (code < 0x800 || (code >= 0xd800 && code < 0xe000))) || (more == 3 && (code < 0x10000 || code > 0x10ffff))) return false;
    }
    return true;
}
static scapp_result scapp_take_text_(scapp_reader *reader, const scapp_path *path, text *out) {
    scapp_item item;
    SCAPP_TRY(scapp_next_item_(reader, &item));
    if (item.kind != M_STR) return scapp_wrong_(path, "text", &item);
    if (!scapp_valid_utf8_(item.data)) return scapp_reject("{} is not valid UTF-8", scapp_label_(path));
    *out = scapp_text_of_(item.data);
    return SCAPP_OK;
}
static i32 scapp_hex_digit_(u8 c) {
    if (c >= '0' && c <= '9') return c - '0';
    c |= 32;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}
static bool scapp_from_hex_(bytes digits, bytes *out) {
    if (digits.size < 2 || digits.size % 2 || digits.data[0] != '0' || digits.data[1] != 'x') return false;
    u8 *to = scapp_memory(digits.size / 2 - 1, 1);
    for (u32 i = 2; i < digits.size; i += 2) {
        i32 high = scapp_hex_digit_(digits.data[i]), low = scapp_hex_digit_(digits.data[i + 1]);
        if (high < 0 || low < 0) return false;
        to[i / 2 - 1] = (u8)(high << 4 | low);
    }
    *out = (bytes){ to, digits.size / 2 - 1 };
    return true;
}
static scapp_result scapp_take_bytes_(scapp_reader *reader, const scapp_path *path, u32 size, bytes *out) { // size 0: any
    scapp_item item;
    SCAPP_TRY(scapp_next_item_(reader, &item));
    if (item.kind == M_BIN) *out = item.data;
    else if (item.kind != M_STR) return scapp_wrong_(path, "bytes or 0x text", &item);
    else if (!scapp_from_hex_(item.data, out)) return scapp_reject("{} is text, but not 0x and pairs of hexadecimal digits", scapp_label_(path));
    if (size && out->size != size) return scapp_reject("{} has {} bytes, {} are needed", scapp_label_(path), out->size, size);
    return SCAPP_OK;
}
static bool scapp_parse_wide_(bytes digits, u256 *out) {
    scapp_limbs limbs = {};
    for (u32 i = 0; i < digits.size; i++) {
        if (digits.data[i] < '0' || digits.data[i] > '9' || !scapp_multiply_add_(&limbs, 10, digits.data[i] - '0')) return false;
    }
    *out = scapp_from_limbs_(limbs);
    return digits.size > 0;
}
static scapp_result scapp_take_wide_(scapp_reader *reader, const scapp_path *path, u256 *out) {
    scapp_item item;
    SCAPP_TRY(scapp_next_item_(reader, &item));
    if (item.kind == M_STR) {
        if (scapp_parse_wide_(item.data, out)) return SCAPP_OK;
        return scapp_reject("{} is not a whole number from 0 to 2^256-1: '{}'", scapp_label_(path), scapp_text_of_(item.data));
    }
    if (item.kind == M_INT && !item.negative) return *out = item.number, SCAPP_OK;
    if (item.kind == M_BIN && item.data.size <= 32) {
        *out = 0;
        for (u32 i = 0; i < item.data.size; i++) *out = *out << 8 | item.data.data[i];
        return SCAPP_OK;
    }
    if (item.kind == M_INT || item.kind == M_BIN) return scapp_reject("{} is out of range: 0 to 2^256-1", scapp_label_(path));
    return scapp_wrong_(path, "a whole number", &item);
}
static scapp_result scapp_take_integer_(scapp_reader *reader, const scapp_path *path, bool is_signed, u32 bits, u64 *out) {
    scapp_item item;
    SCAPP_TRY(scapp_next_item_(reader, &item));
    if (item.kind != M_INT) return scapp_wrong_(path, "a whole number", &item);
    u64 most = UINT64_MAX >> (64 - bits + (is_signed ? 1 : 0)), least = is_signed ? most + 1 : 0;
    if (item.number <= (item.negative ? least : most)) {
        *out = item.negative ? ~(item.number - 1) : item.number;
        return SCAPP_OK;
    }
    if (!is_signed) return scapp_reject("{} is out of range: 0 to {}", scapp_label_(path), most);
    return scapp_reject("{} is out of range: -{} to {}", scapp_label_(path), least, most);
}

static scapp_result scapp_take_value_(scapp_reader *, const scapp_path *, const scapp_type *, void *out);

static scapp_result scapp_take_named_(scapp_reader *reader, const scapp_path *path, const scapp_type *type, void *out, bool *seen) {
    scapp_item key;
    SCAPP_TRY(scapp_next_item_(reader, &key));
    if (key.kind != M_STR) return scapp_wrong_(path, "a map with text keys", &key);
    for (u32 i = 0; i < type->count; i++) {
        const scapp_field *field = &type->fields[i];
        if (scapp_length_(field->name) != key.data.size || !scapp_same_(field->name, key.data.data, key.data.size)) continue;
        scapp_path inside = { path, field->name };
        if (seen[i]) return scapp_reject("{} is given twice", scapp_label_(&inside));
        seen[i] = true;
        return scapp_take_value_(reader, &inside, field->type, (u8 *)out + field->offset);
    }
    return scapp_reject("unknown field '{}': known are {}", scapp_text_of_(key.data),
                        scapp_joined_(&type->fields[0].name, sizeof(scapp_field), type->count));
}
static scapp_result scapp_take_struct_(scapp_reader *reader, const scapp_path *path, const scapp_type *type, void *out) {
    scapp_item item;
    bool *seen = scapp_memory(type->count, 1);
    for (u32 i = 0; i < type->count; i++) seen[i] = false;
    SCAPP_TRY(scapp_next_item_(reader, &item));
    if (item.kind == M_MAP) {
        for (u64 i = 0; i < item.number; i++) SCAPP_TRY(scapp_take_named_(reader, path, type, out, seen));
    } else if (item.kind == M_ARRAY) {
        if (item.number > type->count) return scapp_reject("{} has {} values for {} fields", scapp_label_(path), item.number, type->count);
        for (u32 i = 0; i < item.number; i++) {
            const scapp_field *field = &type->fields[i];
            scapp_path inside = { path, field->name };
            SCAPP_TRY(scapp_take_value_(reader, &inside, field->type, (u8 *)out + field->offset));
            seen[i] = true;
        }
    } else if (item.kind != M_NIL) return scapp_wrong_(path, "a map or an array", &item);
    for (u32 i = 0; i < type->count; i++) {
        const scapp_field *field = &type->fields[i];
        scapp_path inside = { path, field->name };
        if (seen[i]) continue;
        if (field->fallback) SCAPP_COPY_((u8 *)out + field->offset, field->fallback, field->type->size);
        else if (field->type->kind == K_OPTIONAL) *((bool *)out + field->offset) = false;
        else return scapp_reject("{} missing", scapp_label_(&inside));
    }
    return SCAPP_OK;
}
static scapp_result scapp_take_array_(scapp_reader *reader, const scapp_path *path, const scapp_type *type, void *out) {
    scapp_item item;
    SCAPP_TRY(scapp_next_item_(reader, &item));
    if (item.kind != M_ARRAY) return scapp_wrong_(path, "an array", &item);
    // Each item takes at least a byte, so this bounds what a short payload can make us allocate.
    if (item.number > reader->size - reader->at) return scapp_reject("{} ends before its {} items", scapp_label_(path), item.number);
    u8 *items = scapp_memory((u32)item.number * type->inner->size, 16);
    for (u32 i = 0; i < item.number; i++) SCAPP_TRY(scapp_take_value_(reader, path, type->inner, items + i * type->inner->size));
    *(bytes *)out = (bytes){ items, (u32)item.number };
    return SCAPP_OK;
}
static scapp_result scapp_take_value_(scapp_reader *reader, const scapp_path *path, const scapp_type *type, void *out) {
    scapp_item item;
    switch (type->kind) {
        case K_OPTIONAL: {
            bool null = reader->at < reader->size && reader->data[reader->at] == 0xc0;
            *(bool *)out = !null;
            if (null) return reader->at++, SCAPP_OK;
            return scapp_take_value_(reader, path, type->inner, (u8 *)out + type->offset);
        }
        case K_BOOL:
            SCAPP_TRY(scapp_next_item_(reader, &item));
            if (item.kind != M_BOOL) return scapp_wrong_(path, "true or false", &item);
            *(bool *)out = item.number != 0;
            return SCAPP_OK;
        case K_SIGNED:
        case K_UNSIGNED: {
            u64 number;
            SCAPP_TRY(scapp_take_integer_(reader, path, type->kind == K_SIGNED, 8 * type->size, &number));
            return scapp_store_integer_(type, out, number), SCAPP_OK;
        }
        case K_TIMESTAMP: {
            u64 ms;
            SCAPP_TRY(scapp_take_integer_(reader, path, false, 53, &ms));
            return *(timestamp *)out = scapp_timestamp(ms), SCAPP_OK;
        }
        case K_WIDE: return scapp_take_wide_(reader, path, out);
        case K_FLOAT:
            SCAPP_TRY(scapp_next_item_(reader, &item));
            if (item.kind == M_FLOAT) return *(f64 *)out = scapp_float_of_(item.number), SCAPP_OK;
            if (item.kind != M_INT) return scapp_wrong_(path, "a number", &item);
            return *(f64 *)out = item.negative ? -(f64)item.number : (f64)item.number, SCAPP_OK;
        case K_TEXT:
        case K_JSON: return scapp_take_text_(reader, path, out);
        case K_BYTES: return scapp_take_bytes_(reader, path, 0, out);
        case K_FIXED: {
            bytes data;
            SCAPP_TRY(scapp_take_bytes_(reader, path, type->size, &data));
            return SCAPP_COPY_(out, data.data, type->size), SCAPP_OK;
        }
        case K_ENUM: {
            text name;
            SCAPP_TRY(scapp_take_text_(reader, path, &name));
            if (scapp_choose_(type, name, out)) return SCAPP_OK;
            return scapp_reject("{} is '{}': allowed are {}", scapp_label_(path), name, scapp_joined_(type->names, sizeof(char *), type->count));
        }
        case K_ARRAY: return scapp_take_array_(reader, path, type, out);
        default: return scapp_take_struct_(reader, path, type, out);
    }
}

static scapp_result scapp_ended_(const scapp_reader *reader) {
    if (reader->at == reader->size) return SCAPP_OK;
    return scapp_reject("{} bytes after the payload's value", reader->size - reader->at);
}
static scapp_result scapp_empty_body_(scapp_reader *reader, const char *name) {
    scapp_item item;
    SCAPP_TRY(scapp_next_item_(reader, &item));
    if (item.kind == M_NIL || ((item.kind == M_MAP || item.kind == M_ARRAY) && item.number == 0)) return SCAPP_OK;
    if (item.kind == M_MAP || item.kind == M_ARRAY) return scapp_reject("message '{}' has no fields, not {}", name, item.number);
    return scapp_reject("message '{}' has no fields, not {}", name, scapp_describe_(&item));
}
static scapp_result scapp_run_message_(const scapp_context *ctx, scapp_reader *reader) {
    static const scapp_path top = {};
    scapp_item item, key;
    SCAPP_TRY(scapp_next_item_(reader, &item));
    key = item;
    if (item.kind == M_MAP) {
        if (item.number != 1) return scapp_reject("a message is a map of one name to a body, not of {}", item.number);
        SCAPP_TRY(scapp_next_item_(reader, &key));
        if (key.kind != M_STR) return scapp_reject("a message's name is text, not {}", scapp_describe_(&key));
    } else if (item.kind != M_STR) return scapp_reject("a message is a map of one name to a body, not {}", scapp_describe_(&item));
    for (u32 i = 0; i < scapp_the_app.message_count; i++) {
        const scapp_message *message = &scapp_the_app.messages[i];
        if (scapp_length_(message->name) != key.data.size || !scapp_same_(message->name, key.data.data, key.data.size)) continue;
        void *body = scapp_memory(message->body->size, 16);
        if (message->body->count == 0) {
            if (item.kind == M_MAP) SCAPP_TRY(scapp_empty_body_(reader, message->name));
        } else if (item.kind == M_STR) return scapp_reject("message '{}' needs a body", message->name);
        else SCAPP_TRY(scapp_take_value_(reader, &top, message->body, body));
        SCAPP_TRY(scapp_ended_(reader));
        return message->handle(ctx, body);
    }
    return scapp_reject("unknown message '{}': known are {}", scapp_text_of_(key.data),
                        scapp_joined_(&scapp_the_app.messages[0].name, sizeof(scapp_message), scapp_the_app.message_count));
}

// ---- 8. Messages out: MessagePack of events ------------------------------------------------------------------------

static void scapp_push_sized_(u8 small, u32 small_max, u8 long_, u32 count) {
    if (count <= small_max) return scapp_push8_((u8)(small | count));
    scapp_push8_((u8)(long_ + (count > 0xffff)));
    scapp_push_big_(count, count > 0xffff ? 4 : 2);
}
static void scapp_push_str_(const void *data, u32 size) {
    if (size > 31 && size <= 0xff) {
        scapp_push8_(0xd9);
        scapp_push8_((u8)size);
    } else scapp_push_sized_(0xa0, 31, 0xda, size);
    scapp_push_(data, size);
}
static void scapp_push_bin_(const void *data, u32 size) {
    u32 width = size <= 0xff ? 1 : size <= 0xffff ? 2 : 4;
    scapp_push8_((u8)(0xc4 + (width >> 1)));
    scapp_push_big_(size, width);
    scapp_push_(data, size);
}
static void scapp_push_unsigned_(u64 number) {
    if (number < 128) return scapp_push8_((u8)number);
    u32 step = number <= 0xff ? 0 : number <= 0xffff ? 1 : number <= 0xffffffffu ? 2 : 3;
    scapp_push8_((u8)(0xcc + step));
    scapp_push_big_(number, 1u << step);
}
static void scapp_push_packed_(const scapp_value *value) {
    if (value->null) return scapp_push8_(0xc0);
    switch (value->type->kind) {
        case K_BOOL: return scapp_push8_(value->as.number ? 0xc3 : 0xc2);
        case K_SIGNED:
            if (value->as.integer >= 0) return scapp_push_unsigned_((u64)value->as.integer);
            if (value->as.integer >= -32) return scapp_push8_((u8)(value->as.integer & 0xff));
            scapp_push8_(0xd3);
            return scapp_push_big_((u64)value->as.integer, 8);
        case K_UNSIGNED: return scapp_push_unsigned_(value->as.number);
        case K_WIDE: {
            if (value->as.wide <= UINT64_MAX) return scapp_push_unsigned_((u64)value->as.wide);
            u32 start = scapp_arena_top_;
            scapp_push_decimal_(value->as.wide);
            u32 size = scapp_arena_top_ - start;
            u8 digits[78];
            SCAPP_COPY_(digits, (const void *)(uintptr_t)start, size);
            scapp_arena_top_ = start;
            return scapp_push_str_(digits, size);
        }
        case K_FLOAT:
            scapp_push8_(0xcb);
            return scapp_push_big_(scapp_float_bits_(value->as.real), 8);
        case K_TEXT: return scapp_push_str_(value->as.string.data, value->as.string.size);
        case K_BYTES: return scapp_push_bin_(value->as.binary.data, value->as.binary.size);
        case K_ARRAY:
            scapp_push_sized_(0x90, 15, 0xdc, value->count);
            for (u32 i = 0; i < value->count; i++) scapp_push_packed_(&value->as.items[i]);
            return;
        default: return scapp_push_bin_(value->as.address.bytes, value->type->size);
    }
}
static void scapp_emit_(const char *topic, const scapp_value *values, u32 count) {
    u32 start = scapp_arena_top_;
    scapp_push_sized_(0x80, 15, 0xde, count / 2);
    for (u32 i = 0; i + 1 < count; i += 2) {
        scapp_push_packed_(&values[i]);
        scapp_push_packed_(&values[i + 1]);
    }
    scapp_raw_emit(topic, scapp_length_(topic), (const void *)(uintptr_t)start, scapp_arena_top_ - start);
}

// ---- 9. Entry points -----------------------------------------------------------------------------------------------

enum { SCAPP_HEADER_BYTES_ = 80 };

static void scapp_reset_(void) { scapp_arena_top_ = ((u32)(uintptr_t)&__heap_base + 15) / 16 * 16; }

u64 scapp_manifest(void) {
    scapp_reset_();
    u32 start = scapp_arena_top_;
    scapp_push_manifest_();
    return (u64)start << 32 | (scapp_arena_top_ - start);
}

void *scapp_alloc(u32 size) {
    scapp_reset_();
    return scapp_memory(size, 16);
}

i32 scapp_reduce(const u8 *buffer, u32 size) {
    scapp_context ctx = { .kind = buffer[0], .author = buffer[1], .sequence = scapp_read_little_(buffer + 8, 8),
                          .time_ms = scapp_read_little_(buffer + 16, 8) };
    SCAPP_COPY_(&ctx.address, buffer + 24, 20);
    SCAPP_COPY_(&ctx.channel_id, buffer + 44, 32);
    scapp_reader reader = { buffer + SCAPP_HEADER_BYTES_, size - SCAPP_HEADER_BYTES_, 0 };
    if (ctx.kind == SCAPP_MESSAGE_ENTRY) return (i32)scapp_run_message_(&ctx, &reader);
    if (ctx.kind == SCAPP_OPEN) {
        static const scapp_path top = {};
        void *opening = scapp_memory(scapp_the_app.opening->size, 16);
        if (scapp_take_value_(&reader, &top, scapp_the_app.opening, opening) != SCAPP_OK || scapp_ended_(&reader) != SCAPP_OK) return 1;
        return (i32)scapp_the_app.open(&ctx, opening);
    }
    if (ctx.kind != SCAPP_TICK) return (i32)scapp_reject("entries of kind {} are unknown here", ctx.kind);
    return on_tick ? (i32)on_tick(&ctx) : (i32)scapp_reject("this app takes no ticks");
}

#pragma clang diagnostic pop

#endif
