package agentcheck

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"strings"
)

// Trap names one kind of mistake in an answer: HAProxy reacts to such an answer in a way that the
// author of the agent probably does not expect.
type Trap string

// The Traps that Lint finds.
const (
	TrapNoLineEnd      Trap = "no-line-end"      // HAProxy ignores the whole answer
	TrapTooLong        Trap = "too-long"         // HAProxy ignores the whole answer, or crashes
	TrapSecondLine     Trap = "second-line"      // HAProxy ignores the text after the first line end
	TrapUnknownWord    Trap = "unknown-word"     // HAProxy shows an error for the word
	TrapGluedReason    Trap = "glued-reason"     // a '#' inside a word makes the word unknown
	TrapBadNumber      Trap = "bad-number"       // HAProxy rejects the number of a weight or maxconn
	TrapOverridden     Trap = "overridden"       // HAProxy applies only the last word for a setting
	TrapOpenSetting    Trap = "open-setting"     // the answer does not name a setting, so HAProxy keeps its old value
	TrapForeignSetting Trap = "foreign-setting"  // the answer changes a setting that the agent does not own
	TrapNeedsVersion   Trap = "needs-version"    // older versions of HAProxy show an error
	TrapStaticBalance  Trap = "static-balance"   // the balance algorithm ignores the weight
	TrapTruncated      Trap = "weight-truncated" // the percentage of a small initial weight is rounded down
	TrapCapped         Trap = "weight-capped"    // HAProxy lowers the weight to 256
	TrapUnlimited      Trap = "unlimited"        // maxconn 0 lifts the limit
	TrapWrapped        Trap = "maxconn-wrapped"  // a negative or huge maxconn becomes another number
	TrapPersistence    Trap = "persistence"      // clients that a cookie binds to the server stay or leave
	TrapHiddenReason   Trap = "hidden-reason"    // HAProxy does not show the reason
	TrapCutReason      Trap = "cut-reason"       // HAProxy shows only the beginning of the reason
)

// Finding is one Trap in one answer.
type Finding struct {
	Trap Trap
	Word string // the wrong word; "" if the finding is about the whole answer
	Text string // the reaction of HAProxy, and a better answer
}

// String returns the finding on one line.
func (f Finding) String() string {
	if f.Word == "" {
		return fmt.Sprintf("%s: %s", f.Trap, f.Text)
	}
	return fmt.Sprintf("%s: %.64q: %s", f.Trap, f.Word, f.Text)
}

// Settings is a set of the settings that a Reply can name: a bitwise OR of the constants below.
type Settings uint8

const (
	SettingState Settings = 1 << iota
	SettingAdmin
	SettingWeight
	SettingMaxConn
)

// Setup describes the HAProxy that reads an answer, and the server that the answer is about. A zero
// field means "not known". Lint finds more traps if more fields are set.
type Setup struct {
	// Owns are the settings that the agent controls: Lint reports an answer that does not name
	// exactly these settings. If Owns is 0, an answer must name the State, the Admin and the
	// Weight, and may name the MaxConn.
	Owns Settings

	// Balance is the argument of HAProxy's balance, such as "leastconn" or "hdr(x-user)".
	Balance string
	// HashType is the argument of HAProxy's hash-type. "" means HAProxy's default, map-based.
	HashType string

	// InitialWeight is the server's weight in HAProxy's configuration, such as Absolute(100). A
	// server without a configured weight has Absolute(1).
	InitialWeight Weight

	// Version is the version of HAProxy, such as "2.6.12".
	Version string

	// Persistence reports whether cookies or a stick table bind clients to servers.
	Persistence bool
}

// Lint returns the traps in an answer. text has exactly the bytes that the agent sends. nil means
// that Lint found no trap.
func Lint(text []byte, s Setup) []Finding {
	var l linter
	line, err := firstLine(text, true)
	switch {
	case errors.Is(err, ErrTooLong):
		l.add(TrapTooLong, "", "HAProxy reads at most tune.bufsize (16384 bytes) and ignores a longer answer; HAProxy 2.6 writes beyond its buffer and may crash")
		return l.findings
	case err != nil:
		l.add(TrapNoLineEnd, "", `HAProxy ignores an answer without a line end or with a NUL before it, or completes it with old bytes of its buffer: end the answer with \n`)
		line, _, _ = bytes.Cut(text, []byte{0})
	default:
		if rest := bytes.Trim(text[len(line):], "\r\n"); len(rest) > 0 {
			l.add(TrapSecondLine, "", "HAProxy stops at the first line end, even if the line is empty: write everything on one line")
		}
	}
	if len(line)+1 >= MaxLine && (s.Version == "" || !olderThan(s.Version, 3, 1)) {
		l.add(TrapTooLong, "", "newer versions of HAProxy ignore an answer that fills tune.bufsize (16384 bytes) to the last byte")
	}
	a := readAnswer(line)
	r := a.reply
	l.words(line, a, s)
	l.weight(string(a.weight.text), r.Weight, s)
	l.maxConn(a.maxConn.text, r.MaxConn)
	l.settings(r, s)
	l.persistence(a, s)
	l.reason(r, len(a.errs) > 0)
	return l.findings
}

type linter struct{ findings []Finding }

func (l *linter) add(t Trap, word, format string, args ...any) {
	l.findings = append(l.findings, Finding{t, word, fmt.Sprintf(format, args...)})
}

// The method "words" adds a Finding for each word that has no effect or the wrong effect: an
// unknown word, a wrong number, or a word that loses because a later word names the same setting.
func (l *linter) words(line []byte, a answer, s Setup) {
	var last [SettingMaxConn + 1]word
	for words := (scanner{line: line}); words.next(); {
		w := words.word
		setting, _ := classify(w.text)
		if setting == 0 {
			l.unknown(string(w.text))
			continue
		}
		if _, ok := cutPrefixFold(w.text, weightPrefix); ok && olderThan(s.Version, 3, 1) {
			l.add(TrapNeedsVersion, string(w.text), "before version 3.1 HAProxy accepts a weight only as a percentage, and shows an error")
		}
		if before := last[setting].text; before != nil {
			l.add(TrapOverridden, string(before), "%q comes later and names the same setting: the last word counts, even if it is wrong", w.text)
		}
		last[setting] = w
	}
	if a.weightErr != nil {
		l.badNumber(string(a.weight.text), a.weightErr)
	}
	if a.maxConnErr != nil {
		l.badNumber(string(a.maxConn.text), a.maxConnErr)
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
		l.add(TrapUnknownWord, w, "write no space between the number and the percent sign")
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
	l.add(TrapBadNumber, w, "%v: HAProxy keeps the setting that was in force and shows a warning", err)
}

func (l *linter) glued(w string) {
	before, _, _ := strings.Cut(w, "#")
	l.add(TrapGluedReason, w, "only a '#' at the start of a word begins a reason; here HAProxy ignores %q too: put a space before the '#'", before)
}

func (l *linter) weight(word string, w Weight, s Setup) {
	if w.IsZero() {
		return
	}
	initial, known := s.InitialWeight.Absolute()
	absolute, isAbsolute := w.Absolute()
	percent, isPercent := w.Percent()
	if isStatic(s.Balance, s.HashType) {
		ignored := (isPercent && percent != 0 && percent != 100) || (isAbsolute && absolute != 0)
		if known {
			n := w.Effective(initial, initial)
			ignored = n != 0 && n != initial
		}
		if ignored {
			l.add(TrapStaticBalance, word, "balance %s is static and accepts only 0%% and 100%%; roundrobin, leastconn, random, and hash-type consistent accept every weight", s.Balance)
		}
	}
	if !isPercent {
		return
	}
	switch exact, got := initial*percent, 100*w.Effective(initial, initial); {
	case known && initial == 0 && percent > 0:
		l.add(TrapTruncated, word, "any percentage of the initial weight 0 is 0")
	case known && exact > 100*MaxWeight, !known && percent > MaxWeight:
		l.add(TrapCapped, word, "the largest weight is %d, which is %d%% of an initial weight of 100", MaxWeight, MaxWeight)
	case known && 10*(exact-got) >= exact && exact > 0:
		l.add(TrapTruncated, word, "%d%% of the initial weight %d is truncated to %d: give servers weight 100", percent, initial, got/100)
	}
}

func (l *linter) maxConn(word []byte, m MaxConn) {
	n, set := m.Connections()
	if !set {
		return
	}
	number, _ := cutPrefixFold(word, maxConnPrefix)
	if asked, _, _ := cutInteger(number); asked != int64(n) {
		effect := fmt.Sprintf("a limit of %d", n)
		if n == 0 {
			effect = "no limit"
		}
		l.add(TrapWrapped, string(word), "HAProxy keeps the low 32 bits of the number, which gives %s", effect)
	} else if n == 0 {
		l.add(TrapUnlimited, string(word), "0 lifts the limit: to keep clients away, answer drain, maint or 0%%")
	}
}

// The method "settings" compares the settings in the answer with those that the agent owns (see
// Setup.Owns). It adds a Finding for each setting that the agent owns but the answer does not name,
// and for each setting that the answer names but the agent does not own.
func (l *linter) settings(r Reply, s Setup) {
	owns := cmp.Or(s.Owns, SettingState|SettingAdmin|SettingWeight)
	for _, c := range []struct {
		setting       Settings
		named         bool
		open, foreign string
	}{
		{
			SettingState, r.State != KeepState,
			"no health: after down, fail or stopped only \"up\" brings the server back",
			"down, fail and stopped stay until this agent answers up",
		},
		{
			SettingAdmin, r.Admin != KeepAdmin,
			"no administrative state: only \"ready\" ends drain or maint",
			"ready ends an operator's drain or maintenance at the next check, drain and maint replace it",
		},
		{
			SettingWeight, !r.Weight.IsZero(),
			"no weight: the last weight stays in force, also 0%",
			"the weight replaces an operator's at the next check",
		},
		{
			SettingMaxConn, !r.MaxConn.IsZero(),
			"no maxconn: the last limit stays in force",
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

func (l *linter) persistence(a answer, s Setup) {
	r := a.reply
	if !s.Persistence || r.State.IsDown() {
		return
	}
	weightless := !r.Weight.IsZero() && r.Weight.Effective(100, 100) == 0
	switch {
	case r.Admin == Maint:
		l.add(TrapPersistence, r.Admin.String(), "clients bound to the server move to other servers at once; drain would let them stay")
	case r.Admin == Drain:
		l.add(TrapPersistence, r.Admin.String(), "clients bound to the server stay; maint would move them to other servers")
	case weightless:
		l.add(TrapPersistence, string(a.weight.text), "clients bound to the server stay; maint would move them to other servers")
	}
}

// HAProxy shows an answer as "via agent : <state> (<reason>)". It keeps only the first shownReason
// bytes of this text.
const shownReason = 127

func (l *linter) reason(r Reply, wordErr bool) {
	switch {
	case r.Reason == "":
	case r.State == KeepState:
		l.add(TrapHiddenReason, "", "HAProxy shows a reason only together with up, down, fail or stopped")
	case r.State == Up && wordErr:
		l.add(TrapHiddenReason, "", "for up, HAProxy shows its error about another word instead of the reason")
	case len("via agent : ")+len(r.State.String())+len(" (")+len(r.Reason) > shownReason:
		l.add(TrapCutReason, "", "HAProxy shows about the first 100 bytes of a reason")
	}
}

// isStatic reports whether a balance algorithm ignores changes of weights at run time. The list of
// these algorithms comes from HAProxy's configuration manual, "balance" and "hash-type".
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

// olderThan reports whether the HAProxy version in the argument "version" is older than
// major.minor. For a text that is not a version, it returns true.
func olderThan(version string, major, minor int) bool {
	var a, b int
	if _, err := fmt.Sscanf(version, "%d.%d", &a, &b); err != nil {
		return true
	}
	return a < major || (a == major && b < minor)
}
