package hellotest_test

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/internal/hellotest"
	"github.com/headgate/headgate/internal/testcert"
)

func TestRecords(t *testing.T) {
	msg := hellotest.Hello{Name: "a.example", Pad: 40_000}.Message()
	require.GreaterOrEqual(t, len(msg), 40_000)
	for name, sizes := range map[string][]int{"whole": nil, "bytes": {1}, "first byte alone": {1, 16384}, "two": {20_000}} {
		t.Run(name, func(t *testing.T) {
			wire := hellotest.Records(msg, sizes...)
			got, rest, err := hellotest.Message(append(wire, "more"...))
			require.NoError(t, err)
			require.Equal(t, msg, got)
			require.Equal(t, "more", string(rest))
			_, _, err = hellotest.Message(wire[:len(wire)-1])
			require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		})
	}
}

// A handshake of crypto/tls succeeds for each way to cut the hello into records.
func TestCut(t *testing.T) {
	ca := testcert.New("test CA")
	cert := ca.Issue("a.example", "*.b.example")
	for name, cuts := range map[string]hellotest.Cuts{
		"as it is":       {},
		"small segments": {Segment: 7},
		"two records":    {Records: []int{100, 16384}},
		"bytes of both":  {Records: []int{1}, Segment: 3},
	} {
		t.Run(name, func(t *testing.T) {
			pipe, server := net.Pipe()
			defer pipe.Close()
			client := pipe
			writes := 0
			cuts.Before = func(i int) error { writes++; return nil }
			var raw bytes.Buffer
			served := make(chan error, 1)
			go func() {
				defer server.Close()
				c := tls.Server(tee{server, &raw}, &tls.Config{Certificates: []tls.Certificate{cert.TLS}})
				_, err := io.Copy(c, c)
				served <- err
			}()
			conn := tls.Client(hellotest.Cut(client, cuts), &tls.Config{ServerName: "x.b.example", RootCAs: ca.Pool()})
			_, err := io.WriteString(conn, "hello")
			require.NoError(t, err)
			got := make([]byte, 5)
			_, err = io.ReadFull(conn, got)
			require.NoError(t, err)
			require.Equal(t, "hello", string(got))
			go io.Copy(io.Discard, conn) //nolint:errcheck // takes the last alert
			require.NoError(t, conn.CloseWrite())
			require.NoError(t, <-served)

			msg, _, err := hellotest.Message(raw.Bytes())
			require.NoError(t, err)
			if cuts.Records != nil {
				first := int(raw.Bytes()[3])<<8 | int(raw.Bytes()[4])
				require.Equal(t, cuts.Records[0], first)
			}
			if cuts.Segment > 0 {
				require.Greater(t, writes, len(msg)/cuts.Segment)
			}
		})
	}
}

type tee struct {
	net.Conn
	w io.Writer
}

func (t tee) Read(b []byte) (int, error) {
	n, err := t.Conn.Read(b)
	t.w.Write(b[:n]) //nolint:errcheck // a buffer
	return n, err
}

func TestCapture(t *testing.T) {
	wire, err := hellotest.Capture(&tls.Config{ServerName: "captured.example", NextProtos: []string{strings.Repeat("p", 200)}})
	require.NoError(t, err)
	msg, rest, err := hellotest.Message(wire)
	require.NoError(t, err)
	require.Empty(t, rest)
	require.Contains(t, string(msg), "captured.example")
}

func TestReadRecords(t *testing.T) {
	hello := hellotest.Hello{Name: "a.example"}.Wire(20)
	in := strings.NewReader(string(hello) + "more")
	got, err := hellotest.ReadRecords(in, len(hello))
	require.NoError(t, err)
	require.Equal(t, hello, got)
	require.Equal(t, len("more"), in.Len())
	for name, in := range map[string]string{
		"one byte too large": string(hello) + "more",
		"truncated":          string(hello[:len(hello)-2]),
		"not a handshake":    "\x17\x03\x03\x00\x01x",
	} {
		_, err := hellotest.ReadRecords(strings.NewReader(in), len(hello)-1)
		require.Error(t, err, name)
	}
}
