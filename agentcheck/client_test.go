package agentcheck_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/agentcheck"
	"github.com/headgate/headgate/internal/freeport"
)

// peer starts a server that calls f for each connection, one call at a time. It returns the address
// of the server.
func peer(t *testing.T, f func(net.Conn)) (addr string) {
	t.Helper()
	l := listen(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			f(c)
			c.Close()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	return l.Addr().String()
}

// write returns a function for the argument f of peer. The function writes the text to the
// connection. If stay is true, it then waits until the client closes the connection.
func write(text string, stay bool) func(net.Conn) {
	return func(c net.Conn) {
		io.WriteString(c, text)
		if stay {
			io.Copy(io.Discard, c)
		}
	}
}

func TestClient(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		stay bool
		want agentcheck.Reply
		err  error
	}{
		"answer":                  {"up 50%\n", false, reply{State: up, Weight: percent(50)}, nil},
		"answer and more":         {"up 50%\ndown\n", true, reply{State: up, Weight: percent(50)}, nil},
		"does not wait for close": {"maint\r\n", true, reply{Admin: maint}, nil},
		"longest":                 {long(agentcheck.MaxLine), true, reply{Weight: percent(50), Reason: strings.Repeat("x", agentcheck.MaxReason)}, nil},
		"no line end":             {"up", false, reply{}, agentcheck.ErrIncomplete},
		"nothing":                 {"", false, reply{}, agentcheck.ErrIncomplete},
		"too long":                {strings.Repeat("x", 100_000), true, reply{}, agentcheck.ErrTooLong},
	} {
		t.Run(name, func(t *testing.T) {
			addr := peer(t, write(c.text, c.stay))
			got, err := (&agentcheck.Client{Timeout: patience}).Check(t.Context(), addr)
			require.Equal(t, c.want, got)
			require.ErrorIs(t, err, c.err)
		})
	}
	t.Run("part of it wrong", func(t *testing.T) {
		got, err := (&agentcheck.Client{Timeout: patience}).Check(t.Context(), peer(t, write("bogus 50%\n", false)))
		require.Equal(t, reply{Weight: percent(50)}, got)
		var word *agentcheck.WordError
		require.ErrorAs(t, err, &word)
		require.Equal(t, "bogus", word.Word)
	})
}

func TestClientSends(t *testing.T) {
	addr := start(t, &agentcheck.Server{ReadName: true, Handler: agentcheck.HandlerFunc(func(_ context.Context, q *agentcheck.Request) agentcheck.Reply {
		return reply{Reason: q.Name}
	})})
	for _, name := range []string{"media/tracks", "media/users"} {
		got, err := (&agentcheck.Client{Timeout: patience, Send: name + "\n"}).Check(t.Context(), addr)
		require.NoError(t, err)
		require.Equal(t, name, got.Reason)
	}
}

func TestClientGivesUp(t *testing.T) {
	silent := peer(t, write("up", true))
	t.Run("after its time", func(t *testing.T) {
		got, err := (&agentcheck.Client{Timeout: 20 * time.Millisecond}).Check(t.Context(), silent)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, reply{}, got)
		require.ErrorContains(t, err, silent)
	})
	t.Run("when told to", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		connected := peer(t, func(c net.Conn) {
			c.Read(make([]byte, 1)) // the client has connected by now
			cancel()
			io.Copy(io.Discard, c)
		})
		_, err := (&agentcheck.Client{Timeout: time.Hour, Send: "name\n"}).Check(ctx, connected)
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorContains(t, err, "agentcheck: asking "+connected)
	})
	t.Run("before it begins", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := new(agentcheck.Client).Check(ctx, silent)
		require.ErrorIs(t, err, context.Canceled)
	})
	t.Run("at a closed port", func(t *testing.T) {
		port, release, err := freeport.Hold("127.0.0.1", 0) // nobody listens
		require.NoError(t, err)
		defer release()
		_, err = (&agentcheck.Client{Timeout: patience}).Check(t.Context(), fmt.Sprintf("127.0.0.1:%d", port))
		var op *net.OpError
		require.True(t, errors.As(err, &op), "%v", err)
		require.True(t, strings.HasPrefix(err.Error(), "agentcheck: "))
	})
	t.Run("at a bad address", func(t *testing.T) {
		_, err := new(agentcheck.Client).Check(t.Context(), "127.0.0.1")
		require.Error(t, err)
	})
}
