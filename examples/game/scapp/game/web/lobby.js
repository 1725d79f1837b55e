// The lobby: matches that go on, challenges to answer, a new match, invitations.

import { copy, doing, h, keep, short } from "./dom.js";
import { readGoingOn } from "./game.js";
import { asksText, drawWays, stakeFields, stakesOf, ways, withStakes } from "./money.js";
import { addPeer, handover, listen, mayOpen, nameOf, node, ownName, refresh, state } from "./session.js";

const CLOCKS = [["0", "No clock"], ["60000", "1 minute a move"], ["180000", "3 minutes a move"], ["600000", "10 minutes a move"]];
const LIVE = new Set(["opening", "funding", "running", "disputed", "closing"]);

export function lobby(place) {
  const parts = {
    invited: h("div"),
    challenges: h("section.panel", { "aria-label": "Challenges" }),
    matches: h("section.panel", { "aria-label": "Your matches" }),
    create: h("section.panel", { "aria-label": "New match" }),
    people: h("section.panel", { "aria-label": "Players" }),
    rules: rules(),
  };
  // Lists change while somebody fills in the forms around them: they are drawn apart.
  const lists = { against: h("fieldset"), known: h("ul.list"), way: h("div") };
  let goingOn = new Map();
  place.append(
    h("h1.hidden", {}, "Lobby"),
    parts.invited,
    h("div.lobby", {}, h("div.column.first", {}, parts.challenges, parts.matches), h("div.column.second", {}, parts.create, parts.people), h("div.column", {}, parts.rules)),
  );
  let invitation = invitationOf(handover.rest);
  const draw = () => {
    const proposed = state.channels.filter((channel) => channel.phase === "proposed" && channel.my_index > 0);
    const waiting = state.channels.filter((channel) => channel.phase === "proposed" && channel.my_index === 0);
    const live = state.channels.filter((channel) => LIVE.has(channel.phase) && (channel.phase !== "running" || goingOn.has(channel.channel_id)));
    keep(parts.invited, invitation, () => (invitation ? invited(invitation, () => ((invitation = null), draw())) : []));
    parts.challenges.hidden = !proposed.length;
    keep(parts.challenges, [proposed, state.peers.map((peer) => peer.name)], () => challenges(proposed));
    keep(parts.matches, [live, waiting, [...goingOn.values()], state.peers.map((peer) => peer.name)], () => matches(live, waiting, goingOn));
    const links = state.peers.map((peer) => [peer.name, peer.address, peer.connected]);
    keep(parts.create, [state.apps.length, mayOpen(), Boolean(state.chain)], () => create(lists.against, lists.way));
    keep(lists.against, links, () => opponents(lists.against));
    keep(lists.way, ways(), () => drawWays(lists.way));
    keep(parts.people, mayOpen(), () => people(lists.known));
    keep(lists.known, links, known);
  };
  const look = async () => {
    draw();
    goingOn = await readGoingOn(state.apps, state.address).catch(() => goingOn);
    draw();
  };
  void look();
  return listen(look);
}

function statusText({ round, cards, is_mine: mine }) {
  return `round ${round} of ${cards}${mine ? " · your move" : ""}`;
}

const others = (channel) => channel.participants.filter((address) => address !== state.address);

function challenges(found) {
  return [
    h("h2", {}, "You are challenged"),
    h("ul.list", {}, found.map((channel) => h("li", {},
      h("div", {}, h("strong", {}, names([channel.participants[0]])),
        h("small", {}, channel.participants.length > 2 ? ` with ${names(others(channel).slice(1))}` : "", channel.slots.length ? ` · ${asksText(channel)}` : "", ` · ${short(channel.channel_id)}`)),
      mayOpen() ? h("div.actions", {},
        h("button.primary", { type: "button", onclick: doing(() => accept(channel)) }, "Play"),
        h("button", { type: "button", onclick: doing(() => node.post(`/v1/channels/${channel.channel_id}/reject`, { reason: "not now" }).then(() => refresh())) }, "Not now")) : null))),
  ];
}

async function accept(channel) {
  const found = await node.post(`/v1/channels/${channel.channel_id}/accept`, { wait_s: 15 });
  await refresh();
  location.hash = `#/match/${found.channel_id}`;
}

function matches(live, waiting, goingOn) {
  const all = [...live, ...waiting];
  return [
    h("h2", {}, "Your matches"),
    all.length ? h("ul.list", {}, all.map((channel) => {
      const status = goingOn.get(channel.channel_id);
      return h("li", {},
        h("div", {}, h("strong", {}, names(others(channel))), h("small", {}, status ? statusText(status) : waitText(channel))),
        h("a", { href: `#/match/${channel.channel_id}`, className: status?.is_mine ? "button primary" : "button" }, "Open"));
    }))
      : h("p.empty", {}, "None goes on. Start one: every step will be signed by all who play, and nobody needs a server."),
  ];
}

const waitText = (channel) => (channel.phase === "proposed" ? "waits for an answer" : channel.phase);
const names = (addresses) => addresses.map(nameOf).join(", ");

function create(against, way) {
  if (!mayOpen()) return [h("h2", {}, "Watching"), h("p", {}, "This page may look at everything and move nothing.")];
  if (!state.apps.length) return [h("h2", {}, "New match"), h("p", {}, "The game is not deployed at your node: ", h("code", {}, "scapp deploy --example"))];
  const cards = h("output", { htmlFor: "cards" }, "7");
  return [
    h("h2", {}, "New match"),
    h("form", { onsubmit: doing(open) },
      against,
      h("label.row", { htmlFor: "cards" }, h("span", {}, "Cards in hand"),
        h("input", { id: "cards", type: "range", name: "cards", min: 3, max: 13, value: 7, oninput: (event) => (cards.value = event.target.value) }), cards),
      h("label.row", {}, h("span", {}, "Clock"), h("select", { name: "move_ms" }, CLOCKS.map(([value, text]) => h("option", { value }, text)))),
      stakeFields(way),
      h("button.primary.wide", { type: "submit" }, "Challenge")),
  ];
}

/** Those who can be challenged; who was chosen stays chosen. */
function opponents(place) {
  const chosen = new Set([...place.querySelectorAll(":checked")].map((box) => box.value));
  const peers = [...state.peers].sort((a, b) => Number(b.connected) - Number(a.connected) || a.name.localeCompare(b.name));
  return [
    h("legend", {}, "Against (1 to 3)"),
    ...peers.map((peer) => h("label.pick", {},
      h("input", { type: "checkbox", name: "peer", value: peer.address, checked: chosen.has(peer.address) || peers.length === 1 }),
      h("span", { className: `dot ${peer.connected ? "on" : "off"}` }), nameOf(peer.address),
      h("small", {}, peer.connected ? "here" : "away"))),
    peers.length ? null : h("p.empty", {}, "You know nobody yet. Send your invitation, or open one."),
  ];
}

function rules() {
  return h("section.panel", { "aria-label": "How it is played" },
    h("h2", {}, "How it is played"),
    h("p", {}, "Everybody holds the same cards. Each round has a prize: all play one card face down, the highest takes it. When several are highest the prize stays in the pot for the next round. Cards are gone once played; most points win."),
    h("h2", {}, "Why there is no server"),
    h("p", {}, "You and the others run a node each. A card is first sent as a hash and shown only when all have hidden theirs. Every step is signed by all who play, and every node derives the same tables from the steps: “Verify” runs the rules again, here in your browser."));
}

async function open(event) {
  const fields = new FormData(event.target);
  await challenge(fields.getAll("peer"), Number(fields.get("cards")), Number(fields.get("move_ms")), stakesOf(fields));
}

/** Propose a match and go there; `stakes` as `stakesOf` gives them, null to play for nothing. */
export async function challenge(peers, cards, moveMs, stakes = null) {
  if (peers.length < 1 || peers.length > 3) throw new Error("Choose one, two or three players.");
  const app = state.apps.at(-1);
  const money = await withStakes(stakes, [state.address, ...peers]);
  const params = { cards, move_ms: moveMs, ...money.params };
  const found = await node.post("/v1/channels", { peers, app: app.deployment_id.slice(2), params, wait_s: 1, ...money.request });
  await refresh();
  location.hash = `#/match/${found.channel_id}`;
}

function known() {
  return state.peers.map((peer) => h("li", {},
    h("div", {}, h("span", { className: `dot ${peer.connected ? "on" : "off"}` }), h("strong", {}, nameOf(peer.address)), h("small", {}, short(peer.address))),
    h("small", {}, peer.connected ? "connected" : "away")));
}

function people(list) {
  return [
    h("h2", {}, "Players"),
    list,
    h("label.row", {}, h("span", {}, "Your name"),
      h("input", { type: "text", maxLength: 24, autocomplete: "nickname", value: ownName.get(), placeholder: "as others see it", oninput: (event) => ownName.set(event.target.value.trim()) })),
    h("div.actions", {}, h("button", { type: "button", onclick: doing(() => copy(invitationText())) }, "Copy my invitation")),
    mayOpen() ? h("form.row", { onsubmit: doing(join) },
      h("input", { type: "text", name: "text", required: true, placeholder: "Paste an invitation", "aria-label": "An invitation" }),
      h("button", { type: "submit" }, "Join")) : null,
  ];
}

/** An address of this page with our node in it; whoever gets it opens it at their own node, or pastes it there. */
function invitationText() {
  const endpoint = state.listen.replace(/^(0\.0\.0\.0|\[::\])/, location.hostname);
  const fields = new URLSearchParams({ join: `${state.address}@${endpoint}`, name: ownName.get() || `p${state.address.slice(2, 8)}` });
  return `${location.origin}${location.pathname}#${fields}`;
}

function invitationOf(fields) {
  const [address, endpoint] = (fields.get("join") ?? "").split("@");
  if (!/^0x[0-9a-fA-F]{40}$/.test(address) || !endpoint) return null;
  return { address, endpoint, name: (fields.get("name") ?? "").slice(0, 24) };
}

async function join(event) {
  const text = new FormData(event.target).get("text").trim();
  const found = invitationOf(new URLSearchParams(text.slice(text.indexOf("#") + 1)));
  if (!found) throw new Error("That is no invitation. One looks like …#join=0xADDRESS@host:port&name=…");
  await addPeer(found.address, found.endpoint, found.name);
  event.target.reset();
  await refresh();
}

function invited(invitation, dismiss) {
  return h("section.panel.invited", {},
    h("h2", {}, `${invitation.name || "Somebody"} invites you`),
    h("p", {}, h("small", {}, `${invitation.address} at ${invitation.endpoint}`)),
    h("div.actions", {},
      h("button.primary", { type: "button", onclick: doing(async () => {
        await addPeer(invitation.address, invitation.endpoint, invitation.name);
        dismiss();
        await refresh();
        await challenge([invitation.address], 7, 0);
      }) }, "Play a match"),
      h("button", { type: "button", onclick: doing(async () => {
        await addPeer(invitation.address, invitation.endpoint, invitation.name);
        dismiss();
        await refresh();
      }) }, "Only add to my players"),
      h("button.plain", { type: "button", onclick: dismiss }, "No thanks")));
}
