// A match: the table, one's own hand, and what the page does by itself: show the hidden card, call time.

import { boardParts, drawBoard, finalText, resultText } from "./board.js";
import { doing, h, keep, note, say } from "./dom.js";
import { bidOf, hasMoved, lastRound, readMatch, standings, waitingFor } from "./game.js";
import { challenge } from "./lobby.js";
import { amountText, moneyText, stakesLike } from "./money.js";
import { cardBehind, hide, show } from "./secrets.js";
import { channelOf, inNames, isAway, listen, mayOpen, mayPlay, nameOf, node, refresh, state } from "./session.js";
import { sidePanels } from "./side.js";

const SHOWDOWN_MS = 2600;
const TICK_PAUSE_MS = 3000;
const LATE_MS = 1500;
/** Of a channel whose last step is signed, or that is taken to the chain as it stands. */
const ENDING = ["disputed", "closing", "closed", "settled"];

export function matchView(place, id) {
  const view = new MatchView(id);
  place.append(view.root);
  const unlisten = listen((item) => view.news(item));
  const clock = setInterval(() => view.clockwork(), 500);
  void view.look();
  return () => {
    unlisten();
    clearInterval(clock);
    view.gone = true;
  };
}

class MatchView {
  constructor(id) {
    this.id = id;
    this.match = null;
    this.open = null; // the round that stays on the table for a moment
    this.told = null; // what was said of the match so far
    this.revealing = 0; // round whose card is on its way
    this.tickedAt = 0;
    this.waits = { text: "", since: 0, seen: false }; // what the node waits for, and whether that was read again since
    this.board = boardParts();
    this.hand = h("div.handplace");
    this.clock = h("p.clock", { role: "timer" });
    this.table = h("section.table", { "aria-label": "The table" },
      h("div.headline", {}, this.board.head, this.clock), this.board.track, this.board.felt, this.board.last, this.hand);
    this.money = h("section.panel.money", { role: "status" });
    this.side = sidePanels(id);
    this.root = h("div.match", {}, h("div.column", {}, this.table, this.money), this.side.root);
  }

  get channel() {
    return channelOf(this.id);
  }

  get seat() {
    return mayPlay() && this.channel ? this.channel.my_index : null;
  }

  get me() {
    return this.seat === null ? null : this.match?.players[this.seat] ?? null;
  }

  news(item) {
    if (item && this.waits.text) void refresh(); // it may be over
    if (!item || item.channel_id === this.id || !item.channel_id) void this.look();
  }

  /** Read and draw; what arrives meanwhile makes one more round. */
  async look() {
    if (this.looking) {
      this.again = true;
      return;
    }
    this.looking = true;
    try {
      do {
        this.again = false;
        if (this.channel) this.take(await readMatch(this.channel).catch(() => this.match));
        if (this.gone) return;
        this.draw();
        this.act();
        await this.side.look(this.channel, this.match);
      } while (this.again);
    } finally {
      this.looking = false;
    }
  }

  take(match) {
    const before = this.match;
    this.match = match;
    if (!match) return;
    const last = lastRound(match)?.round ?? 0;
    if (before && last > (lastRound(before)?.round ?? 0)) this.showdown(last);
    this.tell(before);
  }

  /** A round that is over stays for a moment, else nobody would see the cards. */
  showdown(round) {
    this.open = round;
    clearTimeout(this.closing);
    this.closing = setTimeout(() => this.endShowdown(), SHOWDOWN_MS);
    say(resultText(this.match, round, this.names));
  }

  endShowdown() {
    if (this.open === null || this.gone) return;
    this.open = null;
    this.draw();
  }

  tell(before) {
    const { match } = this;
    if (before) {
      for (const player of match.players) {
        const bid = bidOf(match, player.seat);
        if (bid && !bidOf(before, player.seat, match.round) && player.seat !== this.seat) say(`${this.names[player.seat]} hid a card`);
        if (player.status === "forfeited" && before.players[player.seat].status !== "forfeited") note(`${this.names[player.seat]} ran out of time and forfeited.`);
      }
    }
    const now = `${match.phase} ${match.round}`;
    if (now !== this.told && match.phase === "over") say(`The match is over. ${finalText(match, this.names)}`);
    else if (now !== this.told && match.phase === "commit" && this.me?.status === "playing") say(`Round ${match.round}, prize ${match.prize}. Choose a card.`);
    this.told = now;
  }

  get names() {
    return this.match.players.map((player) => (this.seat === null && player.address === state.address ? "Host" : nameOf(player.address)));
  }

  // -- what the page does by itself ----------------------------------------------------------------------------------

  act() {
    const { match, me } = this;
    if (!me || match.phase !== "reveal" || me.status !== "playing" || this.channel.phase !== "running") return;
    const bid = bidOf(match, me.seat);
    if (!bid || bid.card !== null || this.revealing === match.round) return;
    const card = cardBehind(this.id, me, bid);
    this.revealing = match.round;
    if (card === null) {
      note("Another browser hid your card and must show it: open the match there, or with `scapp page goofspiel`.");
      return;
    }
    void this.submit(show(this.id, me, match.round, card)).catch(() => this.reviewReveal(match.round));
  }

  /** A refusal means most often that another page of this player was faster; else try again. */
  async reviewReveal(round) {
    await new Promise((resolve) => setTimeout(resolve, 1500));
    await this.look();
    const { match, me } = this;
    if (this.gone || match.phase !== "reveal" || match.round !== round || hasMoved(match, me.seat)) return;
    note("Your card could not be shown yet; trying again.");
    this.revealing = 0;
    this.act();
  }

  /** The clock, and the tick that makes a passed deadline count. Time is that of the signed entries: the node refuses
   * a tick that is too early. */
  clockwork() {
    this.watchWaits();
    const { match, me } = this;
    const left = match?.deadlineMs && match.phase !== "over" ? match.deadlineMs - Date.now() : null;
    const text = left === null ? "" : left <= 0 ? "time is up" : clockText(left);
    if (this.clock.textContent !== text) this.clock.textContent = text;
    this.clock.classList.toggle("urgent", left !== null && left < 15_000);
    if (left === null || left > -300 || !me || me.status !== "playing" || !hasMoved(match, me.seat) || !waitingFor(match).length) return;
    if (Date.now() - this.tickedAt < TICK_PAUSE_MS) return;
    this.tickedAt = Date.now();
    node.send(this.id, null, { tick: true }).catch(() => {}); // refused when somebody else was first
  }

  /** Send and wait for the decision; raises an Error with the reason of a refusal. */
  async submit(message) {
    const late = setTimeout(refresh, LATE_MS); // to see whom it waits for
    const receipt = await node.send(this.id, message).finally(() => clearTimeout(late));
    if (receipt.status === "refused") throw new Error(receipt.reason);
    if (receipt.status === "pending") note("Not signed by everybody yet; it stays on its way.", "info");
    return receipt;
  }

  // -- what is seen --------------------------------------------------------------------------------------------------

  get ends() {
    const { phase, backing, chain } = this.channel;
    return ENDING.includes(phase) || Boolean((backing ?? chain)?.exit_reason);
  }

  /** What stands in the way of the next step; empty when it is for the players to move. */
  get trouble() {
    const { channel } = this;
    if (channel.phase === "settled" || channel.phase === "closed") return "Ended before the last round";
    if (this.ends) return "Left before the last round";
    const away = channel.participants.filter(isAway).map(nameOf);
    if (away.length) return `${away.join(" and ")} ${away.length > 1 ? "are" : "is"} away`;
    return this.waits.text && this.waits.seen ? `Waits for ${inNames(this.waits.text, channel)}` : "";
  }

  /** Every step waits for somebody for a moment: what is read twice, with a pause between, is worth saying. */
  watchWaits() {
    const text = this.channel?.waiting_for ?? "";
    if (text !== this.waits.text) this.waits = { text, since: Date.now(), seen: false };
    if (!text || this.waits.seen || Date.now() - this.waits.since < LATE_MS) return;
    this.waits.seen = true;
    void refresh();
  }

  draw() {
    const { channel, match, me } = this;
    const money = channel && moneyText(channel);
    this.money.hidden = !money;
    if (money) {
      this.money.setAttribute("aria-label", `Money ${money.title.toLowerCase()}`);
      keep(this.money, money, () => [h("h2", {}, money.title), ...money.lines.map((line) => h("p", {}, line))]);
    }
    if (!channel || !match || channel.phase === "proposed" || channel.phase === "rejected") {
      keep(this.hand, [channel?.phase, channel?.reason, channel?.derived?.state], () => waitingRoom(channel));
      return;
    }
    const bid = me && bidOf(match, me.seat);
    const own = bid && bid.card === null ? cardBehind(this.id, me, bid) : null;
    const amounts = channel.slots.map((slot, at) => amountText(channel.amounts[at], slot.asset));
    drawBoard(this.board, { match, seat: this.seat, names: this.names, own, open: this.open, amounts, trouble: this.trouble, ended: this.ends,
      away: channel.participants.flatMap((address, seat) => (isAway(address) ? [seat] : [])) });
    const kind = match.phase === "over" ? "over" : this.ends ? "left" : !me ? "watch" : me.status !== "playing" ? "out" : hasMoved(match, me.seat) || match.phase === "reveal" ? "wait" : "choose";
    this.table.classList.toggle("done", kind === "over");
    keep(this.hand, [kind, me?.hand, me?.status, own, kind === "over" && [channel.phase, match.players]], () => this.handOf(kind, own));
  }

  handOf(kind, own) {
    if (kind === "over") return this.over();
    if (kind === "left") return h("p.empty", {}, "No card is played any more: what the last step that all signed says counts.");
    if (kind === "watch") return h("p.empty", {}, "You are watching.");
    if (kind === "out") return h("p.empty", {}, "You ran out of time and forfeited; you can still watch and chat.");
    const choosing = kind === "choose";
    return h("form.hand", { onsubmit: doing((event) => this.play(event)), "aria-label": "Your hand" },
      // Where there is no card to go to, the keyboard scrolls what holds them.
      h("div.fan", choosing ? {} : { tabIndex: 0, role: "group", "aria-label": "Your cards" },
        h("fieldset", { disabled: !choosing }, h("legend.hidden", {}, "Your cards"),
          this.me.hand.map((card) => h("label.card.pickable", { className: `card pickable ${card === own ? "chosen" : ""}` },
            h("input", { type: "radio", name: "card", value: card, required: true, "aria-label": `Card ${card}`, onchange: () => this.endShowdown() }), h("span", {}, String(card)))))),
      h("button.primary", { type: "submit", disabled: !choosing }, choosing ? "Play hidden" : "Hidden"));
  }

  async play(event) {
    const card = Number(new FormData(event.target).get("card"));
    this.endShowdown();
    await this.submit(hide(this.id, this.me, this.match.round, card));
  }

  over() {
    const { channel, match } = this;
    const others = channel.participants.filter((address) => address !== state.address);
    return h("div.over", {},
      h("h2.hidden", {}, "Result"),
      h("ol.standings", {}, standings(match).map((player) => h("li", { dataset: { seat: player.seat } },
        h("span.rank", {}, String(player.rank)), h("span.name", {}, this.names[player.seat]),
        player.status === "forfeited" ? h("small", {}, "forfeited") : null, h("strong", {}, String(player.score))))),
      h("div.actions", {},
        mayOpen() ? h("button.primary", { type: "button", onclick: doing(async () => challenge(others, match.cards, match.moveMs, await stakesLike(channel, match))) }, "Rematch") : null,
        h("a.button", { href: `#/replay/${this.id}` }, "Replay"),
        mayOpen() && channel.phase === "running" ? h("button", { type: "button", onclick: doing(() => this.close()) }, "Close the channel") : null));
  }

  async close() {
    await node.post(`/v1/channels/${this.id}/close`, { wait_s: 10 });
    await refresh();
  }
}

function waitingRoom(channel) {
  if (!channel) return h("p.empty", {}, "Your node has no such match.");
  const texts = { proposed: "Waiting for the others to accept…", opening: "Everybody signs the opening…", funding: channel.backing ? "Waiting for the ledgers…" : "Waiting for the deposits on chain…", rejected: `Declined: ${channel.reason}` };
  return h("div.waiting", {}, h("p.empty", {}, texts[channel.phase] ?? "The tables are being derived…"),
    h("div.actions", {}, h("a.button", { href: "#/" }, "Back to the lobby")));
}

function clockText(left) {
  const seconds = Math.ceil(left / 1000);
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}
