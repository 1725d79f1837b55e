// A page's way to its node: calls with the page's token, and the stream that tells when to look again.
// Types of all documents: /v1/openapi.json. The browser's side of `scapp page`, which opens a page with its token.

/** What the node answered in place of a result; `code` is stable, `hint` says what to do. */
export class NodeError extends Error {
  constructor(code, message, hint = "", status = 0) {
    super(message);
    Object.assign(this, { name: "NodeError", code, hint, status });
  }
}

/**
 * What `scapp page` put behind the `#` of the address: token and secret. Both are kept for this origin and taken out of the
 * address, so that they are neither in the history nor in a link that somebody copies. Returns {token, secret, rest}:
 * `rest` are the other fields of the fragment, as URLSearchParams.
 *
 * Anybody can make a link to this page. So nothing is kept unless the node knows the token, and no secret unless the token
 * may send: who could plant a secret would know what is hidden with it. A token that may only look stays in its tab.
 */
export async function takeHandover(app) {
  const fields = new URLSearchParams(location.hash.startsWith("#/") ? "" : location.hash.slice(1));
  const [tokenKey, secretKey] = [`scapp.${app}.token`, `scapp.${app}.secret`];
  const given = { token: fields.get("token"), secret: fields.get("secret") };
  let away = false;
  if (given.token) {
    try {
      const { permissions } = await new Node(given.token).get("/v1/token");
      if (!permissions.includes("send") && !permissions.includes("admin")) sessionStorage.setItem(tokenKey, given.token);
      else {
        sessionStorage.removeItem(tokenKey);
        localStorage.setItem(tokenKey, given.token);
        if (/^0x[0-9a-f]{64}$/.test(given.secret ?? "")) localStorage.setItem(secretKey, given.secret);
      }
    } catch (error) {
      away = error.code === "unreachable"; // the address stays as it is, for another try
    }
  }
  if (location.hash && !location.hash.startsWith("#/") && !away) history.replaceState(null, "", location.pathname);
  if (!localStorage.getItem(secretKey)) localStorage.setItem(secretKey, hex(crypto.getRandomValues(new Uint8Array(32))));
  const token = sessionStorage.getItem(tokenKey) ?? localStorage.getItem(tokenKey) ?? "";
  fields.delete("token");
  fields.delete("secret");
  return { token, secret: localStorage.getItem(secretKey), rest: fields };
}

/** The node that served the page. */
export class Node {
  constructor(token, base = "") {
    this.token = token;
    this.base = base;
  }

  get(path) {
    return this.call("GET", path);
  }

  post(path, body = {}) {
    return this.call("POST", path, body);
  }

  /** Raises NodeError; code "unreachable" when nobody answers. */
  async call(method, path, body) {
    const response = await this.fetch(method, path, body);
    return response.json();
  }

  /** A file's or module's bytes. */
  async bytes(path) {
    return new Uint8Array(await (await this.fetch("GET", path)).arrayBuffer());
  }

  async fetch(method, path, body, signal) {
    const headers = { Authorization: `Bearer ${this.token}` };
    if (body !== undefined) headers["Content-Type"] = "application/json";
    const options = { method, headers, signal, credentials: "omit", cache: "no-store" };
    if (body !== undefined) options.body = JSON.stringify(body);
    let response;
    try {
      response = await fetch(this.base + path, options);
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new NodeError("unreachable", "the node does not answer", "is it running?");
    }
    if (response.ok) return response;
    const { error } = await response.json().catch(() => ({ error: { code: "internal", message: response.statusText } }));
    throw new NodeError(error.code, error.message, error.hint, response.status);
  }

  /** Rows of one read-only SQL statement, as objects by column name. */
  async query(sql, params = [], rowsMax = 1000) {
    const answer = await this.post("/v1/query", { sql, params, rows_max: rowsMax });
    return answer.rows.map((row) => Object.fromEntries(answer.columns.map((column, at) => [column.name, row[at]])));
  }

  /** Submit one message and wait for its decision: the receipt. `tick` submits the passing of time instead. */
  async send(channel, message, { tick = false } = {}) {
    const body = tick ? { tick: true } : { messages: [{ json: message }] };
    return (await this.post(`/v1/channels/${channel}/messages`, body)).receipts[0];
  }

  /** The co-signed log from a sequence to its present end. */
  async entries(channel, from = 0) {
    const found = [];
    for (let next = from; next !== null; ) {
      const page = await this.get(`/v1/channels/${channel}/entries?from=${next}&limit=1000`);
      found.push(...page.entries);
      next = page.next;
    }
    return found;
  }

  /**
   * Tell `onItem` of everything new, and `onLink(true | false)` when the stream comes and goes. It comes back by itself;
   * what happened meanwhile is not told again, so look at everything when the link is back. Returns how to end it.
   */
  follow(kinds, onItem, onLink) {
    const ending = new AbortController();
    void (async () => {
      for (let pause = 250; !ending.signal.aborted; pause = Math.min(2 * pause, 5000)) {
        try {
          const response = await this.fetch("GET", `/v1/stream?kinds=${kinds}`, undefined, ending.signal);
          onLink(true);
          pause = 250;
          for await (const data of events(response.body)) onItem(JSON.parse(data));
        } catch (error) {
          if (ending.signal.aborted) return;
          if (error instanceof NodeError && error.status === 401) return onLink(false, error);
        }
        onLink(false);
        await new Promise((resolve) => setTimeout(resolve, pause));
      }
    })();
    return () => ending.abort();
  }
}

/** The data of each server-sent event. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += value;
    const whole = text.split("\n\n");
    text = whole.pop();
    for (const event of whole) {
      const data = event.split("\n").filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trim());
      if (data.length) yield data.join("\n");
    }
  }
}

/** `0x` and lower-case digits of bytes. */
export function hex(bytes) {
  return "0x" + Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Bytes of such text; PostgreSQL's `\x` will do as well. */
export function bytesOf(text) {
  return Uint8Array.from(text.slice(2).match(/../g) ?? [], (digits) => parseInt(digits, 16));
}
