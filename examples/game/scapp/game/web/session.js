// The page's node: who we are, whom we know, which games there are, and news of all of it.

import { Node, takeHandover } from "/app/scapp/client.js";
import { note } from "./dom.js";

const APP = "goofspiel";

export const handover = await takeHandover(APP);
export const node = new Node(handover.token);

/** What everybody on the page reads; `load` fills it. */
export const state = {
  linked: false,
  address: "",
  listen: "",
  permissions: [],
  peers: [],
  apps: [], // deployments of the game
  channels: [], // of the game
  chain: null, // where stakes are paid, when the node has one
  ledgers: [], // of a node with a chain: with hubs, or with players
};
const listeners = new Set();
let waiting = null;

/** Call `listener(item | null)` at each piece of news, null after a gap; returns how to end it. */
export function listen(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Whether this page may move, and not only watch. */
export const mayPlay = () => may("send");
export const mayOpen = () => may("channels");
export const mayStake = () => may("funds");
const may = (permission) => state.permissions.includes(permission) || state.permissions.includes("admin");

/** Begin: raises NodeError when the token is missing or unknown. */
export async function start() {
  await load();
  node.follow("rows,node", onNews, (linked, error) => {
    state.linked = linked;
    if (error) note(`${error.message}. Open the page anew: scapp page ${APP}`);
    void refresh();
  });
}

async function load() {
  const [token, status, peers, apps, channels, chain] = await Promise.all(
    ["token", "status", "peers", "deployments", "channels", "chain"].map((name) => node.get(`/v1/${name}`)),
  );
  state.permissions = token.permissions;
  state.address = status.address;
  state.listen = status.listen;
  state.peers = peers.peers;
  // A version without chat is from before this page.
  state.apps = apps.deployments.filter((app) => app.name === APP && app.tables.some((table) => table.name === "chat"));
  state.chain = chain.connected ? chain : null;
  state.ledgers = chain.connected ? (await node.get("/v1/ledgers")).ledgers : [];
  const ours = new Set(state.apps.map((app) => app.deployment_id));
  state.channels = channels.channels.filter((channel) => ours.has(channel.deployment_id));
}

/** Read everything again, and tell the listeners to look at it. */
export async function refresh() {
  try {
    await load();
  } catch {
    state.linked = false;
  }
  for (const listener of listeners) listener(null);
}

/** Rows go to the listeners at once; what else changes is read first, once for several changes, and not told apart. */
function onNews(item) {
  if (item.kind === "rows") {
    for (const listener of listeners) listener(item);
    return;
  }
  waiting ??= setTimeout(() => {
    waiting = null;
    void refresh();
  }, 60);
}

export const appOf = (channel) => state.apps.find((app) => app.deployment_id === channel.deployment_id);
export const channelOf = (id) => state.channels.find((channel) => channel.channel_id === id);

/** How we call an address. */
export function nameOf(address) {
  if (address === state.address) return "You";
  const peer = state.peers.find((one) => one.address === address);
  return peer?.name || `${address.slice(0, 6)}…${address.slice(-4)}`;
}

/** Whether a player's node is not connected to ours, so that nothing can be signed. */
export const isAway = (address) => address !== state.address && !state.peers.some((peer) => peer.address === address && peer.connected);

/** What a node says of a channel, with names in place of numbers and addresses. */
export function inNames(text, channel) {
  const seats = (list) => list.split(", ").map((seat) => nameOf(channel.participants[seat])).join(", ");
  return text
    .replace(/participants? (\d+(?:, \d+)*)/g, (_, list) => seats(list))
    .replace(/the sequencer/g, nameOf(channel.participants[0]))
    .replace(/0x[0-9a-f]{40}/g, nameOf);
}

/** The name this player goes by in invitations. */
export const ownName = {
  get: () => localStorage.getItem("scapp.goofspiel.name") ?? "",
  set: (text) => localStorage.setItem("scapp.goofspiel.name", text),
};

/** Add a node to the peers list under a name that is not taken; one that is known and there stays as it is. */
export async function addPeer(address, endpoint, name) {
  const known = state.peers.find((peer) => peer.address === address.toLowerCase());
  if (known?.connected && known.name) return;
  const wanted = known?.name || name.replace(/[^A-Za-z0-9_.-]/g, "") || `p${address.slice(2, 8)}`;
  const taken = state.peers.some((peer) => peer.name === wanted && peer.address !== address.toLowerCase());
  await node.post("/v1/peers", { address, endpoint, name: taken ? `${wanted}-${address.slice(2, 6)}` : wanted });
}
