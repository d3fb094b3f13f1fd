// A terminal: what programs write becomes rows of cells, what is typed becomes
// what programs read. It knows the sequences of a common subset of xterm.

const blank = () => ({ c: " ", s: "" });
const keepRows = 2000; // of what has scrolled away

export class Terminal {
  constructor(element, { cols = 80, rows = 24, send = () => {} } = {}) {
    Object.assign(this, { element, cols, rows, send, decoder: new TextDecoder() });
    this.history = [];
    this.reset();
    element.addEventListener("keydown", (e) => this.key(e));
    element.addEventListener("paste", (e) => {
      e.preventDefault();
      this.send(e.clipboardData.getData("text").replace(/\r?\n/g, "\r"));
    });
  }

  reset() {
    this.screen = Array.from({ length: this.rows }, () => this.row());
    Object.assign(this, { x: 0, y: 0, style: "", attributes: {}, top: 0, bottom: this.rows - 1, saved: null, main: null, pending: "", appKeys: false, hidden: false, wrap: false });
    this.draw();
  }

  row() { return Array.from({ length: this.cols }, blank); }

  // write takes bytes or text that a program wrote, in pieces of any size.
  write(data) {
    let text = this.pending + (typeof data === "string" ? data : this.decoder.decode(data, { stream: true }));
    this.pending = "";
    while (text) {
      const escape = text.indexOf("\x1b");
      if (escape !== 0) {
        const plain = escape < 0 ? text : text.slice(0, escape);
        for (const c of plain) this.put(c);
        text = text.slice(plain.length);
        continue;
      }
      const found = /^\x1b(?:\[([?>=]?)([0-9;:]*)[ -/]*([@-~])|\](?:[^\x07\x1b]*)(?:\x07|\x1b\\)|[()*+].|P[^\x1b]*\x1b\\|([^[\]()*+P]))/.exec(text);
      if (!found) { // the rest is still to come
        if (text.length < 4096) { this.pending = text; break; }
        text = text.slice(1);
        continue;
      }
      if (found[3]) this.control(found[1], found[2].split(/[;:]/).map((n) => (n === "" ? NaN : +n)), found[3]);
      else if (found[4]) this.escape(found[4]);
      text = text.slice(found[0].length);
    }
    this.draw();
  }

  put(c) {
    switch (c) {
      case "\r": this.x = 0; this.wrap = false; return;
      case "\n": case "\x0b": case "\x0c": this.down(); return;
      case "\b": this.x = Math.max(0, this.x - 1); this.wrap = false; return;
      case "\t": this.x = Math.min(this.cols - 1, (this.x + 8) & ~7); return;
    }
    if (c < " " || c === "\x7f") return;
    if (this.wrap) { this.x = 0; this.down(); }
    this.screen[this.y][this.x] = { c, s: this.style };
    this.wrap = this.x === this.cols - 1;
    if (!this.wrap) this.x++;
  }

  down() {
    this.wrap = false;
    if (this.y === this.bottom) this.scroll(1);
    else if (this.y < this.rows - 1) this.y++;
  }

  // scroll moves the rows of the scrolling region up, or down when n < 0.
  scroll(n) {
    for (; n > 0; n--) {
      const [gone] = this.screen.splice(this.top, 1);
      if (this.top === 0 && !this.main) {
        this.history.push(gone);
        if (this.history.length > keepRows) this.history.shift();
      }
      this.screen.splice(this.bottom, 0, this.row());
    }
    for (; n < 0; n++) {
      this.screen.splice(this.bottom, 1);
      this.screen.splice(this.top, 0, this.row());
    }
  }

  escape(c) {
    switch (c) {
      case "7": this.saved = { x: this.x, y: this.y, style: this.style, attributes: { ...this.attributes } }; break;
      case "8": if (this.saved) Object.assign(this, this.saved); break;
      case "c": this.reset(); break;
      case "D": this.down(); break;
      case "E": this.x = 0; this.down(); break;
      case "M": if (this.y === this.top) this.scroll(-1); else this.y = Math.max(0, this.y - 1); break;
    }
  }

  control(mark, args, c) {
    const n = args[0] || 1, arg = args[0] || 0;
    const to = (x, y) => { this.x = clamp(x, this.cols); this.y = clamp(y, this.rows); this.wrap = false; };
    if (mark === "?") return this.mode(args, c === "h");
    if (mark) return;
    const row = this.screen[this.y];
    switch (c) {
      case "A": return to(this.x, this.y - n);
      case "B": case "e": return to(this.x, this.y + n);
      case "C": case "a": return to(this.x + n, this.y);
      case "D": return to(this.x - n, this.y);
      case "E": return to(0, this.y + n);
      case "F": return to(0, this.y - n);
      case "G": case "`": return to(n - 1, this.y);
      case "d": return to(this.x, n - 1);
      case "H": case "f": return to((args[1] || 1) - 1, n - 1);
      case "J": return this.erase(arg);
      case "K": for (let x = arg === 0 ? this.x : 0; x < (arg === 1 ? this.x + 1 : this.cols); x++) row[x] = blank(); return;
      case "X": for (let x = this.x; x < Math.min(this.cols, this.x + n); x++) row[x] = blank(); return;
      case "P": row.splice(this.x, Math.min(n, this.cols)); while (row.length < this.cols) row.push(blank()); return;
      case "@": row.splice(this.x, 0, ...Array.from({ length: Math.min(n, this.cols) }, blank)); row.length = this.cols; return;
      case "L": case "M": return this.lines(c === "L" ? -n : n);
      case "S": return this.scroll(Math.min(n, this.rows));
      case "T": return this.scroll(-Math.min(n, this.rows));
      case "r": this.top = clamp(n - 1, this.rows); this.bottom = clamp((args[1] || this.rows) - 1, this.rows); return to(0, 0);
      case "s": return this.escape("7");
      case "u": return this.escape("8");
      case "m": return this.paint(args);
      case "n": if (arg === 6) this.send(`\x1b[${this.y + 1};${this.x + 1}R`); return;
      case "c": this.send("\x1b[?1;2c"); return;
    }
  }

  lines(n) {
    if (this.y < this.top || this.y > this.bottom) return;
    const top = this.top, main = this.main;
    this.top = this.y;
    this.main = this.main || []; // nothing goes to the history
    this.scroll(Math.sign(n) * Math.min(Math.abs(n), this.rows));
    this.top = top;
    this.main = main;
  }

  erase(what) {
    const from = what === 0 ? this.y * this.cols + this.x : 0;
    const end = what === 1 ? this.y * this.cols + this.x + 1 : this.rows * this.cols;
    for (let i = from; i < end; i++) this.screen[Math.floor(i / this.cols)][i % this.cols] = blank();
    if (what === 3) this.history = [];
  }

  mode(args, on) {
    for (const mode of args) {
      if (mode === 1) this.appKeys = on;
      if (mode === 25) this.hidden = !on;
      if (mode === 1049 || mode === 47 || mode === 1047) {
        if (on && !this.main) {
          this.main = { screen: this.screen, x: this.x, y: this.y };
          this.screen = Array.from({ length: this.rows }, () => this.row());
        } else if (!on && this.main) {
          Object.assign(this, this.main);
          this.main = null;
        }
      }
    }
  }

  paint(args) {
    const a = this.attributes;
    for (let i = 0; i < args.length; i++) {
      const n = args[i] || 0;
      if (n === 0) for (const k of Object.keys(a)) delete a[k];
      else if (n === 1) a.bold = true;
      else if (n === 2) a.dim = true;
      else if (n === 3) a.italic = true;
      else if (n === 4) a.underline = true;
      else if (n === 7) a.inverse = true;
      else if (n === 22) { delete a.bold; delete a.dim; }
      else if (n === 23) delete a.italic;
      else if (n === 24) delete a.underline;
      else if (n === 27) delete a.inverse;
      else if (n >= 30 && n <= 37) a.f = n - 30;
      else if (n >= 90 && n <= 97) a.f = n - 82;
      else if (n === 39) delete a.f;
      else if (n >= 40 && n <= 47) a.b = n - 40;
      else if (n >= 100 && n <= 107) a.b = n - 100;
      else if (n === 49) delete a.b;
      else if (n === 38 || n === 48) { // of 256 colours the first sixteen are shown
        const colour = args[i + 1] === 5 ? args[i + 2] : NaN;
        i += args[i + 1] === 5 ? 2 : 4;
        if (colour < 16) a[n === 38 ? "f" : "b"] = n === 38 ? colour : colour % 8;
      }
    }
    const words = ["bold", "dim", "italic", "underline"].filter((k) => a[k]);
    if (a.inverse) words.push("cursor");
    if (a.f !== undefined) words.push("f" + a.f);
    if (a.b !== undefined) words.push("b" + a.b);
    this.style = words.join(" ");
  }

  // draw shows the rows, once for everything that came since the last frame.
  draw() {
    if (this.drawing) return;
    this.drawing = true;
    requestAnimationFrame(() => {
      this.drawing = false;
      const rows = (this.main ? [] : this.history).concat(this.screen);
      const first = rows.length - this.rows;
      this.element.replaceChildren(...rows.map((row, i) => this.line(row, !this.hidden && i - first === this.y)));
      this.element.scrollTop = this.element.scrollHeight;
    });
  }

  line(row, hasCursor) {
    const div = document.createElement("div");
    let text = "", style = "";
    const flush = () => {
      if (!text) return;
      const span = document.createElement("span");
      span.className = style;
      span.textContent = text;
      div.append(span);
      text = "";
    };
    row.forEach((cell, x) => {
      const s = hasCursor && x === this.x ? (cell.s + " cursor").trim() : cell.s;
      if (s !== style) { flush(); style = s; }
      text += cell.c;
    });
    flush();
    return div;
  }

  // text is what the screen shows, and what has scrolled away.
  text() {
    return this.history.concat(this.screen).map((row) => row.map((cell) => cell.c).join("").trimEnd()).join("\n");
  }

  key(e) {
    const sequence = this.sequence(e);
    if (sequence === null) return;
    e.preventDefault();
    this.send(sequence);
  }

  sequence(e) {
    const arrow = this.appKeys ? "\x1bO" : "\x1b[";
    const named = {
      Enter: "\r", Backspace: "\x7f", Tab: "\t", Escape: "\x1b", Delete: "\x1b[3~", Insert: "\x1b[2~",
      ArrowUp: arrow + "A", ArrowDown: arrow + "B", ArrowRight: arrow + "C", ArrowLeft: arrow + "D",
      Home: "\x1b[H", End: "\x1b[F", PageUp: "\x1b[5~", PageDown: "\x1b[6~",
      F1: "\x1bOP", F2: "\x1bOQ", F3: "\x1bOR", F4: "\x1bOS", F5: "\x1b[15~", F6: "\x1b[17~", F7: "\x1b[18~", F8: "\x1b[19~", F9: "\x1b[20~", F10: "\x1b[21~", F11: "\x1b[23~", F12: "\x1b[24~",
    };
    if (e.metaKey || (e.ctrlKey && e.shiftKey)) return null; // the browser's own
    if (named[e.key]) return named[e.key];
    if (e.key.length !== 1) return null;
    if (e.ctrlKey) {
      const code = e.key.toUpperCase().charCodeAt(0);
      if (e.key === " ") return "\0";
      return code >= 64 && code < 96 ? String.fromCharCode(code - 64) : null;
    }
    return (e.altKey ? "\x1b" : "") + e.key;
  }
}

const clamp = (n, size) => Math.max(0, Math.min(size - 1, n));
