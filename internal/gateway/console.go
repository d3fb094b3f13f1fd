package gateway

import (
	"embed"
	"io/fs"
	"net/http"

	"github.com/faas-platform/faas/api"
)

//go:embed console
var consoleFiles embed.FS

// consolePolicy lets the console load and reach this server and nothing else.
const consolePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

// consoleRoutes are the console's files by their paths. They tell nothing of any
// project and need no key.
var consoleRoutes = map[string]string{
	api.PathConsole:                  "console/index.html",
	api.PathConsole + "/console.js":  "console/console.js",
	api.PathConsole + "/terminal.js": "console/terminal.js",
	api.PathConsole + "/console.css": "console/console.css",
}

// registerConsole serves a page with a terminal, whole and offline.
func (g *Gateway) registerConsole() {
	for path, name := range consoleRoutes {
		g.mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			header := w.Header()
			header.Set("Content-Security-Policy", consolePolicy)
			header.Set("Referrer-Policy", "no-referrer")
			header.Set("Cache-Control", "no-cache")
			http.ServeFileFS(w, r, fs.FS(consoleFiles), name)
		})
	}
}
