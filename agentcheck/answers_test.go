package agentcheck_test

import (
	"errors"
	"math/rand/v2"
	"strings"

	"github.com/headgate/headgate/agentcheck"
)

// answer is one line of an agent with its expected meaning. The tests of Parse and the comparison
// with a real HAProxy use the same answers.
type answer struct {
	line  string
	want  agentcheck.Reply
	wrong []string // the words that HAProxy rejects
	err   error    // another expected error
}

type reply = agentcheck.Reply

var (
	percent  = agentcheck.Percent
	absolute = agentcheck.Absolute
	limit    = agentcheck.Connections
)

const (
	up, down, stopped, fail = agentcheck.Up, agentcheck.Down, agentcheck.Stopped, agentcheck.Fail
	ready, drain, maint     = agentcheck.Ready, agentcheck.Drain, agentcheck.Maint
)

func answers() []answer {
	return []answer{
		// Line ends.
		{line: "50%\n", want: reply{Weight: percent(50)}},
		{line: "50%\r\n", want: reply{Weight: percent(50)}},
		{line: "50%\r", want: reply{Weight: percent(50)}},
		{line: "50%\nup down 70%\n", want: reply{Weight: percent(50)}},
		{line: "50%\rmaint\n", want: reply{Weight: percent(50)}},
		{line: "50%\n\x00", want: reply{Weight: percent(50)}},
		{line: "\n", want: reply{}},
		{line: "\r\n", want: reply{}},
		{line: "\n50%\n", want: reply{}},
		{line: "\n50%", want: reply{}},
		{line: "", err: agentcheck.ErrIncomplete},
		{line: "50%", err: agentcheck.ErrIncomplete},
		{line: "up ready 50% # no end", err: agentcheck.ErrIncomplete},
		{line: "50%\x00\n", err: agentcheck.ErrIncomplete},
		{line: "\x0050%\n", err: agentcheck.ErrIncomplete},
		{line: "down\x00", err: agentcheck.ErrIncomplete},

		// Separators.
		{line: " 50%\n", want: reply{Weight: percent(50)}},
		{line: "\t50%\t\n", want: reply{Weight: percent(50)}},
		{line: ",,50%,,\n", want: reply{Weight: percent(50)}},
		{line: " \t, ,\n", want: reply{}},
		{line: "ready up 75%\n", want: reply{up, ready, percent(75), agentcheck.MaxConn{}, ""}},
		{line: "ready,up,75%\n", want: reply{up, ready, percent(75), agentcheck.MaxConn{}, ""}},
		{line: "ready\tup\t75%\n", want: reply{up, ready, percent(75), agentcheck.MaxConn{}, ""}},
		{line: "ready, up, 75%\n", want: reply{up, ready, percent(75), agentcheck.MaxConn{}, ""}},
		{line: "drain;down\n", wrong: []string{"drain;down"}},
		{line: "50;60%\n", wrong: []string{"50;60%"}},
		{line: "up;50%\n", wrong: []string{"up;50%"}},
		{line: "down;\n", wrong: []string{"down;"}},
		{line: "down\v\n", wrong: []string{"down\v"}},
		{line: "drain\fdown\n", wrong: []string{"drain\fdown"}},
		{line: "drain\u00a0down\n", wrong: []string{"drain\u00a0down"}},

		// Health.
		{line: "up\n", want: reply{State: up}},
		{line: "down\n", want: reply{State: down}},
		{line: "fail\n", want: reply{State: fail}},
		{line: "stopped\n", want: reply{State: stopped}},
		{line: "DOWN\n", want: reply{State: down}},
		{line: "Stopped\n", want: reply{State: stopped}},
		{line: "uP\n", want: reply{State: up}},
		{line: "up down\n", want: reply{State: down}},
		{line: "down up\n", want: reply{State: up}},
		{line: "down fail stopped\n", want: reply{State: stopped}},
		{line: "failed\n", wrong: []string{"failed"}},
		{line: "downn\n", wrong: []string{"downn"}},
		{line: "dow\n", wrong: []string{"dow"}},
		{line: "stop\n", wrong: []string{"stop"}},
		{line: "\"down\"\n", wrong: []string{`"down"`}},
		{line: "down.\n", wrong: []string{"down."}},
		{line: "\ufeffdown\n", wrong: []string{"\ufeffdown"}},

		// Administrative state.
		{line: "ready\n", want: reply{Admin: ready}},
		{line: "drain\n", want: reply{Admin: drain}},
		{line: "maint\n", want: reply{Admin: maint}},
		{line: "DRAIN\n", want: reply{Admin: drain}},
		{line: "Maint\n", want: reply{Admin: maint}},
		{line: "drain maint\n", want: reply{Admin: maint}},
		{line: "maint drain\n", want: reply{Admin: drain}},
		{line: "maint drain ready\n", want: reply{Admin: ready}},
		{line: "ready maint\n", want: reply{Admin: maint}},
		{line: "nolb\n", wrong: []string{"nolb"}},
		{line: "maintenance\n", wrong: []string{"maintenance"}},
		{line: "disable\n", wrong: []string{"disable"}},

		// Percentages.
		{line: "0%\n", want: reply{Weight: percent(0)}},
		{line: "1%\n", want: reply{Weight: percent(1)}},
		{line: "100%\n", want: reply{Weight: percent(100)}},
		{line: "050%\n", want: reply{Weight: percent(50)}},
		{line: "0000000000000000000000050%\n", want: reply{Weight: percent(50)}},
		{line: "150%\n", want: reply{Weight: percent(150)}},
		{line: "256%\n", want: reply{Weight: percent(256)}},
		{line: "257%\n", want: reply{Weight: percent(257)}},
		{line: "300%\n", want: reply{Weight: percent(300)}},
		{line: "25600%\n", want: reply{Weight: percent(25600)}},
		{line: "25601%\n", want: reply{Weight: percent(25600)}},
		{line: "4294967346%\n", want: reply{Weight: percent(25600)}},
		{line: "12345678901234567890%\n", want: reply{Weight: percent(25600)}},
		{line: "18446744073709551666%\n", want: reply{Weight: percent(25600)}},
		{line: "50% 60%\n", want: reply{Weight: percent(60)}},
		{line: "50.5%\n", wrong: []string{"50.5%"}},
		{line: "50%%\n", wrong: []string{"50%%"}},
		{line: "50%x\n", wrong: []string{"50%x"}},
		{line: "50x%\n", wrong: []string{"50x%"}},
		{line: "0x10%\n", wrong: []string{"0x10%"}},
		{line: "1e1%\n", wrong: []string{"1e1%"}},
		{line: "300x%\n", wrong: []string{"300x%"}},
		{line: "70% 50%x\n", wrong: []string{"50%x"}},
		{line: "50%x 70%\n", want: reply{Weight: percent(70)}},
		{line: "-50%\n", wrong: []string{"-50%"}},
		{line: "+50%\n", wrong: []string{"+50%"}},
		{line: "50\n", wrong: []string{"50"}},
		{line: "50 %\n", wrong: []string{"50", "%"}},
		{line: "%50\n", wrong: []string{"%50"}},
		{line: "%\n", wrong: []string{"%"}},
		{line: "\u0665\u0660%\n", wrong: []string{"\u0665\u0660%"}},

		// Limits of connections.
		{line: "maxconn:30\n", want: reply{MaxConn: limit(30)}},
		{line: "MAXCONN:30\n", want: reply{MaxConn: limit(30)}},
		{line: "maxconn:0\n", want: reply{MaxConn: limit(0)}},
		{line: "maxconn:+7\n", want: reply{MaxConn: limit(7)}},
		{line: "maxconn:007\n", want: reply{MaxConn: limit(7)}},
		{line: "maxconn:\v\f7\n", want: reply{MaxConn: limit(7)}},
		{line: "maxconn:-5\n", want: reply{MaxConn: limit(4294967291)}},
		{line: "maxconn:4294967295\n", want: reply{MaxConn: limit(4294967295)}},
		{line: "maxconn:4294967296\n", want: reply{MaxConn: limit(0)}},
		{line: "maxconn:4294967299\n", want: reply{MaxConn: limit(3)}},
		{line: "maxconn:99999999999999999999\n", want: reply{MaxConn: limit(4294967295)}},
		{line: "maxconn:-99999999999999999999\n", want: reply{MaxConn: limit(0)}},
		{line: "maxconn:9223372036854775807\n", want: reply{MaxConn: limit(4294967295)}},
		{line: "maxconn:9223372036854775808\n", want: reply{MaxConn: limit(4294967295)}},
		{line: "maxconn:-9223372036854775807\n", want: reply{MaxConn: limit(1)}},
		{line: "maxconn:10 maxconn:20\n", want: reply{MaxConn: limit(20)}},
		{line: "maxconn:10 maxconn:x\n", wrong: []string{"maxconn:x"}},
		{line: "maxconn:x maxconn:10\n", want: reply{MaxConn: limit(10)}},
		{line: "maxconn:\n", wrong: []string{"maxconn:"}},
		{line: "maxconn: 30\n", wrong: []string{"30", "maxconn:"}},
		{line: "maxconn:-\n", wrong: []string{"maxconn:-"}},
		{line: "maxconn:30x\n", wrong: []string{"maxconn:30x"}},
		{line: "maxconn:30%\n", wrong: []string{"maxconn:30%"}},
		{line: "maxconn:7\v\n", wrong: []string{"maxconn:7\v"}},
		{line: "maxconn=30\n", wrong: []string{"maxconn=30"}},
		{line: "maxconn\n", wrong: []string{"maxconn"}},

		// Reasons.
		{line: "down # disk full\n", want: reply{State: down, Reason: "disk full"}},
		{line: "down #x\n", want: reply{State: down, Reason: "x"}},
		{line: "down ##x\n", want: reply{State: down, Reason: "#x"}},
		{line: "down # \t x\n", want: reply{State: down, Reason: "x"}},
		{line: "down,#,x,y\n", want: reply{State: down, Reason: ",x,y"}},
		{line: "down #\n", want: reply{State: down}},
		{line: "down # \t \n", want: reply{State: down}},
		{line: "down # up ready 50%\n", want: reply{State: down, Reason: "up ready 50%"}},
		{line: "up # all good\n", want: reply{State: up, Reason: "all good"}},
		{line: "fail # 100% full; see \"docs\"\n", want: reply{State: fail, Reason: `100% full; see "docs"`}},
		{line: "fail # größer\n", want: reply{State: fail, Reason: "größer"}},
		{line: "fail # a\tb\x1b[31mc\x7f\n", want: reply{State: fail, Reason: "a b [31mc"}},
		{line: "fail # a\xffb\u2028c\u00a0d\n", want: reply{State: fail, Reason: "a b c d"}},
		{line: "# only\n", want: reply{Reason: "only"}},
		{line: "#\n", want: reply{}},
		{line: "#down\n", want: reply{Reason: "down"}},
		{line: "50% #down\n", want: reply{Weight: percent(50), Reason: "down"}},
		{line: "stopped#foo\n", wrong: []string{"stopped#foo"}},
		{line: "down#\n", wrong: []string{"down#"}},
		{line: "50%#half\n", wrong: []string{"50%#half"}},
		{line: "maxconn:5#few\n", wrong: []string{"maxconn:5#few"}},
		{line: "down # " + strings.Repeat("long ", 40) + "\n", want: reply{State: down, Reason: strings.TrimSpace(strings.Repeat("long ", 40))}},

		// Several settings at once.
		{line: "up ready 75% maxconn:30 # canary\n", want: reply{up, ready, percent(75), limit(30), "canary"}},
		{line: "75% maint down maxconn:30\n", want: reply{down, maint, percent(75), limit(30), ""}},
		{line: "maxconn:30,75%,drain,fail\n", want: reply{fail, drain, percent(75), limit(30), ""}},
		{line: "drain down\n", want: reply{State: down, Admin: drain}},
		{line: "drain 0%\n", want: reply{Admin: drain, Weight: percent(0)}},
		{line: "maint up\n", want: reply{State: up, Admin: maint}},
		{line: "UP READY 100% MAXCONN:0\n", want: reply{up, ready, percent(100), limit(0), ""}},

		// HAProxy applies the valid words next to invalid ones.
		{line: "bogus 50%\n", want: reply{Weight: percent(50)}, wrong: []string{"bogus"}},
		{line: "50% bogus\n", want: reply{Weight: percent(50)}, wrong: []string{"bogus"}},
		{line: "down bogus\n", want: reply{State: down}, wrong: []string{"bogus"}},
		{line: "down bogus # disk full\n", want: reply{State: down, Reason: "disk full"}, wrong: []string{"bogus"}},
		{line: "up bogus # fine\n", want: reply{State: up, Reason: "fine"}, wrong: []string{"bogus"}},
		{line: "drain 50%x maxconn:7\n", want: reply{Admin: drain, MaxConn: limit(7)}, wrong: []string{"50%x"}},
		{line: "up 5.5% maxconn:x # fine\n", want: reply{State: up, Reason: "fine"}, wrong: []string{"5.5%", "maxconn:x"}},
		{line: "one two 3 maint\n", want: reply{Admin: maint}, wrong: []string{"one", "two", "3"}},

		// Length.
		{line: long(agentcheck.MaxLine), want: reply{Weight: percent(50), Reason: strings.Repeat("x", agentcheck.MaxReason)}},
		{line: long(agentcheck.MaxLine + 1), err: agentcheck.ErrTooLong},
		{line: long(agentcheck.MaxLine + 900), err: agentcheck.ErrTooLong},
		{line: strings.Repeat("x", agentcheck.MaxLine-1) + "\n", wrong: []string{strings.Repeat("x", agentcheck.MaxLine-1)}},
	}
}

// newerAnswers returns answers with words that HAProxy accepts from version 3.1 on.
func newerAnswers() []answer {
	return []answer{
		{line: "weight:50\n", want: reply{Weight: absolute(50)}},
		{line: "weight:50%\n", want: reply{Weight: percent(50)}},
		{line: "WEIGHT:0\n", want: reply{Weight: absolute(0)}},
		{line: "weight:256\n", want: reply{Weight: absolute(256)}},
		{line: "weight:300%\n", want: reply{Weight: percent(300)}},
		{line: "weight:+50\n", want: reply{Weight: absolute(50)}},
		{line: "weight:\v50\n", want: reply{Weight: absolute(50)}},
		{line: "weight:-0%\n", want: reply{Weight: percent(0)}},
		{line: "weight:50 70%\n", want: reply{Weight: percent(70)}},
		{line: "70% weight:50\n", want: reply{Weight: absolute(50)}},
		{line: "70% weight:257\n", wrong: []string{"weight:257"}},
		{line: "weight:-1\n", wrong: []string{"weight:-1"}},
		{line: "weight:-5%\n", wrong: []string{"weight:-5%"}},
		{line: "weight:\n", wrong: []string{"weight:"}},
		{line: "weight:x\n", wrong: []string{"weight:x"}},
		{line: "weight:50x\n", wrong: []string{"weight:50x"}},
		{line: "weight=50\n", wrong: []string{"weight=50"}},
	}
}

// The function "long" returns "50% #xxx…\n" with a length of n bytes.
func long(n int) string {
	return "50% #" + strings.Repeat("x", n-6) + "\n"
}

// generated returns n random answers of words, misspelt words and separators. The same seed gives
// the same answers.
func generated(n int, seed uint64) []string {
	words := []string{
		"up", "down", "fail", "stopped", "ready", "drain", "maint", "UP", "Drain", "mAiNt",
		"0%", "1%", "33%", "50%", "99%", "100%", "101%", "256%", "999%", "07%",
		"maxconn:0", "maxconn:1", "maxconn:30", "maxconn:-1", "maxconn:x", "maxconn:", "maxconn:4294967297",
		"50", "%", "5%5", "-5%", "5.5%", "bogus", "up#x", "#x", "# why", "#", "##", "weight", "up;", "x%",
	}
	separators := []string{" ", " ", " ", "\t", ",", ", ", "  ", ";", "\v"}
	ends := []string{"\n", "\n", "\n", "\r\n", "\r", "\n\n", "\nmaint\n", "", " \n", "\x00\n"}
	random := rand.New(rand.NewPCG(seed, 0))
	pick := func(from []string) string { return from[random.IntN(len(from))] }
	lines := make([]string, n)
	for i := range lines {
		var b strings.Builder
		if random.IntN(8) == 0 {
			b.WriteString(pick(separators))
		}
		for k := random.IntN(6); k >= 0; k-- {
			b.WriteString(pick(words))
			if k > 0 {
				b.WriteString(pick(separators))
			}
		}
		b.WriteString(pick(ends))
		lines[i] = b.String()
	}
	return lines
}

// wordErrors returns the WordErrors in an error of Parse, in order.
func wordErrors(err error) []*agentcheck.WordError {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []*agentcheck.WordError
		for _, e := range joined.Unwrap() {
			all = append(all, wordErrors(e)...)
		}
		return all
	}
	var w *agentcheck.WordError
	if errors.As(err, &w) {
		return []*agentcheck.WordError{w}
	}
	return nil
}
