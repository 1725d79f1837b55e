// The C of docs/reference/sdks.md in one reducer, so that a compiler has seen it.

#include "scapp.h"

SCAPP_ENUM(colour, red, green)
SCAPP_STRUCT(item, (i32, x))

SCAPP_TABLE(account, KEY((address, owner)), (u256, balance))
SCAPP_INDEX(account, by_balance, balance)
SCAPP_VIEW(holder, account, owner)

SCAPP_TABLE(pair, KEY((i32, left), (text, right)), (i32, value))
SCAPP_UNIQUE_INDEX(pair, by_value, value)

SCAPP_HISTORY_TABLE(every, KEY((i16, id)), (bool, flag), (i64, large), (u64, word), (f64, ratio), (colour, shade), (bytes, blob),
                    (json, doc), (bytes32, hash), (uuid, uid), (timestamp, at), (opt_text, note))

SCAPP_PARAMS((i64, most, 10))
SCAPP_MESSAGE(add, (text, who), (i64, points, 1))
SCAPP_MESSAGE(sum, (item_array, items))

static scapp_result check(text who) {
    if (who.size == 0) return scapp_reject("{}", who);
    return SCAPP_OK;
}

static scapp_result on_open(const scapp_context *, const scapp_opening *opening) {
    u256 amounts[2] = { 1, 2 };
    u32 n = 2, x = opening->slots.count;
    if (x != n) return scapp_reject("{}", x);
    scapp_set_outcome(amounts, n);
    return SCAPP_OK;
}

static scapp_result on_add(const scapp_context *ctx, const add_message *msg) {
    SCAPP_TRY(check(msg->who));
    address o = ctx->address;
    account row = {};
    account_get(&row, o);
    u256 x;
    if (!scapp_add(row.balance, (u256)msg->points, &x)) return scapp_reject("{} is the most", row.balance);
    account_put((account){ o, x });
    if (x == 0) account_delete(o);
    scapp_emit("t", "a", x);
    scapp_emit_raw(msg->who, (bytes){ o.bytes, sizeof o.bytes });
    scapp_log(SCAPP_INFO, "{} has {}", o, x);
    return SCAPP_OK;
}

static scapp_result on_sum(const scapp_context *, const sum_message *msg) {
    i32 sum = 0, x = (i32)msg->items.count;
    for (i32 i = 0; i < x; i++) sum += msg->items.items[i].x;
    pair row;
    pair_rows rows = pair_scan((pair_options){ .prefix = {1, x} });
    while (pair_next(&rows, &row)) sum -= row.value;
    rows = by_value_scan((by_value_options){});
    if (pair_first(&row, (pair_options){})) sum -= row.value;
    if (pair_next(&rows, &row)) pair_put((pair){ row.left, scapp_format("{}", sum), x });
    return SCAPP_OK;
}

scapp_result on_tick(const scapp_context *ctx) {
    every row;
    if (!every_get(&row, 1)) return scapp_reject("{}", ctx->time_ms);
    opt_text note = row.note;
    if (note.some) row.hash = scapp_keccak256(row.blob), scapp_log(SCAPP_DEBUG, "{}", note.value);
    row.hash = scapp_commitment(ctx, scapp_sha256(row.blob), 0, row.blob);
    row.note = SCAPP_NULL(text);
    every_put(row);
    return SCAPP_OK;
}

SCAPP_APP("name", "1.0.0", TABLES(account, pair, every), INDEXES(by_balance, by_value), VIEWS(holder), MESSAGES(add, sum))
