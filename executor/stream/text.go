package stream

import "unicode/utf8"

// TextWriter passes output on in pieces that do not cut a UTF-8 character in
// two, so that text stays text. Each output has its own; one writer at a time.
type TextWriter struct {
	Send  func([]byte) error
	carry []byte // the beginning of a character
}

// Write implements io.Writer.
func (t *TextWriter) Write(p []byte) (int, error) {
	piece := p
	if len(t.carry) > 0 {
		piece = append(t.carry, p...)
		t.carry = nil
	}
	whole := len(piece) - incomplete(piece)
	t.carry = append([]byte(nil), piece[whole:]...)
	if whole == 0 {
		return len(p), nil
	}
	if err := t.Send(piece[:whole]); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Flush sends what is left of a character that never ended.
func (t *TextWriter) Flush() error {
	if len(t.carry) == 0 {
		return nil
	}
	rest := t.carry
	t.carry = nil
	return t.Send(rest)
}

// incomplete returns how many bytes at the end begin a character whose rest
// may still come.
func incomplete(p []byte) int {
	for back := 1; back < utf8.UTFMax && back <= len(p); back++ {
		c := p[len(p)-back]
		if utf8.RuneStart(c) {
			if !utf8.FullRune(p[len(p)-back:]) {
				return back
			}
			return 0
		}
	}
	return 0
}
