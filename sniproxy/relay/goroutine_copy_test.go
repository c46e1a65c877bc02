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

func (b *bounded) SetReadDeadline(t time.Time) error  { b.read = t; return nil }
func (b *bounded) SetWriteDeadline(t time.Time) error { b.written = t; return nil }

// A backend makes a client wait for a minute, answers, and reads no more. There is still time for
// its answer.
func TestTimeForAnAnswerAfterASilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := (&Engine{Portable: true}).start()
		require.NoError(t, err)
		client, backend := &bounded{}, &bounded{}
		gc, _ := newGoroutineConn(&s.goroutines, client)
		defer gc.cancel()
		gc.markMoved()
		time.Sleep(time.Minute)
		d := direction{conn: gc, from: client, to: backend, src: ByClient, dst: ByBackend}
		d.writeFailed(io.ErrClosedPipe)
		require.Equal(t, time.Now().Add(lingerTimeout), backend.read)
		require.Equal(t, time.Now().Add(lingerTimeout), client.written)
	})
}
