package peek

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/internal/hellotest"
)

// A hello of 60 KB in records of one byte arrives byte by byte. The parser does not read a complete
// record again.
func TestRecordsAreReadOnce(t *testing.T) {
	wire := hellotest.Hello{Name: "a.example", Pad: 10_000}.Wire(1)
	var p Parser
	for n := range wire {
		if _, err := p.Parse(wire[:n]); !isNeedMore(err) {
			t.Fatal(err)
		}
		if n >= 6 && n-p.hello.off > 6 {
			t.Fatal("records are read again")
		}
	}
	r, err := p.Parse(wire)
	require.NoError(t, err)
	require.Equal(t, "a.example", r.Name)
}

func TestLinesAreReadOnce(t *testing.T) {
	head := []byte("GET / HTTP/1.1\r\nHost: a.example\r\n")
	for len(head) < 60_000 {
		head = append(head, "X: y\r\n"...)
	}
	var p Parser
	for n := range head {
		_, err := p.Parse(head[:n])
		if !isNeedMore(err) {
			t.Fatal(err)
		}
		if n > 20 && (n-p.http1.line > len("Host: a.example\r\n") || p.http1.searched != n) {
			t.Fatal("lines are searched again")
		}
	}
	r, err := p.Parse(append(head, "\r\n"...))
	require.NoError(t, err)
	require.Equal(t, "a.example", r.Name)
}

func TestFramesAreReadOnce(t *testing.T) {
	b := []byte(preface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00")
	for len(b) < 60_000 {
		b = append(b, "\x00\x00\x01\x99\x00\x00\x00\x00\x00x"...)
	}
	var p Parser
	for n := range b {
		_, err := p.Parse(b[:n])
		if !isNeedMore(err) {
			t.Fatal(err)
		}
		if n > 40 && n-p.http2.off > 10 {
			t.Fatal("frames are read again")
		}
	}
}
