package agentcheck_test

import (
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
)

// HAProxy keeps the last answer, or the settings of the operator, if an agent closes the
// connection, resets it, stays silent, or has closed its port.
func TestHAProxyKeepsTheLastAnswer(t *testing.T) {
	servers := []rigServer{
		{name: "ends", weight: 100},
		{name: "resets", weight: 100},
		{name: "is-silent", weight: 100},
		{name: "is-closed", weight: 100, options: fmt.Sprintf("agent-port %d", haproxytest.Ports(t, 1)[0])},
	}
	r := newRig(t, "300ms", servers)
	say := make(map[string][]byte)
	for _, s := range servers[:3] {
		say[s.name] = []byte("drain 50% maxconn:7\n")
	}
	want := newModel(100).apply(reply{Admin: drain, Weight: percent(50), MaxConn: limit(7)})
	r.insist(t, say, want)
	r.do(t, "set server b0/is-closed state drain", "set server b0/is-closed weight 50%", "set maxconn server b0/is-closed 7")

	r.mu.Lock()
	r.gone = map[string]func(net.Conn){
		"ends":      func(net.Conn) {},
		"resets":    func(c net.Conn) { c.(*net.TCPConn).SetLinger(0) },
		"is-silent": func(c net.Conn) { io.Copy(io.Discard, c) },
	}
	r.mu.Unlock()
	r.answer(t, say)
	var got map[string]seen
	for deadline := time.Now().Add(patience); ; {
		if got = r.look(t); got["is-closed"].check == "L4CON" {
			break
		}
		require.True(t, time.Now().Before(deadline), "%q is not a refused connection", got["is-closed"].check)
	}
	for _, s := range servers {
		t.Run(s.name, func(t *testing.T) {
			require.NotContains(t, got[s.name].check, "OK", "HAProxy should have noticed")
			want.requireSame(t, got[s.name])
		})
	}
}

// The answer "ready" overrides the administrative state of the configuration and of the operator.
// An answer without an administrative state does not.
func TestHAProxyReadyOverridesTheOperator(t *testing.T) {
	servers := []rigServer{
		{name: "disabled", weight: 100, options: "disabled"},
		{name: "maint", weight: 100},
		{name: "drain", weight: 100},
	}
	r := newRig(t, patient, servers)
	r.do(t, "set server b0/maint state maint", "set server b0/drain state drain")
	for _, line := range []string{"up 50%\n", "up ready 50%\n"} {
		say := make(map[string][]byte)
		for _, s := range servers {
			say[s.name] = []byte(line)
		}
		r.answer(t, say)
		got := r.look(t)
		for _, s := range servers {
			t.Run(fmt.Sprintf("%s/%.10q", s.name, line), func(t *testing.T) {
				stays := line == "up 50%\n"
				require.Equal(t, stays && s.name != "drain", got[s.name].maint)
				require.Equal(t, stays && s.name == "drain", got[s.name].drain)
				require.Equal(t, 50, got[s.name].weight)
			})
		}
	}
}
