package gateway

import (
	_ "embed"
	"net/http"
)

// docsPage shows the API's description. It is one file and loads nothing but
// /openapi.json, so that it works on a machine without a network.
//
//go:embed docs.html
var docsPage []byte

func serveDocs(w http.ResponseWriter, _ *http.Request) {
	header := w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Content-Security-Policy", "default-src 'none'; connect-src 'self'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	header.Set("Referrer-Policy", "no-referrer")
	_, _ = w.Write(docsPage)
}
