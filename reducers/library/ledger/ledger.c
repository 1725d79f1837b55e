// The token ledger of ledger.zig in C: same tables, same messages, same rows. The rules stand at the head of that file.

#include "scapp.h"

SCAPP_TABLE(account, KEY((address, owner)), (u256, balance))
SCAPP_INDEX(account, account_by_balance, balance)

// One row for each change of a balance: `sender` null for a mint, `recipient` null for a burn.
SCAPP_TABLE(transfer, KEY((i64, sequence)), (opt_address, sender), (opt_address, recipient), (u256, amount), (timestamp, at))
SCAPP_INDEX(transfer, transfer_by_sender, sender, sequence)
SCAPP_INDEX(transfer, transfer_by_recipient, recipient, sequence)

// The one row of what was agreed at the opening.
SCAPP_TABLE(token, KEY((i16, id)), (opt_address, issuer), (u256, supply), (bool, backed))

// Who is paid by which slot, in slot order; only for a backed ledger.
SCAPP_TABLE(payee, KEY((i16, slot)), (address, owner))
SCAPP_UNIQUE_INDEX(payee, payee_by_owner, owner)

// The one row of a backed ledger that may grow: by how much, and what its depositor has not claimed yet.
SCAPP_TABLE(room, KEY((i16, id)), (u256, headroom), (u256, pending), (opt_address, depositor))

SCAPP_VIEW(holder, account, owner, balance)

SCAPP_STRUCT(balance, (address, owner), (u256, amount))
SCAPP_PARAMS((opt_address, issuer), (balance_array, balances, nullptr, 0))
SCAPP_MESSAGE(transfer, (address, to), (u256, amount))
SCAPP_MESSAGE(mint, (address, to), (u256, amount))
SCAPP_MESSAGE(burn, (u256, amount))
SCAPP_MESSAGE(top_up, (u256, amount))
SCAPP_MESSAGE(claim, (u256, amount))

static scapp_result positive(u256 amount) {
    return amount ? SCAPP_OK : scapp_reject("amount is 0: at least 1 is needed");
}

static scapp_result sum(u256 a, u256 b, u256 *out) {
    return scapp_add(a, b, out) ? SCAPP_OK : scapp_reject("{} and {} together exceed 2^256-1", a, b);
}

static u256 balance_of(address owner) {
    account row;
    return account_get(&row, owner) ? row.balance : (u256)0;
}

static scapp_result withdraw(address owner, u256 amount) {
    u256 balance = balance_of(owner);
    if (balance < amount) return scapp_reject("balance of {} is {}, {} are needed", owner, balance, amount);
    account_put((account){ owner, balance - amount });
    return SCAPP_OK;
}

static scapp_result deposit(address owner, u256 amount) {
    account row = { .owner = owner };
    SCAPP_TRY(sum(balance_of(owner), amount, &row.balance));
    account_put(row);
    return SCAPP_OK;
}

static void record(const scapp_context *ctx, const char *topic, opt_address sender, opt_address recipient, u256 amount) {
    transfer_put((transfer){ (i64)ctx->sequence, sender, recipient, amount, scapp_timestamp(ctx->time_ms) });
    scapp_emit(topic, "sender", sender, "recipient", recipient, "amount", amount);
}

// The outcome of a backed ledger: each slot pays its owner's balance, then what is not claimed, then the headroom.
static void settle(void) {
    u256 amounts[256] = {};
    u32 count = 0, depositor = 0;
    payee row;
    room r;
    bool grows = room_get(&r, 1);
    for (payee_rows rows = payee_scan((payee_options){}); payee_next(&rows, &row); count++) {
        amounts[count] = balance_of(row.owner);
        if (grows && r.depositor.some && scapp_address_equal(r.depositor.value, row.owner)) depositor = count;
    }
    if (grows) {
        amounts[count + depositor] = r.pending;
        amounts[2 * count] = r.headroom;
        count = 2 * count + 1;
    }
    scapp_set_outcome(amounts, count);
}

static bool is_participant(const scapp_opening *opening, address owner) {
    for (u32 i = 0; i < opening->participants.count; i++)
        if (scapp_address_equal(opening->participants.items[i], owner)) return true;
    return false;
}

// Is there a slot for each participant, and does each pay another one?
static bool pays_participants(const scapp_opening *opening) {
    const scapp_slot *slots = opening->slots.items;
    if (opening->slots.count != opening->participants.count) return false;
    for (u32 i = 0; i < opening->slots.count; i++) {
        address owner;
        if (!scapp_payee(&slots[i], &owner) || !is_participant(opening, owner)) return false;
        for (u32 k = 0; k < i; k++) if (scapp_bytes32_equal(slots[k].destination, slots[i].destination)) return false;
    }
    return true;
}

// Are the slots after the participants' room for top-ups?
static bool is_room(const scapp_opening *opening) {
    const scapp_slot *slots = opening->slots.items;
    u32 count = opening->participants.count;
    if (opening->slots.count != 2 * count + 1 || slots[2 * count].amount == 0) return false;
    for (u32 i = 0; i < count; i++)
        if (slots[count + i].amount != 0 || !scapp_bytes32_equal(slots[count + i].destination, slots[i].destination)) return false;
    return scapp_bytes32_equal(slots[2 * count].destination, slots[0].destination);
}

// One asset, one slot for each participant and none for anybody else but room, and balances that say the same.
static bool is_backed(const scapp_opening *opening) {
    const scapp_slot *slots = opening->slots.items;
    u32 count = opening->participants.count, balances = opening->params.balances.count;
    address owner;
    account row;
    if (opening->slots.count == 0 || opening->slots.count > 256) return false;
    if (opening->slots.count != count && !is_room(opening)) return false;
    bool named = pays_participants(opening);
    for (u32 i = 0; i < opening->slots.count; i++)
        if (!scapp_payee(&slots[i], &owner) || !scapp_address_equal(slots[i].asset, slots[0].asset)) return false;
    for (u32 i = 0; balances && i < count; i++) {
        if (named) scapp_payee(&slots[i], &owner);
        if (!account_get(&row, named ? owner : opening->participants.items[i]) || row.balance != slots[i].amount) return false;
    }
    return balances == 0 || balances == count;
}

static scapp_result on_open(const scapp_context *, const scapp_opening *opening) {
    const params *p = &opening->params;
    token row = { .id = 1, .issuer = p->issuer };
    for (u32 i = 0; i < p->balances.count; i++) {
        balance item = p->balances.items[i];
        account there;
        if (account_get(&there, item.owner)) return scapp_reject("{} has two opening balances", item.owner);
        SCAPP_TRY(sum(row.supply, item.amount, &row.supply));
        account_put((account){ item.owner, item.amount });
    }
    row.backed = is_backed(opening);
    if (row.backed && p->issuer.some) return scapp_reject("a ledger backed by a deposit cannot have an issuer");
    u32 count = opening->participants.count;
    bool named = pays_participants(opening);
    for (u32 i = 0; row.backed && i < count; i++) {
        const scapp_slot *slot = &opening->slots.items[i];
        address owner = opening->participants.items[i];
        if (named) scapp_payee(slot, &owner);
        if (p->balances.count == 0) {
            SCAPP_TRY(sum(row.supply, slot->amount, &row.supply));
            account_put((account){ owner, slot->amount });
        }
        payee_put((payee){ (i16)i, owner });
    }
    if (row.backed && opening->slots.count > count) room_put((room){ .id = 1, .headroom = opening->slots.items[2 * count].amount });
    token_put(row);
    return SCAPP_OK;
}

static scapp_result on_transfer(const scapp_context *ctx, const transfer_message *msg) {
    token t;
    account there;
    if (scapp_address_equal(msg->to, ctx->address)) return scapp_reject("sender and recipient are both {}", msg->to);
    SCAPP_TRY(positive(msg->amount));
    token_get(&t, 1);
    if (t.backed && !account_get(&there, msg->to))
        return scapp_reject("{} has no outcome slot: a backed ledger pays participants only", msg->to);
    SCAPP_TRY(withdraw(ctx->address, msg->amount));
    SCAPP_TRY(deposit(msg->to, msg->amount));
    record(ctx, "transfer", SCAPP_SOME(address, ctx->address), SCAPP_SOME(address, msg->to), msg->amount);
    if (t.backed) settle();
    return SCAPP_OK;
}

static scapp_result on_mint(const scapp_context *ctx, const mint_message *msg) {
    token t;
    token_get(&t, 1);
    if (!t.issuer.some) return scapp_reject("this ledger has no issuer, so nobody can mint");
    if (!scapp_address_equal(t.issuer.value, ctx->address))
        return scapp_reject("only the issuer {} can mint, not {}", t.issuer.value, ctx->address);
    SCAPP_TRY(positive(msg->amount));
    SCAPP_TRY(sum(t.supply, msg->amount, &t.supply));
    SCAPP_TRY(deposit(msg->to, msg->amount));
    token_put(t);
    record(ctx, "mint", SCAPP_NULL(address), SCAPP_SOME(address, msg->to), msg->amount);
    return SCAPP_OK;
}

static scapp_result on_burn(const scapp_context *ctx, const burn_message *msg) {
    token t;
    token_get(&t, 1);
    if (t.backed) return scapp_reject("a ledger backed by a deposit cannot burn");
    SCAPP_TRY(positive(msg->amount));
    SCAPP_TRY(withdraw(ctx->address, msg->amount));
    t.supply -= msg->amount;
    token_put(t);
    record(ctx, "burn", SCAPP_SOME(address, ctx->address), SCAPP_NULL(address), msg->amount);
    return SCAPP_OK;
}

static scapp_result on_top_up(const scapp_context *ctx, const top_up_message *msg) {
    room r;
    SCAPP_TRY(positive(msg->amount));
    if (!room_get(&r, 1)) return scapp_reject("this ledger has no room for top-ups");
    if (r.pending) return scapp_reject("a top-up of {} is not claimed yet", r.pending);
    if (r.headroom < msg->amount) return scapp_reject("headroom is {}, {} are needed", r.headroom, msg->amount);
    r.headroom -= msg->amount;
    r.pending = msg->amount;
    r.depositor = SCAPP_SOME(address, ctx->address);
    room_put(r);
    settle();
    return SCAPP_OK;
}

static scapp_result on_claim(const scapp_context *ctx, const claim_message *msg) {
    room r;
    token t;
    SCAPP_TRY(positive(msg->amount));
    if (!room_get(&r, 1)) return scapp_reject("this ledger has no room for top-ups");
    if (r.pending < msg->amount) return scapp_reject("the top-up to claim is {}, {} are needed", r.pending, msg->amount);
    r.pending -= msg->amount;
    room_put(r);
    token_get(&t, 1);
    SCAPP_TRY(sum(t.supply, msg->amount, &t.supply));
    token_put(t);
    SCAPP_TRY(deposit(r.depositor.value, msg->amount));
    record(ctx, "top_up", SCAPP_NULL(address), r.depositor, msg->amount);
    settle();
    return SCAPP_OK;
}

SCAPP_APP("ledger", "1.1.0", TABLES(account, transfer, token, payee, room),
          INDEXES(account_by_balance, transfer_by_sender, transfer_by_recipient, payee_by_owner), VIEWS(holder),
          MESSAGES(transfer, mint, burn, top_up, claim))
