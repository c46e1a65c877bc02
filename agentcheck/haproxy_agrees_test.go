package agentcheck_test

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/agentcheck"
)

// model is the expected state of a server in HAProxy.
type model struct {
	initial int  // the configured weight
	static  bool // the balance algorithm is static

	down    bool
	admin   agentcheck.Admin
	weight  int
	maxConn uint32
}

func newModel(initial int) model {
	return model{initial: initial, weight: initial, admin: ready}
}

// apply returns the model after a Reply. HAProxy keeps each setting until a Reply names it again.
func (m model) apply(r agentcheck.Reply) model {
	if r.State != agentcheck.KeepState {
		m.down = r.State.IsDown()
	}
	if r.Admin != agentcheck.KeepAdmin {
		m.admin = r.Admin
	}
	if w := r.Weight.Effective(m.initial, m.weight); !m.static || w == 0 || w == m.initial {
		m.weight = w
	}
	if n, ok := r.MaxConn.Connections(); ok {
		m.maxConn = uint32(n)
	}
	return m
}

// requireSame compares the model with the state that HAProxy shows.
func (m model) requireSame(t *testing.T, got seen) {
	t.Helper()
	status := "UP"
	switch {
	case m.admin == maint:
		status = "MAINT"
	case m.down:
		status = "DOWN (agent)"
	case m.admin == drain:
		status = "DRAIN (agent)"
	}
	// "UP 1/3" means up with a health check to come.
	got.status = regexp.MustCompile(`^UP \d+/\d+$`).ReplaceAllString(got.status, "UP")
	require.Equal(t, seen{
		down:    m.down || m.admin == maint,
		drain:   m.admin == drain,
		maint:   m.admin == maint,
		weight:  m.weight,
		maxConn: m.maxConn,
		status:  status,
		agent:   got.agent, // see requireShown
		check:   got.check,
	}, got)
}

// numberErrors matches HAProxy's messages about a rejected weight or maxconn.
var numberErrors = regexp.MustCompile(`Trailing garbage in|string empty or preceded by garbage|Require <|Absolute weight can only|Relative weight must`)

// requireShown compares the text that HAProxy shows for an answer with the result of Parse. If
// Parse reports an invalid word, HAProxy must name the same word, and otherwise no word. HAProxy
// must show the same reason.
func requireShown(t *testing.T, line, shown string) {
	t.Helper()
	r, err := agentcheck.Parse([]byte(line))
	// HAProxy shows the reason if the answer takes the server down. Otherwise it shows the first
	// unknown word. Otherwise it shows an error about a number.
	complaint := ""
	number := false
	for _, w := range wordErrors(err) {
		if isNumber := strings.HasPrefix(strings.ToLower(w.Word), "maxconn:") || regexp.MustCompile(`^[0-9].*%`).MatchString(w.Word); isNumber {
			number = true
		} else if complaint == "" {
			complaint = w.Word
		}
	}
	const room = 127 // bytes that HAProxy keeps
	requireText := func(prefix, text, suffix string) {
		t.Helper()
		whole := prefix + text + suffix
		require.Equal(t, printable(whole[:min(room, len(whole))]), printable(shown))
	}
	switch {
	case r.State != agentcheck.KeepState && r.Reason != "" && (r.State.IsDown() || err == nil):
		require.Truef(t, strings.HasPrefix(strings.ToLower(shown), "via agent : "+r.State.String()+" ("), "%q", shown)
		require.Contains(t, printable(shown), printable(r.Reason[:min(len(r.Reason), 80)]))
	case r.State != agentcheck.KeepState && complaint != "":
		prefix := "via agent : " + r.State.String() + " ("
		require.Truef(t, strings.HasPrefix(strings.ToLower(shown), prefix), "%q", shown)
		requireText(shown[:len(prefix)], complaint, ")")
	case r.State != agentcheck.KeepState && number:
		require.Regexp(t, numberErrors, shown)
	case r.State != agentcheck.KeepState:
		require.Equal(t, "via agent : "+r.State.String(), strings.ToLower(shown))
	case complaint != "":
		requireText("agent reports an error : ", complaint, "")
	case number:
		require.Regexp(t, `^agent warns : `, shown)
		require.Regexp(t, numberErrors, shown)
	default:
		require.Empty(t, shown)
	}
}

// printable removes the characters that HAProxy may replace in a CSV table.
func printable(s string) string {
	return regexp.MustCompile(`[^!-~]+`).ReplaceAllString(s, "")
}

// TestHAProxyAgrees compares Parse with a running HAProxy. Each answer of the table and each
// generated answer goes to a server of its own. Then the state of each server must match the parsed
// Reply.
func TestHAProxyAgrees(t *testing.T) {
	type trial struct {
		line    string
		initial int
	}
	var trials []trial
	for _, a := range answers() {
		if isWhole(a.line) {
			trials = append(trials, trial{a.line, 100})
		}
	}
	require.GreaterOrEqual(t, len(trials), 100)
	for i, line := range generated(150, 1) {
		if isWhole(line) {
			trials = append(trials, trial{line, []int{100, 1, 256, 7}[i%4]})
		}
	}
	for _, initial := range []int{0, 1, 2, 99, 200, 256} {
		for _, p := range []int{0, 1, 49, 50, 51, 99, 100, 101, 128, 150, 256, 300, 25600} {
			trials = append(trials, trial{fmt.Sprintf("%d%%\n", p), initial})
		}
	}
	servers := make([]rigServer, len(trials))
	say := make(map[string][]byte)
	for i, x := range trials {
		servers[i] = rigServer{name: fmt.Sprintf("s%d", i), weight: x.initial}
		say[servers[i].name] = []byte(x.line)
	}
	r := newRig(t, patient, servers)
	version := r.version(t)
	r.answer(t, say)
	got := r.look(t)
	for i, x := range trials {
		t.Run(fmt.Sprintf("%.40q of %d", x.line, x.initial), func(t *testing.T) {
			reply, _ := agentcheck.Parse([]byte(x.line))
			s := got[servers[i].name]
			if hasTrap(x.line, version, agentcheck.TrapTooLong) {
				newModel(x.initial).requireSame(t, s)
				require.Equal(t, "Ignoring incomplete line from agent", s.agent)
				return
			}
			newModel(x.initial).apply(reply).requireSame(t, s)
			requireShown(t, x.line, s.agent)
		})
	}
}

// isWhole reports whether, according to Parse, HAProxy reads the answer. HAProxy ignores all other
// answers completely. Other tests check those answers, because HAProxy may wait until its time-out
// for the rest of such an answer.
func isWhole(line string) bool {
	_, err := agentcheck.Parse([]byte(line))
	return !errors.Is(err, agentcheck.ErrIncomplete) && !errors.Is(err, agentcheck.ErrTooLong)
}

// TestHAProxyIgnoresIncomplete serves empty answers and answers with a NUL before the line end.
// HAProxy must change no setting. The test leaves out other answers without a line end, because
// HAProxy 2.6 looks for the line end beyond the received bytes. It sometimes finds one among the
// bytes that another check has left in the buffer.
func TestHAProxyIgnoresIncomplete(t *testing.T) {
	var lines []string
	add := func(line string) {
		if !isWhole(line) && (line == "" || strings.Contains(line, "\x00")) {
			lines = append(lines, line)
		}
	}
	for _, a := range answers() {
		add(a.line)
	}
	for _, line := range generated(250, 3) {
		add(line)
	}
	require.Greater(t, len(lines), 20)
	require.True(t, ignores(t, lines), "HAProxy has crashed")
}

// TestHAProxyIgnoresTooLong serves answers whose words all come after MaxLine. HAProxy must change
// no setting. HAProxy 2.6 looks for the line end beyond its buffer, up to the next NUL, and
// overwrites the byte that it finds. After the buffer, HAProxy stores an address with which it
// checks its memory. In 4 of 125 processes, a byte of this address was equal to a line end, and the
// process crashed.
func TestHAProxyIgnoresTooLong(t *testing.T) {
	var lines []string
	for _, n := range []int{0, 1, 1000} {
		line := strings.Repeat(" ", agentcheck.MaxLine+n) + "up ready 100% maxconn:0\n"
		_, err := agentcheck.Parse([]byte(line))
		require.ErrorIs(t, err, agentcheck.ErrTooLong)
		lines = append(lines, line)
	}
	for range 10 {
		if ignores(t, lines) {
			return
		}
	}
	t.Fatal("each HAProxy has crashed")
}

// ignores serves the lines to a new HAProxy and checks that it applies none of them. It returns
// false if HAProxy crashes.
func ignores(t *testing.T, lines []string) bool {
	t.Helper()
	servers := make([]rigServer, len(lines))
	before, say := make(map[string][]byte), make(map[string][]byte)
	for i, line := range lines {
		servers[i] = rigServer{name: fmt.Sprintf("s%d", i), weight: 100}
		before[servers[i].name] = []byte("drain 50% maxconn:7\n")
		say[servers[i].name] = []byte(line)
	}
	r := newRig(t, "300ms", servers)
	want := newModel(100).apply(reply{Admin: drain, Weight: percent(50), MaxConn: limit(7)})
	r.insist(t, before, want)
	if !r.survives(t, say) {
		return false
	}
	got := r.look(t)
	ignored := 0
	for i, line := range lines {
		t.Run(fmt.Sprintf("%.40q", line), func(t *testing.T) {
			s := got[servers[i].name]
			want.requireSame(t, s)
			if s.agent == "Ignoring incomplete line from agent" {
				ignored++
			}
		})
	}
	require.Positive(t, ignored, "HAProxy should have read some answers")
	return true
}

// TestHAProxyAgreesByVersion serves words that only newer versions of HAProxy accept. An older
// version must ignore the words and show an error, and Lint must find TrapNeedsVersion.
func TestHAProxyAgreesByVersion(t *testing.T) {
	var servers []rigServer
	say := make(map[string][]byte)
	for i, a := range newerAnswers() {
		s := rigServer{name: fmt.Sprintf("s%d", i), weight: 100}
		servers = append(servers, s)
		say[s.name] = []byte(a.line)
	}
	r := newRig(t, patient, servers)
	version := r.version(t)
	r.answer(t, say)
	got := r.look(t)
	word := regexp.MustCompile(`(?i)weight:\S*`)
	for i, a := range newerAnswers() {
		t.Run(fmt.Sprintf("%q", a.line), func(t *testing.T) {
			s := got[servers[i].name]
			line := a.line
			if hasTrap(line, version, agentcheck.TrapNeedsVersion) {
				line = word.ReplaceAllString(line, "")
				require.Contains(t, s.agent, "agent reports an error : "+strings.TrimSpace(word.FindString(a.line))[:6])
			}
			reply, _ := agentcheck.Parse([]byte(line))
			newModel(100).apply(reply).requireSame(t, s)
		})
	}
}

func hasTrap(line, version string, trap agentcheck.Trap) bool {
	findings := agentcheck.Lint([]byte(line), agentcheck.Setup{Version: version})
	return slices.ContainsFunc(findings, func(f agentcheck.Finding) bool { return f.Trap == trap })
}

// HAProxy keeps the settings that an answer does not name.
func TestHAProxyIsSticky(t *testing.T) {
	sequences := map[string][]string{
		"down needs up":            {"down\n", "ready\n", "100%\n", "ready 50%\n", "\n", "up\n"},
		"drain needs ready":        {"drain\n", "up\n", "100%\n", "up 50%\n", "ready\n"},
		"maint needs ready":        {"maint\n", "up\n", "up 100%\n", "\n", "ready\n"},
		"maint then drain":         {"maint\n", "drain\n", "up 100%\n", "maint\n", "ready\n"},
		"down within maint":        {"maint\n", "down\n", "ready\n", "up\n"},
		"down before maint":        {"down\n", "maint\n", "ready\n", "up\n"},
		"up within maint":          {"down\n", "maint\n", "up\n", "ready\n"},
		"down within drain":        {"drain\n", "down\n", "ready\n", "drain\n", "up\n", "ready\n"},
		"words of down":            {"stopped\n", "fail\n", "down\n", "ready\n", "up\n"},
		"weight stays":             {"25%\n", "up\n", "ready\n", "\n", "25\n", "0%\n", "up ready\n", "100%\n"},
		"limit stays":              {"maxconn:9\n", "up\n", "\n", "maxconn:x\n", "maxconn:0\n"},
		"everything in one line":   {"down drain 0% maxconn:1\n", "up ready 100% maxconn:0\n", "fail maint 50%\n", "up ready 100%\n"},
		"an error changes nothing": {"down drain 50%\n", "bogus\n", "50%x\n", "up;ready\n", "\nup ready\n", "up ready\n"},
		"glued reason":             {"stopped#foo\n", "stopped #foo\n", "up#\n", "up #\n"},
	}
	for i, line := range generated(80, 2) { // 16 sequences of at most 5
		if name := fmt.Sprintf("generated %02d", i/5); isWhole(line) {
			sequences[name] = append(sequences[name], line)
		}
	}
	names := slices.Sorted(maps.Keys(sequences))
	servers := make([]rigServer, len(names))
	models := make([]model, len(names))
	steps := 0
	for i, name := range names {
		servers[i] = rigServer{name: fmt.Sprintf("s%d", i), weight: 100}
		models[i] = newModel(100)
		steps = max(steps, len(sequences[name]))
	}
	r := newRig(t, patient, servers)
	for step := range steps {
		say := make(map[string][]byte)
		for i, name := range names {
			if step < len(sequences[name]) {
				say[servers[i].name] = []byte(sequences[name][step])
			}
		}
		r.answer(t, say)
		got := r.look(t)
		for i, name := range names {
			if step >= len(sequences[name]) {
				continue
			}
			line := sequences[name][step]
			reply, _ := agentcheck.Parse([]byte(line))
			models[i] = models[i].apply(reply)
			t.Run(fmt.Sprintf("%s/%d %.30q", name, step, line), func(t *testing.T) {
				models[i].requireSame(t, got[servers[i].name])
			})
		}
	}
}

// For each balance algorithm, Lint must find TrapStaticBalance for exactly the weights that HAProxy
// ignores.
func TestHAProxyBalance(t *testing.T) {
	type algorithm struct{ balance, hashType string }
	var servers []rigServer
	var lines []string
	say := make(map[string][]byte)
	for _, a := range []algorithm{
		{"roundrobin", ""},
		{"leastconn", ""},
		{"first", ""},
		{"random", ""},
		{"random(3)", ""},
		{"static-rr", ""},
		{"source", ""},
		{"uri depth 2", ""},
		{"url_param user", ""},
		{"hdr(x-user)", ""},
		{"rdp-cookie(user)", ""},
		{"hash req.hdr(x-user)", ""},
		{"hash req.hdr(x-user)", "consistent"},
		{"source", "map-based"},
		{"source", "consistent"},
		{"uri", "consistent djb2"},
		{"hdr(x-user)", "map-based sdbm avalanche"},
	} {
		for _, initial := range []int{1, 100, 256} {
			for _, p := range []int{0, 50, 100, 150, 300} {
				s := rigServer{name: fmt.Sprintf("s%d", len(servers)), weight: initial, balance: a.balance, hashType: a.hashType}
				servers = append(servers, s)
				lines = append(lines, fmt.Sprintf("%d%%\n", p))
				say[s.name] = []byte(lines[len(lines)-1])
			}
		}
	}
	r := newRig(t, patient, servers)
	r.answer(t, say)
	got := r.look(t)
	for i, s := range servers {
		t.Run(fmt.Sprintf("%s %s/weight %d/%s", s.balance, s.hashType, s.weight, lines[i]), func(t *testing.T) {
			seen := got[s.name]
			findings := agentcheck.Lint([]byte(lines[i]), agentcheck.Setup{
				Balance: s.balance, HashType: s.hashType, InitialWeight: agentcheck.Absolute(s.weight),
			})
			warned := slices.ContainsFunc(findings, func(f agentcheck.Finding) bool { return f.Trap == agentcheck.TrapStaticBalance })
			require.Equal(t, strings.Contains(seen.agent, "static LB algorithm"), warned, "%q, %v", seen.agent, findings)
			reply, err := agentcheck.Parse([]byte(lines[i]))
			require.NoError(t, err)
			m := newModel(s.weight)
			m.static = warned
			m.apply(reply).requireSame(t, seen)
		})
	}
}
