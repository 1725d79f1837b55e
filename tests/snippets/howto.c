// The C of docs/howto in one reducer, so that a compiler has seen it.

#include "scapp.h"

SCAPP_HISTORY_TABLE(account, KEY((address, owner)), (u256, balance))
SCAPP_TABLE(offer, KEY((i64, id)), (text, side), (u256, price))
SCAPP_INDEX(offer, by_price, side, price)

SCAPP_PARAMS()
SCAPP_MESSAGE(buy, (u256, most))

static scapp_result on_open(const scapp_context *, const scapp_opening *) { return SCAPP_OK; }

static scapp_result on_buy(const scapp_context *ctx, const buy_message *msg) {
    offer best;
    if (!by_price_first(&best, (by_price_options){ .prefix = { 1, scapp_text("sell") } }) || best.price > msg->most)
        return scapp_reject("no offer up to {}", msg->most);
    account_put((account){ ctx->address, best.price });
    return SCAPP_OK;
}

SCAPP_APP("howto", "1.0.0", TABLES(account, offer), INDEXES(by_price), VIEWS(), MESSAGES(buy))
