package runtimeapi

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// sessions26 and sessions32 are answers of HAProxy 2.6.12 and 3.2.26, shortened. Each has two
// streams, and the stream of the command itself.
const (
	sessions26 = "0x55d315e922b0: proto=tcpv4 src=127.0.0.1:48004 fe=f be=<NONE> srv=<none> ts=00 epoch=0 age=1s\n" +
		"0x7fab300422b0: proto=tcpv4 src=127.0.0.1:48010 fe=f be=web srv=10.0.0.1:80 ts=00 epoch=0 age=1s\n" +
		"0x7fab30046f40: proto=sockpair src=unix:2 fe=GLOBAL be=<NONE> srv=<none> ts=00 epoch=0 age=0s\n\n"
	sessions32 = "0x7f4a77d12400: proto=tcpv4 src=127.0.0.1:47986 fe=http be=<NONE> srv=<none> ts=00 epoch=0 age=1s\n" +
		"0x7f4a77d12000: proto=sockpair src=unix:1 fe=GLOBAL be=<NONE> srv=<none> ts=00 epoch=0 age=0s\n" +
		"0x7f4a78022000: proto=tcpv4 src=127.0.0.1:47996 fe=https be=<NONE> srv=<none> ts=00 epoch=0 age=1s\n\n\n"
)

func TestCountStreams(t *testing.T) {
	for answer, want := range map[string]int{
		sessions26: 2, sessions32: 2, "": 0, "\n": 0, "Unknown command.\n": 0,
		"0x1: proto=tcpv4 src=a fe=<HTTPCLIENT> be=b\n": 0,
		"0x1: proto=tcpv4 src=a fe=MASTER be=b\n":       0,
		"0x1: proto=tcpv4 src=a\n":                      0,
		"0x1: proto=tcpv4 src=a fe=f":                   1,
	} {
		require.Equal(t, want, countStreams(answer), "%q", answer)
	}
}

func FuzzCountStreams(f *testing.F) {
	f.Fuzz(func(t *testing.T, answer string) {
		if n := countStreams(answer); n < 0 || n > strings.Count(answer, " fe=") {
			t.Fatal(n)
		}
	})
}

func TestExitNeedsAWorker(t *testing.T) {
	for _, worker := range []string{"", "@1", "@master", "@!12;quit"} {
		err := Socket{Path: "/nonexistent", Worker: worker}.Exit(t.Context())
		require.ErrorIs(t, err, ErrCommand, "%q", worker)
	}
}
