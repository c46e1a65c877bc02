package peek_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/sniproxy/peek"
)

// TestAllocations limits the allocations for the first bytes of a connection. A name is one
// allocation. Capital letters in a name, and a hello in several records, need one more. HTTP/2 needs
// a decoder.
func TestAllocations(t *testing.T) {
	for _, c := range []struct {
		file  string
		limit float64
	}{
		{"curl-h2", 1},
		{"chromium", 1},
		{"openssl-default", 1},
		{"openssl-fragments", 2},
		{"go-20k", 2},
		{"curl-http1", 2}, // Host: Curl.Example:39835
		{"chromium-http", 1},
		{"curl-proxied", 1},
		{"curl-h2c", 14},
	} {
		t.Run(c.file, func(t *testing.T) {
			wire := captured(t, c.file)
			var err error
			allocs := testing.AllocsPerRun(100, func() {
				var p peek.Parser
				_, err = p.Parse(wire)
			})
			require.NoError(t, err)
			require.LessOrEqual(t, allocs, c.limit)
		})
	}
}
