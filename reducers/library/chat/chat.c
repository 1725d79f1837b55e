// A chat with moderation: posts and replies, removal, muting by signed time, a limit on how fast one may post, and a
// record of what moderators did. Params: {"moderators": [address, …], "post_bytes_max": 500, "posts_per_minute": 20}.
//
// Participant 0 owns the room and names moderators. Moderators mute members and remove their posts; nobody moderates the
// owner, and moderators do not moderate each other. A removed post loses its text in the tables; the log, which all have
// signed, keeps it: whoever needs text to be forgotten must not put it into a channel.

#include "scapp.h"

SCAPP_ENUM(role, member, moderator, owner)
SCAPP_ENUM(what, remove, mute, unmute, promote, demote)

SCAPP_TABLE(room, KEY((i16, id)), (i64, post_bytes_max), (i64, posts_per_minute))

// `minute_from` and `minute_posts`: when the running minute began, and how many posts it has seen.
SCAPP_TABLE(person, KEY((address, who)), (role, role), (opt_timestamp, muted_until), (opt_timestamp, minute_from), (i64, minute_posts))

SCAPP_TABLE(post, KEY((i64, sequence)), (address, author), (timestamp, at), (opt_i64, reply_to), (opt_text, content), (opt_address, removed_by))
SCAPP_INDEX(post, post_by_author, author, sequence)
SCAPP_INDEX(post, post_by_reply, reply_to, sequence)

// What moderators and the owner did, and why.
SCAPP_TABLE(action, KEY((i64, sequence)), (address, actor), (what, what), (address, target), (opt_i64, post), (opt_timestamp, until), (opt_text, reason))
SCAPP_INDEX(action, action_by_target, target, sequence)

SCAPP_VIEW(moderation, action, sequence, actor, what, target, reason)

SCAPP_PARAMS((address_array, moderators, nullptr, 0), (i64, post_bytes_max, 500), (i64, posts_per_minute, 20))
SCAPP_MESSAGE(say, (text, content), (opt_i64, reply_to))
SCAPP_MESSAGE(remove, (i64, post), (opt_text, reason))
SCAPP_MESSAGE(mute, (address, who), (i64, minutes), (opt_text, reason))
SCAPP_MESSAGE(unmute, (address, who))
SCAPP_MESSAGE(promote, (address, who))
SCAPP_MESSAGE(demote, (address, who))

enum { MINUTE_MS = 60000, MUTE_MINUTES_MAX = 60 * 24 * 365, REASON_BYTES_MAX = 200 };

static scapp_result find(address who, person *out) {
    return person_get(out, who) ? SCAPP_OK : scapp_reject("{} is not in this room", who);
}

static bool outranks(const person *actor, const person *target) { return actor->role > target->role; }

static scapp_result may_moderate(const person *actor, const person *target) {
    if (actor->role == role_member) return scapp_reject("only moderators can do this");
    return outranks(actor, target) ? SCAPP_OK : scapp_reject("{} is not below you", target->who);
}

static scapp_result short_enough(opt_text reason) {
    if (reason.some && reason.value.size > REASON_BYTES_MAX)
        return scapp_reject("a reason of {} bytes: at most {} are allowed", reason.value.size, (i64)REASON_BYTES_MAX);
    return SCAPP_OK;
}

static void note(const scapp_context *ctx, action done) {
    done.sequence = (i64)ctx->sequence;
    done.actor = ctx->address;
    action_put(done);
}

static scapp_result on_open(const scapp_context *, const scapp_opening *opening) {
    const params *p = &opening->params;
    if (p->post_bytes_max < 1 || p->post_bytes_max > 10000)
        return scapp_reject("post_bytes_max is {}: allowed are 1 to 10000", p->post_bytes_max);
    if (p->posts_per_minute < 1 || p->posts_per_minute > 1000)
        return scapp_reject("posts_per_minute is {}: allowed are 1 to 1000", p->posts_per_minute);
    room_put((room){ 1, p->post_bytes_max, p->posts_per_minute });
    for (u32 i = 0; i < opening->participants.count; i++)
        person_put((person){ .who = opening->participants.items[i], .role = i ? role_member : role_owner });
    for (u32 i = 0; i < p->moderators.count; i++) {
        person named;
        SCAPP_TRY(find(p->moderators.items[i], &named));
        if (named.role == role_owner) continue;
        named.role = role_moderator;
        person_put(named);
    }
    return SCAPP_OK;
}

// One more post within the running minute, or the first of a new one; time is that of the signed entries.
static scapp_result count_post(const scapp_context *ctx, const room *rules, person *author) {
    u64 from = author->minute_from.some ? scapp_timestamp_ms(author->minute_from.value) : 0;
    if (!author->minute_from.some || ctx->time_ms - from >= MINUTE_MS) {
        author->minute_from = SCAPP_SOME(timestamp, scapp_timestamp(ctx->time_ms));
        author->minute_posts = 0;
    } else if (author->minute_posts >= rules->posts_per_minute) {
        return scapp_reject("{} posts within a minute: wait {} ms", author->minute_posts, from + MINUTE_MS - ctx->time_ms);
    }
    author->minute_posts++;
    person_put(*author);
    return SCAPP_OK;
}

static scapp_result on_say(const scapp_context *ctx, const say_message *msg) {
    person author;
    room rules;
    room_get(&rules, 1);
    SCAPP_TRY(find(ctx->address, &author));
    if (author.muted_until.some && scapp_timestamp_ms(author.muted_until.value) > ctx->time_ms)
        return scapp_reject("you are muted for {} ms more", scapp_timestamp_ms(author.muted_until.value) - ctx->time_ms);
    if (msg->content.size == 0 || msg->content.size > rules.post_bytes_max)
        return scapp_reject("a post of {} bytes: allowed are 1 to {}", msg->content.size, rules.post_bytes_max);
    if (msg->reply_to.some) {
        post answered;
        if (!post_get(&answered, msg->reply_to.value)) return scapp_reject("there is no post {}", msg->reply_to.value);
        if (!answered.content.some) return scapp_reject("post {} has been removed", msg->reply_to.value);
    }
    SCAPP_TRY(count_post(ctx, &rules, &author));
    post_put((post){ (i64)ctx->sequence, ctx->address, scapp_timestamp(ctx->time_ms), msg->reply_to,
                     SCAPP_SOME(text, msg->content), SCAPP_NULL(address) });
    scapp_emit("post", "author", ctx->address, "content", msg->content, "reply_to", msg->reply_to);
    return SCAPP_OK;
}

static scapp_result on_remove(const scapp_context *ctx, const remove_message *msg) {
    post found;
    person actor, author;
    SCAPP_TRY(find(ctx->address, &actor));
    SCAPP_TRY(short_enough(msg->reason));
    if (!post_get(&found, msg->post)) return scapp_reject("there is no post {}", msg->post);
    if (!found.content.some) return scapp_reject("post {} has been removed already", msg->post);
    SCAPP_TRY(find(found.author, &author));
    if (!scapp_address_equal(found.author, ctx->address)) SCAPP_TRY(may_moderate(&actor, &author));
    found.content = SCAPP_NULL(text);
    found.removed_by = SCAPP_SOME(address, ctx->address);
    post_put(found);
    note(ctx, (action){ .what = what_remove, .target = found.author, .post = SCAPP_SOME(i64, msg->post), .reason = msg->reason });
    scapp_emit("removed", "post", msg->post, "by", ctx->address);
    return SCAPP_OK;
}

static scapp_result on_mute(const scapp_context *ctx, const mute_message *msg) {
    person actor, target;
    SCAPP_TRY(find(ctx->address, &actor));
    SCAPP_TRY(find(msg->who, &target));
    SCAPP_TRY(may_moderate(&actor, &target));
    SCAPP_TRY(short_enough(msg->reason));
    if (msg->minutes < 1 || msg->minutes > MUTE_MINUTES_MAX)
        return scapp_reject("minutes is {}: allowed are 1 to {}", msg->minutes, (i64)MUTE_MINUTES_MAX);
    target.muted_until = SCAPP_SOME(timestamp, scapp_timestamp(ctx->time_ms + (u64)msg->minutes * MINUTE_MS));
    person_put(target);
    note(ctx, (action){ .what = what_mute, .target = msg->who, .until = target.muted_until, .reason = msg->reason });
    return SCAPP_OK;
}

static scapp_result on_unmute(const scapp_context *ctx, const unmute_message *msg) {
    person actor, target;
    SCAPP_TRY(find(ctx->address, &actor));
    SCAPP_TRY(find(msg->who, &target));
    SCAPP_TRY(may_moderate(&actor, &target));
    if (!target.muted_until.some) return scapp_reject("{} is not muted", msg->who);
    target.muted_until = SCAPP_NULL(timestamp);
    person_put(target);
    note(ctx, (action){ .what = what_unmute, .target = msg->who });
    return SCAPP_OK;
}

static scapp_result set_role(const scapp_context *ctx, address who, role from, role to, what done) {
    person actor, target;
    SCAPP_TRY(find(ctx->address, &actor));
    SCAPP_TRY(find(who, &target));
    if (actor.role != role_owner) return scapp_reject("only the owner can do this");
    if (target.role != from) return scapp_reject("{} is {}", who, scapp_text(role_names[target.role]));
    target.role = to;
    person_put(target);
    note(ctx, (action){ .what = done, .target = who });
    return SCAPP_OK;
}

static scapp_result on_promote(const scapp_context *ctx, const promote_message *msg) {
    return set_role(ctx, msg->who, role_member, role_moderator, what_promote);
}

static scapp_result on_demote(const scapp_context *ctx, const demote_message *msg) {
    return set_role(ctx, msg->who, role_moderator, role_member, what_demote);
}

SCAPP_APP("chat", "1.0.0", TABLES(room, person, post, action), INDEXES(post_by_author, post_by_reply, action_by_target),
          VIEWS(moderation), MESSAGES(say, remove, mute, unmute, promote, demote))
