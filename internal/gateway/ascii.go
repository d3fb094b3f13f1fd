package gateway

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

func itoa(n int) string { return strconv.Itoa(n) }

// appendASCII writes a character of JSON, escaped where it is not ASCII.
func appendASCII(b *strings.Builder, c rune) {
	switch {
	case c < utf8.RuneSelf && c != 0x7f:
		b.WriteRune(c)
	case c > 0xffff:
		high, low := utf16.EncodeRune(c)
		fmt.Fprintf(b, `\u%04x\u%04x`, high, low)
	default:
		fmt.Fprintf(b, `\u%04x`, c)
	}
}
