package agentcheck

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// Lint names what is surprising about an answer, byte for byte as it is sent. Findings about
// words come first, in their order; no finding gives nil. An answer without findings may still
// be wrong for its purpose.
func Lint(answer []byte, s Setup) []Finding {
	var l linter
	line, err := firstLine(answer, true)
	switch {
	case errors.Is(err, ErrTooLong):
		l.add(TrapTooLong, "", "HAProxy reads no more than its tune.bufsize (16384 bytes) and ignores the answer, unless it ends: 2.6 writes beyond its buffer")
		return l.findings
	case err != nil:
		l.add(TrapNoLineEnd, "", `HAProxy ignores an answer without a line end or with a NUL before it, or completes it with what is left in its buffer: end it in \n`)
		line, _, _ = bytes.Cut(answer, []byte{0})
	default:
		if rest := bytes.Trim(answer[len(line):], "\r\n"); len(rest) > 0 {
			l.add(TrapSecondLine, "", "HAProxy stops at the first line end, even in an empty line: say all on one line")
		}
	}
	if len(line)+1 >= MaxLine && (s.Version == "" || !olderThan(s.Version, 3, 1)) {
		l.add(TrapTooLong, "", "newer versions of HAProxy ignore an answer that fills their tune.bufsize (16384 bytes) to the last byte")
	}
	r, wordErr := parse(line, false)
	l.words(line, s)
	l.weight(r.Weight, s)
	l.maxConn(r.MaxConn)
	l.settings(r, s)
	l.persistence(r, s)
	l.reason(r, wordErr)
	return l.findings
}

type linter struct {
	findings  []Finding
	weightW   string // the last weight, as it was written
	maxConnW  string
	maxConnIn []byte // its number, as it was written
}

func (l *linter) add(t Trap, word, format string, args ...any) {
	l.findings = append(l.findings, Finding{t, word, fmt.Sprintf(format, args...)})
}

// words looks at each word by itself and beside those of its kind.
func (l *linter) words(line []byte, s Setup) {
	var last [maxConnWord + 1]word
	for words := (scanner{line: line}); words.next(); {
		w := words.word
		k, _ := classify(w.text)
		if k == unknownWord {
			l.unknown(string(w.text))
			continue
		}
		if _, ok := cutPrefixFold(w.text, weightPrefix); ok && olderThan(s.Version, 3, 1) {
			l.add(TrapNeedsVersion, string(w.text), "before version 3.1 HAProxy knows weights as a percentage only, and shows an error")
		}
		if before := last[k].text; before != nil {
			l.add(TrapOverridden, string(before), "%q comes later and is of the same kind: the last one counts, even if it is wrong", w.text)
		}
		last[k] = w
	}
	if w := last[weightWord].text; w != nil {
		l.weightW = string(w)
		number, _ := cutWeight(w)
		if _, err := parseWeight(number); err != nil {
			l.badNumber(l.weightW, err)
		}
	}
	if w := last[maxConnWord].text; w != nil {
		l.maxConnW = string(w)
		l.maxConnIn, _ = cutPrefixFold(w, maxConnPrefix)
		if _, err := parseMaxConn(l.maxConnIn); err != nil {
			l.badNumber(l.maxConnW, err)
		}
	}
}

func (l *linter) unknown(w string) {
	switch digits := strings.Trim(w, "0123456789"); {
	case strings.Contains(w, "#"):
		l.glued(w)
	case strings.Contains(w, ";"):
		l.add(TrapUnknownWord, w, "a semicolon does not separate words: use a space")
	case digits == "":
		l.add(TrapUnknownWord, w, "a weight needs a percent sign: %s%%", w)
	case w == "%":
		l.add(TrapUnknownWord, w, "no space may stand between number and percent sign")
	case digits == "-%" || digits == "+%":
		l.add(TrapUnknownWord, w, "a percentage has no sign")
	default:
		l.add(TrapUnknownWord, w, "HAProxy shows an error and applies the other words")
	}
}

func (l *linter) badNumber(w string, err error) {
	if strings.Contains(w, "#") {
		l.glued(w)
		return
	}
	l.add(TrapBadNumber, w, "%v: HAProxy keeps what was in force and shows a warning", err)
}

func (l *linter) glued(w string) {
	before, _, _ := strings.Cut(w, "#")
	l.add(TrapGluedReason, w, "a reason begins with a '#' that begins a word; this makes %q an unknown word too: put a space before the '#'", before)
}

func (l *linter) weight(w Weight, s Setup) {
	if w.IsZero() {
		return
	}
	initial, known := s.InitialWeight.Absolute()
	absolute, isAbsolute := w.Absolute()
	percent, isPercent := w.Percent()
	if isStatic(s.Balance, s.HashType) {
		ignored := (isPercent && percent != 0 && percent != 100) || (isAbsolute && absolute != 0)
		if known {
			n := w.Of(initial, initial)
			ignored = n != 0 && n != initial
		}
		if ignored {
			l.add(TrapStaticBalance, l.weightW, "balance %s is static and takes 0%% and 100%% only; roundrobin, leastconn, random, and hash-type consistent take every weight", s.Balance)
		}
	}
	if !isPercent {
		return
	}
	switch exact, got := initial*percent, 100*w.Of(initial, initial); {
	case known && initial == 0 && percent > 0:
		l.add(TrapTruncated, l.weightW, "any percentage of the initial weight 0 is 0")
	case known && exact > 100*MaxWeight, !known && percent > MaxWeight:
		l.add(TrapCapped, l.weightW, "no weight exceeds %d, which is %d%% of an initial weight of 100", MaxWeight, MaxWeight)
	case known && 10*(exact-got) >= exact && exact > 0:
		l.add(TrapTruncated, l.weightW, "%d%% of the initial weight %d is truncated to %d: give servers weight 100", percent, initial, got/100)
	}
}

func (l *linter) maxConn(m MaxConn) {
	n, set := m.Limit()
	if !set {
		return
	}
	if asked, _, _ := cutInteger(l.maxConnIn); asked != int64(n) {
		effect := fmt.Sprintf("a limit of %d", n)
		if n == 0 {
			effect = "no limit"
		}
		l.add(TrapWrapped, l.maxConnW, "HAProxy keeps the low 32 bits of the number, which gives %s", effect)
	} else if n == 0 {
		l.add(TrapUnlimited, l.maxConnW, "0 lifts the limit: to keep clients away say drain, maint or 0%%")
	}
}

// settings compares what the answer names with what the agent owns.
func (l *linter) settings(r Reply, s Setup) {
	owns := s.Owns
	if owns == 0 {
		owns = SettingState | SettingAdmin | SettingWeight
	}
	for _, c := range []struct {
		setting       Settings
		named         bool
		open, foreign string
	}{
		{
			SettingState, r.State != KeepState,
			"no health: after down, fail or stopped nothing but \"up\" brings the server back",
			"down, fail and stopped stay until this agent says up",
		},
		{
			SettingAdmin, r.Admin != KeepAdmin,
			"no administrative state: after drain or maint nothing but \"ready\" ends it",
			"ready ends an operator's drain or maintenance at the next check, drain and maint replace it",
		},
		{
			SettingWeight, !r.Weight.IsZero(),
			"no weight: the last one stays in force, also 0%",
			"the weight replaces an operator's at the next check",
		},
		{
			SettingMaxConn, !r.MaxConn.IsZero(),
			"no maxconn: the last one stays in force",
			"the limit replaces the configured one",
		},
	} {
		if owns&c.setting != 0 && !c.named {
			l.add(TrapOpenSetting, "", "%s", c.open)
		}
		if s.Owns != 0 && owns&c.setting == 0 && c.named {
			l.add(TrapForeignSetting, "", "%s", c.foreign)
		}
	}
}

func (l *linter) persistence(r Reply, s Setup) {
	if !s.Persistence || r.State.IsDown() {
		return
	}
	weightless := !r.Weight.IsZero() && r.Weight.Of(100, 100) == 0
	switch {
	case r.Admin == Maint:
		l.add(TrapPersistence, r.Admin.String(), "clients bound to the server move to others at once; drain would let them stay")
	case r.Admin == Drain:
		l.add(TrapPersistence, r.Admin.String(), "clients bound to the server still come; maint would move them")
	case weightless:
		l.add(TrapPersistence, l.weightW, "clients bound to the server still come; maint would move them")
	}
}

// shownReason is how much HAProxy keeps of "via agent : <state> (<reason>)".
const shownReason = 127

func (l *linter) reason(r Reply, wordErr error) {
	switch {
	case r.Reason == "":
	case r.State == KeepState:
		l.add(TrapHiddenReason, "", "HAProxy shows a reason only beside up, down, fail or stopped")
	case r.State == Up && wordErr != nil:
		l.add(TrapHiddenReason, "", "HAProxy shows its error about another word instead of the reason beside up")
	case len("via agent : ")+len(r.State.String())+len(" (")+len(r.Reason) > shownReason:
		l.add(TrapCutReason, "", "HAProxy shows about the first 100 bytes of a reason")
	}
}

// isStatic reports whether a balance algorithm cannot change weights at run time (HAProxy
// configuration manual, "balance" and "hash-type").
func isStatic(balance, hashType string) bool {
	name := strings.ToLower(strings.TrimSpace(balance))
	if i := strings.IndexAny(name, " \t("); i >= 0 {
		name = name[:i]
	}
	switch name {
	case "static-rr":
		return true
	case "source", "uri", "url_param", "hdr", "rdp-cookie", "hash":
		return !strings.HasPrefix(strings.TrimSpace(hashType), "consistent")
	}
	return false
}

// olderThan reports whether a version is, or may be, older than major.minor.
func olderThan(version string, major, minor int) bool {
	var a, b int
	if _, err := fmt.Sscanf(version, "%d.%d", &a, &b); err != nil {
		return true
	}
	return a < major || (a == major && b < minor)
}
