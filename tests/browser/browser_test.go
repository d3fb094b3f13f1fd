package browser

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
	"github.com/faas-platform/faas/client"
)

// A person opens the console, gives the key, picks the instance, opens a
// terminal, types, and sees what comes of it.
func TestConsoleTerminal(t *testing.T) {
	ctx := browser(t)
	i := install(t)
	var shown, size string
	sees := func(text string) chromedp.Action {
		return chromedp.Poll(fmt.Sprintf("window.terminal && window.terminal.text().includes(%q)", text), nil, chromedp.WithPollingTimeout(2*time.Minute))
	}
	run(t, ctx, "open the console",
		chromedp.Navigate(i.url+api.PathConsole),
		chromedp.SendKeys("#key", i.key+"\r", chromedp.ByID),
		chromedp.WaitVisible("#open:enabled", chromedp.ByQuery),
		chromedp.Click("#open", chromedp.ByID))
	run(t, ctx, "see a prompt", chromedp.Poll("window.terminal && /[#$] *$/.test(window.terminal.text().trimEnd())", nil, chromedp.WithPollingTimeout(2*time.Minute)))
	run(t, ctx, "type", chromedp.SendKeys("#terminal", "echo answer $((6 * 7))\r", chromedp.ByID), sees("answer 42"))
	run(t, ctx, "colours and movement",
		chromedp.SendKeys("#terminal", `printf 'a\033[31mred\033[0m\rb\n'; stty size`+"\r", chromedp.ByID), sees("\nbred"),
		chromedp.Text("#terminal", &shown, chromedp.ByID),
		chromedp.Evaluate("`${window.terminal.rows} ${window.terminal.cols}`", &size))
	run(t, ctx, "the size", sees("\n"+size))
	if !strings.Contains(shown, "answer 42") {
		t.Errorf("the page shows %q", shown)
	}
	// A connection that is lost is taken up again, in the same shell.
	run(t, ctx, "lose the connection",
		chromedp.SendKeys("#terminal", "word=kept\r", chromedp.ByID), sees("word=kept"),
		chromedp.Evaluate("window.before = window.session.socket, window.before.close(), true", nil),
		chromedp.Poll("window.session.socket !== window.before && window.session.socket.readyState === 1", nil, chromedp.WithPollingTimeout(2*time.Minute)))
	run(t, ctx, "go on", chromedp.SendKeys("#terminal", "echo $word\r", chromedp.ByID), sees("\nkept"))
	run(t, ctx, "end", chromedp.SendKeys("#terminal", "exit 5\r", chromedp.ByID),
		chromedp.Poll(`document.querySelector("#status").value === "ended with 5"`, nil, chromedp.WithPollingTimeout(2*time.Minute)))
}

// intruder is a page of a program inside that tries what it must not be able
// to do. It leaves in window.found what came of it.
const intruder = `<!doctype html><title>guest</title><script type="module">
const target = %q;
const attempt = async (f) => { try { return "GOT " + await f(); } catch (err) { return "refused"; } };
const socket = (url) => new Promise((yes, no) => { const s = new WebSocket(url); s.onopen = () => yes("open"); s.onerror = no; });
const frame = () => new Promise((yes, no) => {
  const f = document.createElement("iframe");
  f.src = target + "/console";
  f.onload = () => { try { yes(f.contentDocument.title); } catch (err) { no(err); } };
  setTimeout(no, 5000);
  document.body.append(f);
});
window.found = {
  origin: self.origin,
  cookies: await attempt(() => document.cookie || Promise.reject()),
  storage: await attempt(() => localStorage.getItem("secret") || Promise.reject()),
  health: await attempt(async () => (await fetch(target + "/health")).text()),
  instances: await attempt(async () => (await fetch(target + "/api/v1/instances", { credentials: "include" })).text()),
  execute: await attempt(async () => (await fetch(target + "/api/v1/execute", { method: "POST", credentials: "include", body: JSON.stringify({ command: "true" }) })).text()),
  socket: await attempt(() => socket(target.replace("http", "ws") + "/api/v1/execute/ws")),
  frame: await attempt(frame),
  worker: await attempt(() => navigator.serviceWorker.register("sw.js", { scope: "/" }).then(() => location.pathname.startsWith("/api/") ? "registered" : Promise.reject())),
};
</script>`

// A page behind an exposed port, under its host name and below the API, reaches
// neither the API's origin nor its cookies, storage or credentials.
func TestGuestPages(t *testing.T) {
	ctx := browser(t)
	i := install(t)
	i.servePage(t, fmt.Sprintf(intruder, i.url))
	p, err := i.client.ExposePort(t.Context(), api.ExposeRequest{InstanceID: i.instance, InternalPort: 8000, Subdomain: "guest", Access: faas.PortPublic})
	if err != nil {
		t.Fatal(err)
	}
	if p.PublicURL != i.sub("guest")+"/" {
		t.Errorf("public_url %s", p.PublicURL)
	}
	// What there is to steal on the API's origin.
	var own string
	run(t, ctx, "leave something on the API's origin",
		chromedp.Navigate(i.url+api.PathConsole),
		chromedp.Evaluate(`localStorage.setItem("secret", "stored"), document.cookie = "secret=baked; path=/", document.cookie + localStorage.getItem("secret")`, &own))
	if own != "secret=bakedstored" {
		t.Fatalf("the API's own page has %q", own)
	}
	for place, c := range map[string]struct{ address, origin string }{
		"by host name":  {p.PublicURL, i.sub("guest")},
		"below the API": {i.url + p.Path, "null"},
	} {
		var found string
		run(t, ctx, place,
			chromedp.Navigate(c.address),
			chromedp.Poll("window.found && JSON.stringify(window.found)", &found, chromedp.WithPollingTimeout(2*time.Minute)))
		got := map[string]string{}
		if err := json.Unmarshal([]byte(found), &got); err != nil {
			t.Fatal(err)
		}
		if got["origin"] != c.origin {
			t.Errorf("%s: the page's origin is %s", place, got["origin"])
		}
		delete(got, "origin")
		if len(got) != 8 {
			t.Errorf("%s: %v", place, got)
		}
		for what, outcome := range got {
			if outcome != "refused" {
				t.Errorf("%s: %s: %s", place, what, outcome)
			}
		}
	}
	// The browser was told to send what it has: the program got none of it.
	log, err := i.client.ReadFile(t.Context(), i.instance, "/srv/headers.log", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close() //nolint:errcheck // read only
	headers, err := io.ReadAll(log)
	if err != nil || !strings.Contains(string(headers), "Host: guest.localhost") || strings.Contains(string(headers), "secret=") {
		t.Errorf("%v: the program was sent\n%s", err, headers)
	}
}

// servePage starts a web server inside the instance, which has no network, that
// serves one page and writes down the headers that it is sent.
func (i *installation) servePage(t *testing.T, page string) {
	t.Helper()
	ctx := t.Context()
	for path, content := range map[string]string{"/srv/index.html": page, "/srv/sw.js": "", "/srv/server.py": `
import http.server, os
os.chdir("/srv")
class Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        with open("/srv/headers.log", "a") as f: f.write(str(self.headers))
        super().do_GET()
http.server.ThreadingHTTPServer(("127.0.0.1", 8000), Handler).serve_forever()
`} {
		if _, err := i.client.WriteFile(ctx, i.instance, path, strings.NewReader(content), client.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	start := "nohup python3 /srv/server.py >/dev/null 2>&1 & for n in $(seq 200); do python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", 8000))' 2>/dev/null && exit 0; sleep 0.05; done; exit 1"
	var done api.ExecuteResponse
	i.call(t, http.MethodPost, api.PathInstances+"/"+i.instance+"/exec", api.ExecRequest{Command: api.Command{Shell: start}}, &done)
	if done.ExitCode != 0 {
		t.Fatalf("start the web server: %+v", done)
	}
}
