package hellos

import (
	"bytes"
	"crypto/tls"
	"slices"
	"testing"

	"github.com/headgate/headgate/internal/hellotest"
	"github.com/headgate/headgate/sniproxy/peek"
	"github.com/stretchr/testify/require"
)

const host = "go.hello.example"

func capture(t *testing.T) []byte {
	t.Helper()
	hello, err := hellotest.Capture(&tls.Config{ServerName: host})
	require.NoError(t, err)
	return hello
}

// TestCut checks for each way that the pieces are the whole hello, in segments and records of the
// right sizes.
func TestCut(t *testing.T) {
	hello := capture(t)
	want, _, err := hellotest.Message(hello)
	require.NoError(t, err)
	names := make(map[string]bool)
	for _, way := range Ways {
		t.Run(way.Name, func(t *testing.T) {
			require.False(t, names[way.Name])
			names[way.Name] = true
			before := slices.Clone(hello)
			pieces, err := way.Cut(hello, host)
			require.NoError(t, err)
			require.Equal(t, before, hello)
			wire := bytes.Join(pieces, nil)
			msg, rest, err := hellotest.Message(wire)
			require.NoError(t, err)
			require.Empty(t, rest)
			require.Equal(t, want, msg)
			if way.Record == 0 {
				require.Equal(t, hello, wire)
			}
			var p peek.Parser
			seen, err := p.Parse(wire)
			require.NoError(t, err)
			require.Equal(t, host, seen.Name)

			checkSize(t, way.Segment, pieces)
			var bodies [][]byte
			for rest := wire; len(rest) > 0; {
				n := 5 + int(rest[3])<<8 + int(rest[4])
				bodies = append(bodies, rest[5:n])
				rest = rest[n:]
			}
			checkSize(t, way.Record, bodies)
		})
	}
}

// checkSize checks that the parts of a hello have this size. Only the last part may be smaller.
func checkSize(t *testing.T, size Size, parts [][]byte) {
	t.Helper()
	switch size {
	case 0:
		require.Len(t, parts, 1)
	case InName:
		require.Len(t, parts, 2)
		require.True(t, bytes.HasSuffix(parts[0], []byte(host[:len(host)/2])))
		require.True(t, bytes.HasPrefix(parts[1], []byte(host[len(host)/2:])))
	default:
		for _, p := range parts[:len(parts)-1] {
			require.Len(t, p, int(size))
		}
		require.LessOrEqual(t, len(parts[len(parts)-1]), int(size))
		require.Greater(t, len(parts), 1)
	}
}

func TestCutOfWhatIsNoHello(t *testing.T) {
	for _, way := range Ways {
		_, err := way.Cut(capture(t)[:100], host)
		if way.Record != 0 || way.Segment == InName {
			require.Error(t, err, way.Name)
		}
		_, err = way.Cut(capture(t), "other.example")
		if way.Record == InName || way.Segment == InName {
			require.ErrorContains(t, err, "does not contain other.example", way.Name)
		}
	}
}

func TestStamp(t *testing.T) {
	hello := capture(t)
	before := slices.Clone(hello)
	a, err := Stamp(hello, 1)
	require.NoError(t, err)
	b, err := Stamp(hello, 1<<63)
	require.NoError(t, err)
	require.Equal(t, before, hello)
	require.NotEqual(t, a, b)
	seen, err := peek.ParseClientHello(a)
	require.NoError(t, err)
	require.Equal(t, host, seen.ServerName)
	// Only the field "random" differs.
	require.Equal(t, before[:11], b[:11])
	require.Equal(t, before[11+32:], b[11+32:])

	small, err := hellotest.Rerecord(hello, 4)
	require.NoError(t, err)
	for _, in := range [][]byte{small, hello[:20], nil} {
		_, err := Stamp(in, 1)
		require.ErrorContains(t, err, "too short")
	}
}
