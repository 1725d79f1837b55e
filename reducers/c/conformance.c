// The probes of reducers/zig/conformance.zig in C: every import of `scapp_1` with values of the sender's choosing.
// Not an app. Built to tests/golden/conformance-c.wasm.

#include "scapp.h"

SCAPP_ENUM(colour, red, green, blue)
SCAPP_ENUM(level, err, warn, info, debug)
SCAPP_ENUM(import, get, put, delete, scan, next, emit, set_outcome, keccak256)

// One column of each type.
SCAPP_TABLE(every, KEY((i64, id)), (bool, flag), (i16, small), (i32, medium), (u256, amount), (u64, word), (f64, ratio),
            (text, title), (bytes, blob), (bytes32, hash), (address, owner), (uuid, uid), (timestamp, at), (json, doc),
            (colour, colour), (opt_text, note))
SCAPP_INDEX(every, every_by_title, title, id)
SCAPP_UNIQUE_INDEX(every, every_by_note, note)

SCAPP_HISTORY_TABLE(pair, KEY((i32, left), (text, right)), (i32, value))
SCAPP_INDEX(pair, pair_by_value, value)

// What probes found out, one row per message.
SCAPP_TABLE(result, KEY((i64, sequence)), (text, text))

SCAPP_STRUCT(item, (i32, left), (text, right), (i32, value))
SCAPP_PARAMS((text, greeting, "hello", 5))
SCAPP_MESSAGE(every, (i64, id), (bool, flag), (i16, small), (i32, medium), (u256, amount), (u64, word), (f64, ratio),
              (text, title), (bytes, blob), (bytes32, hash), (address, owner), (uuid, uid), (timestamp, at), (json, doc),
              (colour, colour), (opt_text, note))
SCAPP_MESSAGE(copy, (i64, from), (i64, to))
SCAPP_MESSAGE(remove, (i64, id))
SCAPP_MESSAGE(put_pairs, (item_array, pairs))
SCAPP_MESSAGE(scan_pairs, (opt_i32, left), (opt_i32, from), (opt_i32, to), (bool, inclusive, false), (bool, backwards, false))
SCAPP_MESSAGE(scan_values, (i32, from), (i32, to), (bool, backwards, false))
SCAPP_MESSAGE(scan_while_deleting)
SCAPP_MESSAGE(pay, (u256_array, amounts))
SCAPP_MESSAGE(hash_both, (bytes, data))
SCAPP_MESSAGE(hide, (bytes32, salt), (u64, round), (bytes, value))
SCAPP_MESSAGE(speak, (level, level), (text, text))
SCAPP_MESSAGE(announce, (text, topic), (bytes, data))
SCAPP_MESSAGE(announce_values, (i64, a), (u256, b), (opt_bool, c), (text, d))
SCAPP_MESSAGE(refuse_but_accept, (text, reason))
SCAPP_MESSAGE(move, (i32, x), (i32, y))
SCAPP_MESSAGE(context)
SCAPP_MESSAGE(overflow, (i32, by))
SCAPP_MESSAGE(recurse, (u32, depth))
SCAPP_MESSAGE(devour, (u32, bytes))
// Calls an import with raw numbers: bad tables, pointers and lengths.
SCAPP_MESSAGE(raw, (import, import), (u32, table), (u32, ptr), (u32, len))

static scapp_result note(const scapp_context *ctx, text found) {
    result_put((result){ (i64)ctx->sequence, found });
    return SCAPP_OK;
}

static scapp_result list(const scapp_context *ctx, pair_rows rows) {
    text found = scapp_text("");
    for (pair row; pair_next(&rows, &row);) found = scapp_format("{}{}{}={} ", found, row.left, row.right, row.value);
    return note(ctx, found);
}

static scapp_result describe(const scapp_context *ctx) {
    const char *kind = ctx->kind == SCAPP_TICK ? "tick" : "message";
    return note(ctx, scapp_format("{} {} {} {} {} {}", kind, ctx->author, ctx->address, ctx->channel_id, ctx->sequence, ctx->time_ms));
}

static scapp_result on_open(const scapp_context *ctx, const scapp_opening *opening) {
    if (opening->params.greeting.size == 0) return scapp_reject("greeting is empty");
    return note(ctx, scapp_format("{} {} participants {} slots", opening->params.greeting, opening->participants.count, opening->slots.count));
}

static scapp_result on_every(const scapp_context *, const every_message *b) {
    every_put((every){ b->id, b->flag, b->small, b->medium, b->amount, b->word, b->ratio, b->title, b->blob, b->hash, b->owner,
                       b->uid, b->at, b->doc, b->colour, b->note });
    return SCAPP_OK;
}

static scapp_result on_copy(const scapp_context *ctx, const copy_message *b) {
    every row;
    if (!every_get(&row, b->from)) return scapp_reject("no row {}", b->from);
    row.id = b->to;
    row.note = SCAPP_NULL(text);
    return note(ctx, scapp_format("replaced {}", every_put(row)));
}

static scapp_result on_remove(const scapp_context *ctx, const remove_message *b) {
    return note(ctx, scapp_format("existed {}", every_delete(b->id)));
}

static scapp_result on_put_pairs(const scapp_context *, const put_pairs_message *b) {
    for (u32 i = 0; i < b->pairs.count; i++) {
        item p = b->pairs.items[i];
        pair_put((pair){ p.left, p.right, p.value });
    }
    return SCAPP_OK;
}

static scapp_result on_scan_pairs(const scapp_context *ctx, const scan_pairs_message *b) {
    pair_options options = { .backwards = b->backwards, .to_inclusive = b->inclusive };
    if (b->left.some) options.prefix = (pair_bound){ 1, b->left.value, {} };
    if (b->from.some) options.from = (pair_bound){ 1, b->from.value, {} };
    if (b->to.some) options.to = (pair_bound){ 1, b->to.value, {} };
    return list(ctx, pair_scan(options));
}

static scapp_result on_scan_values(const scapp_context *ctx, const scan_values_message *b) {
    return list(ctx, pair_by_value_scan((pair_by_value_options){ .from = { 1, b->from }, .to = { 1, b->to }, .backwards = b->backwards }));
}

static scapp_result on_scan_while_deleting(const scapp_context *, const scan_while_deleting_message *) {
    pair_rows rows = pair_scan((pair_options){});
    for (pair row; pair_next(&rows, &row);) {
        pair_delete(row.left, row.right);
        pair_delete(row.left + 1, row.right);
    }
    return SCAPP_OK;
}

static scapp_result on_pay(const scapp_context *, const pay_message *b) {
    scapp_set_outcome(b->amounts.items, b->amounts.count);
    return SCAPP_OK;
}

static scapp_result on_hash_both(const scapp_context *ctx, const hash_both_message *b) {
    return note(ctx, scapp_format("{} {}", scapp_keccak256(b->data), scapp_sha256(b->data)));
}

static scapp_result on_hide(const scapp_context *ctx, const hide_message *b) {
    return note(ctx, scapp_format("{}", scapp_commitment(ctx, b->salt, b->round, b->value)));
}

static scapp_result on_speak(const scapp_context *, const speak_message *b) {
    scapp_log((scapp_level)b->level, "{}", b->text);
    return SCAPP_OK;
}

static scapp_result on_announce(const scapp_context *, const announce_message *b) {
    scapp_emit_raw(b->topic, b->data);
    return SCAPP_OK;
}

static scapp_result on_announce_values(const scapp_context *, const announce_values_message *b) {
    scapp_emit("values", "a", b->a, "b", b->b, "c", b->c, "d", b->d, "list", SCAPP_LIST(b->a, b->d));
    return SCAPP_OK;
}

static scapp_result on_refuse_but_accept(const scapp_context *, const refuse_but_accept_message *b) {
    scapp_raw_reject(b->reason.data, b->reason.size);
    return SCAPP_OK;
}

static scapp_result on_move(const scapp_context *ctx, const move_message *b) { return note(ctx, scapp_format("{} {}", b->x, b->y)); }

static scapp_result on_context(const scapp_context *ctx, const context_message *) { return describe(ctx); }

static scapp_result on_overflow(const scapp_context *ctx, const overflow_message *b) {
    return note(ctx, scapp_format("{}", INT32_MAX + b->by));
}

// Each level keeps 64 bytes of stack in use, because the level below reads them.
__attribute__((noinline)) static u32 deep(u32 depth, const volatile u32 *above) {
    volatile u32 frame[16];
    for (u32 i = 0; i < 16; i++) frame[i] = depth;
    if (depth == 0) return above[3] - 1;
    return 1 + deep(depth - 1, frame) + above[7] - depth - 1;
}

static scapp_result on_recurse(const scapp_context *ctx, const recurse_message *b) {
    u32 frame[16];
    for (u32 i = 0; i < 16; i++) frame[i] = b->depth + 1;
    return note(ctx, scapp_format("{}", deep(b->depth, frame)));
}

static scapp_result on_devour(const scapp_context *ctx, const devour_message *b) {
    return note(ctx, scapp_format("{}", scapp_memory(b->bytes, 1) ? b->bytes : 0));
}

static scapp_result on_raw(const scapp_context *, const raw_message *b) {
    void *start = (void *)(uintptr_t)b->ptr;
    switch (b->import) {
        case import_get: scapp_raw_get(b->table, start, b->len, start, 0); break;
        case import_put: scapp_raw_put(b->table, start, b->len); break;
        case import_delete: scapp_raw_delete(b->table, start, b->len); break;
        case import_scan: scapp_raw_scan(b->table, start, b->len, start, 0, b->ptr); break;
        case import_next: scapp_raw_next(b->table, start, b->len); break;
        case import_emit: scapp_raw_emit(start, b->len, start, b->len); break;
        case import_set_outcome: scapp_raw_set_outcome(start, b->len); break;
        case import_keccak256: scapp_raw_keccak256(start, b->len, start); break;
    }
    return SCAPP_OK;
}

scapp_result on_tick(const scapp_context *ctx) { return describe(ctx); }

SCAPP_APP("conformance", "1.0.0", TABLES(every, pair, result), INDEXES(every_by_title, every_by_note, pair_by_value), VIEWS(),
          MESSAGES(every, copy, remove, put_pairs, scan_pairs, scan_values, scan_while_deleting, pay, hash_both, hide, speak,
                   announce, announce_values, refuse_but_accept, move, context, overflow, recurse, devour, raw))
