package quicrelay

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the inputs in testdata/fuzz")

// FuzzDatagrams sends datagrams of two clients and of a backend to a Relay. Each datagram begins with
// a byte for its sender, and a byte for its length in units of 8 bytes. Until the clients send
// something after the hello, the client must get at most three times the bytes of the hello. After
// Close, the Relay must keep nothing.
func FuzzDatagrams(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		synctest.Test(t, func(t *testing.T) {
			b := start(t, &Relay{MaxPaths: 3, MaxPeeking: 2})
			b.front.put(client1, hello("a.example", "one")...)
			backend := b.sockets()[0]
			onlyHello := true
			for n := 0; len(data) > 2 && n < 20; n++ {
				var d []byte
				sender := data[0] % 3
				d, data = cut(data[2:], 8*int(data[1]))
				switch {
				case len(d) == 0:
				case sender < 2:
					onlyHello = false
					b.front.put([]netip.AddrPort{client1, client2}[sender], d)
				case !backend.isClosed():
					backend.put(netip.AddrPort{}, d)
				}
			}
			b.end()
			for _, s := range b.ends() {
				require.Contains(t, []netip.AddrPort{client1, client2}, s.Client)
				if onlyHello {
					require.LessOrEqual(t, s.ToClient, int64(3*1200))
				}
			}
		})
	})
}

// seeds are the inputs in testdata.
func seeds() map[string][]byte {
	input := func(parts ...any) (b []byte) {
		for i := 0; i < len(parts); i += 2 {
			d := parts[i+1].([]byte)
			d = append(d, make([]byte, -len(d)&7)...)
			b = append(append(b, byte(parts[i].(int)), byte(len(d)/8)), d...)
		}
		return b
	}
	answer, confirm := long(0xc0, []byte("c"), id("A"), 1200), short(id("A"), 64)
	return map[string][]byte{
		"amplification": input(2, answer, 2, answer, 2, answer, 2, answer),
		"confirmed":     input(2, answer, 0, confirm, 2, answer, 2, answer, 2, answer),
		"moved":         input(2, answer, 1, confirm, 1, confirm, 0, confirm),
		"two-hellos":    input(0, hello("b.example", "two")[0], 1, hello("a.example", "one")[0], 1, confirm),
		"half-hellos":   input(0, helloOf("b.example", "two", 1500)[0], 1, helloOf("b.example", "one", 1500)[1]),
		"empty-ids":     input(2, long(0xc0, nil, nil, 1200), 0, long(0xe0, nil, nil, 64), 0, short(nil, 64)),
		"retry":         input(2, append([]byte{0xf0, 0, 0, 0, 1, 1, 'c', 8}, id("R")...), 0, long(0xc0, id("R"), []byte("c"), 1200)),
		"new-version":   input(0, append([]byte{0xc0, 9, 9, 9, 9, 1, 'd', 1, 'c'}, make([]byte, 1191)...)),
		"not-quic":      input(0, []byte{0x80, 0xff}, 1, []byte{0x80}, 2, []byte{0xff, 0xff}),
	}
}

// The files in testdata/fuzz must contain the inputs of the function seeds. The flag -update writes
// these files.
func TestSeeds(t *testing.T) {
	for name, input := range seeds() {
		file := filepath.Join("testdata", "fuzz", "FuzzDatagrams", name)
		want := fmt.Sprintf("go test fuzz v1\n[]byte(%q)\n", input)
		if *update {
			require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
			require.NoError(t, os.WriteFile(file, []byte(want), 0o644))
		}
		got, err := os.ReadFile(file)
		require.NoError(t, err, "go test -run TestSeeds -update writes it")
		require.Equal(t, want, string(got), file)
	}
}
