package relay

import (
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// bounded is a connection that records its deadlines.
type bounded struct {
	net.Conn
	read, written time.Time
}

func (b *bounded) SetDeadline(t time.Time) error { b.read, b.written = t, t; return nil }

// A backend makes a client wait for a minute, then answers, and reads no more. The client still has
// enough time to receive the answer.
func TestTimeForAnAnswerAfterASilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := (&Engine{Portable: true}).start()
		require.NoError(t, err)
		client, backend := &bounded{}, &bounded{}
		gc, _ := newGoroutineConn(&s.goroutines, client)
		gc.backend = backend
		gc.markMoved()
		time.Sleep(time.Minute)
		out := direction{conn: gc, from: client, to: backend, src: ByClient, dst: ByBackend, ended: make(chan struct{})}
		back := direction{conn: gc, from: backend, to: client, src: ByBackend, dst: ByClient, ended: make(chan struct{})}
		out.other, back.other = &back, &out
		out.writeFailed(io.ErrClosedPipe)
		require.Equal(t, time.Now().Add(defaultHalfClose), backend.read)
		require.Equal(t, time.Now().Add(defaultHalfClose), client.written)
		gc.cancel()
		gc.settling.Wait()
	})
}
