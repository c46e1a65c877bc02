package sniproxy

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/internal/hellotest"
	"github.com/headgate/headgate/sniproxy/ech"
	"github.com/headgate/headgate/sniproxy/hostlookup"
	"github.com/headgate/headgate/sniproxy/peek"
	"github.com/headgate/headgate/sniproxy/relay"
)

// scriptConn is the connection to a backend that sends fixed bytes, in pieces.
type scriptConn struct {
	net.Conn
	answer []byte
	pieces []byte // the sizes of the pieces, without 1; then 200 bytes
	got    bytes.Buffer
	closed bool
}

// pieceOf returns the size of the next piece of n bytes, and the sizes of the later pieces.
func pieceOf(n int, pieces []byte) (int, []byte) {
	size := 200
	if len(pieces) > 0 {
		size, pieces = int(pieces[0])+1, pieces[1:]
	}
	return min(size, n), pieces
}

func (c *scriptConn) Read(b []byte) (n int, err error) {
	if c.closed {
		return 0, net.ErrClosed
	}
	if len(c.answer) == 0 {
		return 0, io.EOF
	}
	n, c.pieces = pieceOf(min(len(c.answer), len(b)), c.pieces)
	copy(b, c.answer[:n])
	c.answer = c.answer[n:]
	return n, nil
}

func (c *scriptConn) Write(b []byte) (int, error) {
	if c.closed {
		return 0, net.ErrClosed
	}
	return c.got.Write(b)
}

func (c *scriptConn) Close() error { c.closed = true; return nil }

// echClient makes the hellos of one client: the first message, and the second one.
type echClient struct {
	keys          *ech.Keys
	first, second []byte
	inner         []byte // the message of the second inner hello
}

func newECHClient(t testing.TB) echClient {
	t.Helper()
	key, err := ech.Generate("public.example", 7, 0)
	require.NoError(t, err)
	c := key.Config
	s, err := hellotest.NewSealer(c.Bytes(), c.PublicKey, c.ID, c.KEM, c.Suites[0].KDF, c.Suites[0].AEAD)
	require.NoError(t, err)
	hello := hellotest.Hello{Name: "secret.example", Versions: []uint16{tls.VersionTLS13}, Extensions: []hellotest.Extension{hellotest.Inner()}}
	outer := hellotest.Hello{Name: "public.example"}
	client := echClient{keys: ech.NewKeys(key)}
	client.first, err = s.Seal(outer, hello.Encoded())
	require.NoError(t, err)
	s.Enc = nil
	hello.KeyShares = []uint16{24}
	client.second, err = s.Seal(outer, hello.Encoded())
	require.NoError(t, err)
	client.inner = hello.Message()
	return client
}

// echRun is what an echConn has done.
type echRun struct {
	toBackend, toClient []byte
	failure             *ech.Error
	released            bool // the connection keeps no copy of the first inner hello
}

// run sends the bytes of the backend to the client, and then the bytes of the client to the backend,
// in pieces.
func (c echClient) run(t testing.TB, fromBackend, fromClient, pieces []byte) echRun {
	t.Helper()
	opened, err := c.keys.Open(c.first)
	require.NoError(t, err)
	backend := &scriptConn{answer: fromBackend, pieces: pieces}
	conn := &echConn{Conn: backend, state: &echState{opened: opened}, parser: peek.Parser{Accept: peek.TLS}}
	toClient, err := io.ReadAll(io.LimitReader(conn, int64(len(fromBackend))))
	require.NoError(t, err)
	for len(fromClient) > 0 {
		var n int
		n, pieces = pieceOf(len(fromClient), pieces)
		m, err := conn.Write(fromClient[:n])
		require.NoError(t, err)
		require.Equal(t, n, m)
		fromClient = fromClient[n:]
	}
	rest, err := io.ReadAll(conn)
	require.NoError(t, err)
	return echRun{slices.Clone(backend.got.Bytes()), append(toClient, rest...), conn.state.failure.Load(), conn.state.opened == nil}
}

// helloRetryRequest is the beginning of a HelloRetryRequest in a record.
func helloRetryRequest() []byte {
	return slices.Concat([]byte{22, 3, 3, 0, 50, 2, 0, 0, 46, 3, 3}, retryRandom[:], make([]byte, 12))
}

// The records that a client may send before its second hello pass unchanged, and so do all bytes after
// it.
func TestSecondHello(t *testing.T) {
	const (
		changeCipherSpec = "\x14\x03\x03\x00\x01\x01"
		earlyData        = "\x17\x03\x03\x00\x05early"
		alert            = "\x15\x03\x03\x00\x02\x02\x28"
	)
	c := newECHClient(t)
	second := string(hellotest.Records(c.second))
	inner := string(hellotest.Records(c.inner))
	serverHello := helloRetryRequest()
	serverHello[20] ^= 1
	for name, tt := range map[string]struct {
		answer      []byte
		sent, want  string
		failedAlert uint8
	}{
		"alone":                      {helloRetryRequest(), second, inner, 0},
		"change_cipher_spec":         {helloRetryRequest(), changeCipherSpec + second + earlyData, changeCipherSpec + inner + earlyData, 0},
		"early data":                 {helloRetryRequest(), earlyData + changeCipherSpec + second + "any", earlyData + changeCipherSpec + inner + "any", 0},
		"alert":                      {helloRetryRequest(), alert + second, alert + second, 0},
		"not TLS":                    {helloRetryRequest(), "GET / HTTP/1.1\r\n" + second, "GET / HTTP/1.1\r\n" + second, 0},
		"nothing":                    {helloRetryRequest(), "", "", 0},
		"a third hello":              {helloRetryRequest(), second + second, inner + second, 0},
		"another message":            {helloRetryRequest(), earlyData + string(hellotest.Records([]byte{2, 0, 0, 0})) + "any", earlyData, 50},
		"no encrypted hello":         {helloRetryRequest(), string(hellotest.Hello{Name: "a.example"}.Wire()) + "any", "", 109},
		"after a ServerHello":        {serverHello, second + "any", second + "any", 0},
		"before the backend answers": {nil, second + "any", second + "any", 0},
	} {
		t.Run(name, func(t *testing.T) {
			for _, pieces := range [][]byte{nil, make([]byte, 2000), {3, 0, 40, 5}} {
				run := c.run(t, tt.answer, []byte(tt.sent), pieces)
				require.Equal(t, tt.want, string(run.toBackend))
				if tt.failedAlert != 0 {
					require.Equal(t, tt.failedAlert, run.failure.Alert)
					require.Equal(t, string(tt.answer)+string(alertRecord(clientInfo{}, tt.failedAlert)), string(run.toClient))
					continue
				}
				require.Nil(t, run.failure)
				require.Equal(t, string(tt.answer), string(run.toClient))
				require.Equal(t, tt.sent != "", run.released)
			}
		})
	}
}

// FuzzSecondHello puts bytes before and after the second hello of a client. The result does not depend
// on the pieces in which the bytes arrive. sizes are the sizes of the records of the hello.
func FuzzSecondHello(f *testing.F) {
	c := newECHClient(f)
	f.Add(helloRetryRequest(), []byte("\x14\x03\x03\x00\x01\x01"), []byte("\x17\x03\x03\x00\x05after"), []byte{100}, []byte{3, 0, 7})
	f.Fuzz(func(t *testing.T, answer, before, after, sizes, pieces []byte) {
		var records []int
		for _, n := range sizes {
			records = append(records, int(n)+1)
		}
		sent := slices.Concat(before, hellotest.Records(c.second, records...), after)
		if len(sent) > 1<<16 {
			return
		}
		whole := c.run(t, answer, sent, nil)
		cut := c.run(t, answer, sent, pieces)
		require.Equal(t, whole.toBackend, cut.toBackend)
		require.Equal(t, whole.toClient, cut.toClient)
		require.Equal(t, whole.failure, cut.failure)
		if whole.failure == nil {
			require.Equal(t, string(answer), string(whole.toClient))
		}
		if len(before) == 0 && answerOf(answer) == helloRetry {
			require.Nil(t, whole.failure)
			require.Equal(t, string(hellotest.Records(c.inner))+string(after), string(whole.toBackend))
		}
		if answerOf(answer) == helloOther {
			require.Equal(t, sent, whole.toBackend)
		}
	})
}

// A write to a backend that is gone fails, and sends no alert.
func TestSecondHelloToClosedBackend(t *testing.T) {
	c := newECHClient(t)
	opened, err := c.keys.Open(c.first)
	require.NoError(t, err)
	backend := &scriptConn{answer: helloRetryRequest()}
	conn := &echConn{Conn: backend, state: &echState{opened: opened}, parser: peek.Parser{Accept: peek.TLS}}
	_, err = io.ReadFull(conn, make([]byte, 50))
	require.NoError(t, err)
	backend.closed = true
	_, err = conn.Write(hellotest.Records(c.second))
	require.ErrorIs(t, err, net.ErrClosed)
	require.Nil(t, conn.state.failure.Load())
	_, err = conn.Read(make([]byte, 50))
	require.True(t, errors.Is(err, net.ErrClosed))
}

// When the backend has answered, the session keeps no copy of the hello, and sends it to no other
// backend.
func TestECHStateIsReleased(t *testing.T) {
	for name, tt := range map[string]struct {
		answer []byte
		retry  bool
	}{"alert": {[]byte{21, 3, 3, 0, 2, 2, 40}, false}, "HelloRetryRequest": {helloRetryRequest(), true}} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			defer l.Close()
			served := make(chan error, 1)
			go func() {
				c, err := l.Accept()
				if err == nil {
					defer c.Close()
					_, err = c.Write(tt.answer)
				}
				served <- err
			}()
			client := newECHClient(t)
			addr := l.Addr().(*net.TCPAddr).AddrPort()
			srv := &Server{
				Lookup:         &askedFor{},
				ECHKeys:        func() *ech.Keys { return client.keys },
				NoName:         hostlookup.Endpoint{Addr: "10.0.0.1:1"},
				AllowEndpoints: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")},
			}
			require.NoError(t, srv.init())
			n := srv.accept(&listener{srv: srv, port: 443}, stillConn{}).(*session)
			step := n.Hello(hellotest.Records(client.first), nil)
			require.Equal(t, relay.Connect, step.Action)
			require.NotNil(t, step.Dial)
			n.upstream = addr
			n.rare.untried = []netip.AddrPort{addr}
			require.NotNil(t, n.rare.ech.records)

			n.mu.Lock()
			dial := n.dialECH(nil)
			n.mu.Unlock()
			c, err := dial(t.Context())
			require.NoError(t, err)
			defer c.Close()
			require.NoError(t, <-served)
			_, isRetry := c.(*echConn)
			require.Equal(t, tt.retry, isRetry)
			require.Nil(t, n.rare.ech.records)
			require.Equal(t, tt.retry, n.rare.ech.opened != nil)
			require.Equal(t, relay.Answer, n.DialFailed(errors.New("reset")).Action)
			n.Done(relay.Result{Phase: relay.PhaseDial})
		})
	}
}
