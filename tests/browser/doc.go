// Package browser holds what has to be seen in a real browser: that the console
// opens a terminal, and that pages of programs inside reach nothing of the API.
package browser
