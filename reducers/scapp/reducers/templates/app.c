// NAME: anybody adds points to a name, up to a limit agreed when the channel opens. Start from here.

#include "scapp.h"

SCAPP_TABLE(score, KEY((text, who)), (i64, points), (address, last_by))
SCAPP_TABLE(rule, KEY((i16, id)), (i64, most))

SCAPP_PARAMS((i64, most, 10))
SCAPP_MESSAGE(add, (text, who), (i64, points, 1))
SCAPP_MESSAGE(clear, (text, who))

static scapp_result on_open(const scapp_context *, const scapp_opening *opening) {
    rule_put((rule){ 1, opening->params.most });
    return SCAPP_OK;
}

static scapp_result on_add(const scapp_context *ctx, const add_message *msg) {
    rule agreed;
    score row;
    rule_get(&agreed, 1);
    if (msg->points < 1 || msg->points > agreed.most)
        return scapp_reject("points is {}: allowed are 1 to {}", msg->points, agreed.most);
    i64 before = score_get(&row, msg->who) ? row.points : 0;
    score_put((score){ msg->who, before + msg->points, ctx->address });
    scapp_emit("added", "who", msg->who, "points", msg->points);
    return SCAPP_OK;
}

static scapp_result on_clear(const scapp_context *, const clear_message *msg) {
    if (!score_delete(msg->who)) return scapp_reject("nobody is called '{}'", msg->who);
    return SCAPP_OK;
}

SCAPP_APP("NAME", "0.1.0", TABLES(score, rule), INDEXES(), VIEWS(), MESSAGES(add, clear))
