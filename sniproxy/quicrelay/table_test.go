package quicrelay

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/sniproxy/peek/quic"
)

func header(t testing.TB, datagram []byte) quic.Header {
	t.Helper()
	h, err := quic.ParseHeader(datagram)
	require.NoError(t, err)
	return h
}

func TestTable(t *testing.T) {
	f := &front{}
	one, two := peer{front: f, addr: client1}, peer{front: f, addr: client2}
	first := &path{client: one, backendAddr: backendA}
	second := &path{client: one, backendAddr: backendB}
	twin := &path{client: one, backendAddr: backendA}
	tab := newTable()
	tab.add(first, "initial1")
	tab.add(second, "initial2")
	tab.add(twin, "initial3")
	tab.learn(first, []byte("first-id"))
	tab.learn(second, []byte("2nd!"))
	tab.learn(twin, []byte("twin-id"))
	tab.learn(twin, []byte("2nd!")) // backendB has chosen it before

	long8 := []byte("first-id-is-a-prefix")
	for name, c := range map[string]struct {
		client   peer
		datagram []byte
		path     *path
		id       string
	}{
		"initial ID":                            {one, long(0xc0, []byte("initial1"), nil, 1200), first, ""},
		"initial ID in 0-RTT":                   {one, long(0xd0, []byte("initial2"), nil, 1200), second, ""},
		"initial ID of another client":          {two, long(0xc0, []byte("initial1"), nil, 1200), nil, ""},
		"ID, long header":                       {one, long(0xe0, []byte("first-id"), nil, 1200), first, "first-id"},
		"ID of two connections to one backend":  {one, short([]byte("twin-id"), 60), twin, "twin-id"},
		"ID of 4 bytes":                         {one, short([]byte("2nd!"), 60), second, "2nd!"},
		"ID, datagram as short as possible":     {one, short([]byte("2nd!"), 6), second, "2nd!"},
		"ID of a client that moved":             {two, short([]byte("2nd!"), 60), nil, "2nd!"},
		"ID is a prefix":                        {one, short(long8, 60), first, "first-id"},
		"ID is no prefix in a long header":      {two, long(0xe0, long8, nil, 60), nil, ""},
		"unknown ID":                            {one, short([]byte("unknown!"), 60), twin, ""},
		"unknown ID in Handshake":               {one, long(0xe0, []byte("unknown!"), nil, 60), twin, ""},
		"unknown ID in Initial":                 {one, long(0xc0, []byte("unknown!"), nil, 1200), nil, ""},
		"unknown ID of 7 bytes in Initial":      {one, long(0xc0, []byte("unknown"), nil, 1200), twin, ""},
		"unknown ID in 0-RTT":                   {one, long(0xd0, []byte("unknown!"), nil, 1200), nil, ""},
		"unknown ID of an unknown client":       {two, short([]byte("unknown!"), 60), nil, ""},
		"short header, 1 byte":                  {two, []byte{0x40}, nil, ""},
		"same address at another front":         {peer{front: &front{}, addr: client1}, long(0xc0, []byte("initial1"), nil, 1200), nil, ""},
		"same address at another front, has ID": {peer{front: &front{}, addr: client1}, short([]byte("2nd!"), 60), nil, "2nd!"},
	} {
		t.Run(name, func(t *testing.T) {
			got := tab.find(c.client, header(t, c.datagram), c.datagram)
			require.Same(t, c.path, got.path)
			require.Equal(t, c.id, string(got.id))
			if got.id != nil && got.path != nil {
				require.Equal(t, got.path.backendAddr, got.backend)
			}
		})
	}

	t.Run("remove", func(t *testing.T) {
		moved := &path{client: two, backendAddr: backendB}
		tab.add(moved, "")
		tab.learn(moved, []byte("2nd!"))
		tab.remove(second)
		d := short([]byte("2nd!"), 60)
		require.Same(t, moved, tab.find(two, header(t, d), d).path)
		require.Nil(t, tab.find(one, header(t, d), d).path, "the ID stays while a path has it")
		for _, p := range []*path{moved, first, twin, twin} {
			tab.remove(p)
		}
		require.Equal(t, newTable(), tab)
	})
}

func TestLearn(t *testing.T) {
	p := &path{client: peer{addr: client1}, backendAddr: backendA}
	tab := newTable()
	tab.add(p, "initial1")
	for _, id := range []string{"", "abc", "first", "first", "second", "third", "longer-than-20-bytes-"} {
		tab.learn(p, []byte(id))
	}
	require.Equal(t, []string{"first", "second"}, p.ids)
	require.Len(t, tab.byID, 2)
}

func BenchmarkFind(b *testing.B) {
	f := &front{}
	for _, n := range []int{1, 10_000} {
		tab := newTable()
		var clients []peer
		var datagrams [][]byte
		for i := range n {
			p := &path{client: peer{front: f, addr: clientOf(i/50_000, 1+i%50_000)}, backendAddr: backendA}
			id := fmt.Sprintf("%08d", i)
			tab.add(p, "initial1")
			tab.learn(p, []byte(id))
			clients, datagrams = append(clients, p.client), append(datagrams, short([]byte(id), 1200))
		}
		b.Run(fmt.Sprintf("paths=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				d := datagrams[i%n]
				h, _ := quic.ParseHeader(d)
				if tab.find(clients[i%n], h, d).path == nil {
					b.Fatal("not found")
				}
			}
		})
	}
}
