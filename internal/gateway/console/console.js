// The console: a terminal in an instance, over the instance's stream. The key
// stays in this page's memory; the stream is opened with a ticket.
import { Terminal } from "/console/terminal.js";

const $ = (id) => document.getElementById(id);
const say = (text) => { $("status").value = text; };

async function call(method, path, body) {
  const headers = { "Content-Type": "application/json" };
  if ($("key").value) headers.Authorization = "Bearer " + $("key").value;
  const response = await fetch(path, { method, headers, body: body && JSON.stringify(body) });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.detail);
  return answer;
}

$("connect").addEventListener("submit", async (e) => {
  e.preventDefault();
  try {
    const { instances } = await call("GET", "/api/v1/instances?limit=1000");
    $("instance").replaceChildren(...instances.map((i) => new Option(`${i.name || i.id} (${i.status})`, i.id)));
    $("open").disabled = instances.length === 0;
    say(instances.length === 0 ? "The project has no instances." : "");
  } catch (err) {
    say(err.message);
  }
});

let session = null;

$("open").addEventListener("click", () => {
  if (session) session.close();
  session = new Session($("instance").value);
  session.connect();
  $("terminal").focus();
});

// Session is a terminal in one instance that outlives lost connections.
class Session {
  constructor(instance) {
    Object.assign(this, { instance, seq: null, name: "", exec: "", over: false, tries: 0 });
    this.terminal = new Terminal($("terminal"), { ...size(), send: (data) => this.send({ type: "stdin", id: this.exec, data }) });
    Object.assign(globalThis, { terminal: this.terminal, session: this }); // for those who look at it from the browser's tools
  }

  async connect() {
    try {
      const path = `/api/v1/instances/${this.instance}/stream`;
      const { ticket } = await call("POST", "/api/v1/tickets", { path });
      const url = new URL(path, location.href);
      url.protocol = url.protocol.replace("http", "ws");
      url.searchParams.set("ticket", ticket);
      if (this.seq !== null) {
        url.searchParams.set("since", this.seq);
        url.searchParams.set("session", this.name);
      }
      this.socket = new WebSocket(url);
      this.socket.addEventListener("message", (e) => this.frame(JSON.parse(e.data)));
      this.socket.addEventListener("close", () => this.lost());
    } catch (err) {
      say(err.message);
      this.lost();
    }
  }

  frame(f) {
    this.tries = 0;
    switch (f.type) {
      case "state":
        if (f.session) {
          if (!this.exec && this.seq === null) {
            this.send({ type: "exec", command: ["sh", "-c", "command -v bash >/dev/null && exec bash || exec sh"], tty: true, ...size(), env_vars: { TERM: "xterm-256color" } });
          }
          this.name = f.session;
        }
        say(f.state);
        break;
      case "started": this.exec = f.id; break;
      case "stdout": this.terminal.write(f.data_base64 ? Uint8Array.from(atob(f.data_base64), (c) => c.charCodeAt(0)) : f.data); break;
      case "exit":
        if (f.id === this.exec) {
          this.over = true;
          say(`ended with ${f.code}`);
          this.socket.close();
        }
        break;
      case "error": say(f.error.detail); break;
    }
    this.seq = f.seq;
  }

  send(frame) {
    if (this.socket && this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(frame));
  }

  // lost connects again, from where it was.
  lost() {
    if (this.over) return;
    if (++this.tries > 20) return say("The connection is lost.");
    setTimeout(() => this.connect(), Math.min(250 * 2 ** this.tries, 10000));
  }

  close() {
    this.over = true;
    this.send({ type: "signal", id: this.exec, signal: "SIGHUP" });
    if (this.socket) this.socket.close();
  }
}

// size measures how many cells the terminal's element holds.
function size() {
  const probe = document.createElement("span");
  probe.textContent = "0".repeat(100);
  $("terminal").replaceChildren(probe);
  const cell = probe.getBoundingClientRect();
  const box = $("terminal").getBoundingClientRect();
  return {
    cols: Math.max(20, Math.floor((box.width - 24) / (cell.width / 100))),
    rows: Math.max(5, Math.floor((box.height - 16) / cell.height)),
  };
}
