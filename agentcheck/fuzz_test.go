package agentcheck_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/headgate/headgate/agentcheck"
)

// FuzzParse checks that no input makes Parse or Lint panic. If the test writes the parsed Reply and
// parses the text again, the result must be the same Reply. FuzzParse also checks that Parse has
// some properties of HAProxy's parser.
func FuzzParse(f *testing.F) {
	f.Fuzz(func(t *testing.T, line []byte) {
		before := bytes.Clone(line)
		r, err := agentcheck.Parse(line)
		findings := agentcheck.Lint(line, agentcheck.Setup{})
		if !bytes.Equal(line, before) {
			t.Fatal("the input was changed")
		}
		if (errors.Is(err, agentcheck.ErrIncomplete) || errors.Is(err, agentcheck.ErrTooLong)) && r != (agentcheck.Reply{}) {
			t.Fatalf("HAProxy ignores all of it, Parse says %+v", r)
		}
		if err != nil && len(findings) == 0 {
			t.Fatalf("error %v has no finding", err)
		}
		for _, f := range findings {
			if s := f.String(); strings.Contains(s, "%!") && !bytes.Contains(line, []byte("%!")) {
				t.Fatalf("broken finding %q", s)
			}
		}

		text, err := r.AppendLine(nil)
		if err != nil {
			t.Fatal(err)
		}
		if n := bytes.IndexAny(text, "\r\n\x00"); n != len(text)-1 || text[n] != '\n' || len(text) > agentcheck.MaxLine {
			t.Fatalf("%q is not one line", text)
		}
		again, err := agentcheck.Parse(text)
		if err != nil || again != r {
			t.Fatalf("%q was read as %+v, written as %q, read as %+v, %v", line, r, text, again, err)
		}

		// Text after the line end, other separators, and the case of the words change nothing.
		if end := bytes.IndexAny(line, "\r\n"); end >= 0 && end < 1000 {
			words := bytes.ReplaceAll(line[:end], []byte(" "), []byte(",\t"))
			if !bytes.Contains(words, []byte("#")) {
				for i, c := range words { // only ASCII letters, as HAProxy does
					if 'a' <= c && c <= 'z' {
						words[i] = c - 'a' + 'A'
					}
				}
				same, _ := agentcheck.Parse(append(append([]byte("\t, "), words...), "\r\nmaint"...))
				if same != r {
					t.Fatalf("%q is %+v but %q is %+v", line, r, words, same)
				}
			}
		}
	})
}

// FuzzReply checks that any Reply is written as one line, and that Parse reads it as the same
// Reply.
func FuzzReply(f *testing.F) {
	f.Fuzz(func(t *testing.T, state, admin byte, weight int, isAbsolute bool, connections uint32, limited bool, reason string) {
		r := agentcheck.Reply{State: agentcheck.State(state), Admin: agentcheck.Admin(admin), Reason: reason}
		switch {
		case isAbsolute:
			r.Weight = agentcheck.Absolute(weight)
		case weight >= 0:
			r.Weight = agentcheck.Percent(weight)
		}
		if limited {
			r.MaxConn = agentcheck.Connections(int(connections))
		}
		text, err := r.AppendLine(nil)
		if err != nil {
			if r.State <= agentcheck.Fail && r.Admin <= agentcheck.Maint {
				t.Fatal(err)
			}
			return
		}
		got, err := agentcheck.Parse(text)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		want := r
		want.Reason = got.Reason
		if got != want {
			t.Fatalf("%+v was written as %q and read as %+v", r, text, got)
		}
		if len(got.Reason) > agentcheck.MaxReason || !utf8.ValidString(got.Reason) || strings.TrimSpace(got.Reason) != got.Reason {
			t.Fatalf("reason %q", got.Reason)
		}
		if simple := strings.Trim(reason, "abcdefghijklmnopqrstuvwxyz") == ""; simple && len(reason) <= agentcheck.MaxReason && got.Reason != reason {
			t.Fatalf("reason %q became %q", reason, got.Reason)
		}
		if again, _ := got.AppendLine(nil); !bytes.Equal(again, text) {
			t.Fatalf("%q was written again as %q", text, again)
		}
		marshalled, err := r.MarshalText()
		if err != nil || string(marshalled)+"\n" != string(text) {
			t.Fatalf("MarshalText gives %q, %v; AppendLine gives %q", marshalled, err, text)
		}
		for _, form := range [][]byte{marshalled, text} { // without and with a line end
			var back agentcheck.Reply
			if err := back.UnmarshalText(form); err != nil || back != got {
				t.Fatalf("UnmarshalText(%q) gives %+v, %v, want %+v", form, back, err, got)
			}
		}
	})
}
