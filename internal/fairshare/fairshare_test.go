package fairshare_test

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/internal/fairshare"
)

type conn struct {
	entry fairshare.Entry[*conn]
	from  string
	idle  time.Duration
}

func (c *conn) ShareEntry() *fairshare.Entry[*conn] { return &c.entry }
func (c *conn) Idle() time.Duration                 { return c.idle }

// table is a Table with methods that use the text of an address.
type table struct {
	fairshare.Table[*conn]
	t *testing.T
}

func key(from string) fairshare.Key { return fairshare.KeyOf(netip.MustParseAddr(from)) }

// wait adds a waiting connection, and requires that no other connection makes room for it.
func (t *table) wait(from string) *conn {
	t.t.Helper()
	c, victim := t.push(from)
	require.Nil(t.t, victim)
	return c
}

// push adds a waiting connection, and returns it and the connection that made room for it.
func (t *table) push(from string) (c, victim *conn) {
	t.t.Helper()
	c = &conn{from: from}
	victim, err := t.Add(c, key(from), false)
	require.NoError(t.t, err)
	if victim != nil {
		require.True(t.t, t.Evicted(victim))
	}
	return c, victim
}

func (t *table) refuse(from string) {
	t.t.Helper()
	victim, err := t.Add(&conn{from: from}, key(from), false)
	require.ErrorIs(t.t, err, fairshare.ErrFull)
	require.Nil(t.t, victim)
}

// serve adds n serving connections.
func (t *table) serve(n int, from string) (list []*conn) {
	t.t.Helper()
	for range n {
		c := t.wait(from)
		_, err := t.Serve(c)
		require.NoError(t.t, err)
		list = append(list, c)
	}
	return list
}

func (t *table) waitAll(n int, from string) (list []*conn) {
	t.t.Helper()
	for range n {
		list = append(list, t.wait(from))
	}
	return list
}

func newTable(t *testing.T, maxConns int) *table {
	tab := &table{t: t}
	tab.Max = maxConns
	return tab
}

const (
	flooder = "192.0.2.1"
	office  = "192.0.2.2"
	honest  = "192.0.2.3"
)

// For each new connection, the source with the most connections loses its oldest waiting
// connection. The few connections of the other sources stay.
func TestSilentFloodMakesRoom(t *testing.T) {
	tab := newTable(t, 100)
	slow := tab.wait(honest)
	silent := tab.waitAll(99, flooder)
	for i := range 50 {
		_, victim := tab.push("198.51.100." + string(rune('1'+i%9)))
		require.Same(t, silent[i], victim)
	}
	// The flooder returns. While many of its connections are not closed yet, the Table refuses it.
	tab.refuse(flooder)
	for _, c := range silent[:50] {
		tab.Remove(c)
	}
	_, victim := tab.push(flooder)
	require.Same(t, silent[50], victim)
	require.False(t, tab.Evicted(slow))
	_, err := tab.Serve(slow)
	require.NoError(t, err)
}

// If no connection waits, the source that has more than its share loses the connection that has
// been idle for longest. This source itself cannot open further connections.
func TestIdleFloodMakesRoom(t *testing.T) {
	tab := newTable(t, 100)
	held := tab.serve(100, flooder)
	held[7].idle = time.Hour
	tab.refuse(flooder)
	c, victim := tab.push(honest)
	require.Same(t, held[7], victim)
	tab.refuse(flooder)
	// Slow honest clients do not make room for each other.
	for range 5 {
		_, victim = tab.push(honest)
		require.Equal(t, flooder, victim.from)
	}
	require.False(t, tab.Evicted(c))
	// Each source gets its share.
	for range 60 {
		c := &conn{from: honest}
		if victim, err := tab.Add(c, key(honest), false); err == nil {
			tab.Serve(c)
			if victim != nil {
				tab.Remove(victim)
			}
		}
	}
	var count int
	for _, c := range tab.All() {
		if c.from == flooder {
			count++
		}
	}
	require.InDelta(t, 50, count, 7)
}

// The Table closes connections of a few silent peers, and not connections of an office with many
// users. It closes connections of an idle flood, and not the connection of one slow user.
func TestWaitingConnectionsCountMore(t *testing.T) {
	t.Run("silent peers of several sources", func(t *testing.T) {
		tab := newTable(t, 100)
		tab.serve(60, office)
		for _, from := range []string{"198.51.100.1", "198.51.100.2", "198.51.100.3", "198.51.100.4"} {
			tab.waitAll(10, from)
		}
		for range 8 {
			_, victim := tab.push(honest)
			require.NotEqual(t, office, victim.from)
		}
	})
	t.Run("slow users beside an idle flood", func(t *testing.T) {
		tab := newTable(t, 100)
		tab.serve(97, flooder)
		tab.waitAll(2, office)
		tab.wait(honest)
		for range 3 {
			_, victim := tab.push(honest)
			require.Equal(t, flooder, victim.from)
		}
	})
	t.Run("a source below its share gets in beside a larger one", func(t *testing.T) {
		tab := newTable(t, 90)
		tab.serve(11, office)
		tab.serve(79, flooder)
		_, victim := tab.push(office)
		require.Equal(t, flooder, victim.from)
	})
}

// If all sources have equally many connections, the oldest waiting connection makes room. If no
// connection waits, the Table refuses the new connection.
func TestEqualSources(t *testing.T) {
	tab := newTable(t, 3)
	var conns []*conn
	for _, from := range []string{"192.0.2.11", "192.0.2.12", "192.0.2.13"} {
		conns = append(conns, tab.wait(from))
	}
	tab.Serve(conns[0])
	_, victim := tab.push("192.0.2.14")
	require.Same(t, conns[1], victim)
	tab.Remove(victim)
	for _, c := range tab.All() {
		tab.Serve(c)
	}
	tab.refuse("192.0.2.15")
	tab.Remove(conns[2])
	tab.wait("192.0.2.15")
}

// MaxWaiting limits only the waiting connections. After Grow, one connection counts as several.
func TestMaxWaiting(t *testing.T) {
	tab := &table{t: t}
	tab.MaxWaiting = 10
	tab.serve(50, office)
	slow := tab.wait(office)
	silent := tab.waitAll(9, flooder)
	_, victim := tab.push(honest)
	require.Same(t, silent[0], victim)
	require.Same(t, silent[1], tab.Grow(silent[5], 2))
	require.Same(t, silent[2], tab.Grow(silent[5], 3))
	require.Nil(t, tab.Grow(silent[5], 3))
	require.Nil(t, tab.Grow(silent[2], 9), "an evicted connection does not grow")
	require.False(t, tab.Evicted(slow))

	alone := &table{t: t}
	alone.MaxWaiting = 1
	c := alone.wait(honest)
	require.Same(t, c, alone.Grow(c, 2))
	_, err := alone.Serve(c)
	require.ErrorIs(t, err, fairshare.ErrEvicted)
}

// MaxWaiting also limits the waiting connections while the Table is full. Silent connections from
// new sources do not end the serving connections of another source.
func TestMaxWaitingWhileFull(t *testing.T) {
	for name, tab := range map[string]*table{
		"Max":      {Table: fairshare.Table[*conn]{Max: 20, MaxWaiting: 2}},
		"MaxFiles": {Table: fairshare.Table[*conn]{MaxFiles: 38, MaxWaiting: 2}},
	} {
		t.Run(name, func(t *testing.T) {
			tab.t = t
			tab.serve(18, office)
			silent := []*conn{tab.wait("2001:db8:0:1::1"), tab.wait("2001:db8:0:2::1")}
			tab.refuse(office)
			for i, from := range []string{"2001:db8:0:3::1", "2001:db8:0:4::1", "2001:db8:0:5::1"} {
				c, victim := tab.push(from)
				require.Same(t, silent[i], victim)
				silent = append(silent, c)
			}
		})
	}
}

// A connection that AddServing adds counts as serving from the start. So while its source has few
// connections, it is not closed to make room for a connection of another source.
func TestAddServing(t *testing.T) {
	tab := newTable(t, 10)
	tab.MaxWaiting = 1
	tab.serve(9, flooder)
	c := &conn{from: honest}
	victim, err := tab.AddServing(c, key(honest), false)
	require.NoError(t, err)
	require.Nil(t, victim)
	all, waits := tab.Counts()
	require.Equal(t, 10, all)
	require.Zero(t, waits)
	victim, err = tab.AddServing(&conn{from: office}, key(office), false)
	require.NoError(t, err)
	require.Equal(t, flooder, victim.from)
	_, err = tab.AddServing(&conn{from: flooder}, key(flooder), false)
	require.ErrorIs(t, err, fairshare.ErrFull)
	tab.Wait(c)
	_, waits = tab.Counts()
	require.Equal(t, 1, waits)
}

// A serving connection needs two descriptors.
func TestMaxFiles(t *testing.T) {
	tab := &table{t: t}
	tab.MaxFiles = 10
	silent := tab.waitAll(8, flooder)
	c := tab.wait(honest)
	_, err := tab.Serve(c)
	require.NoError(t, err)
	_, victim := tab.push(honest)
	require.Same(t, silent[0], victim)
	victim, err = tab.Serve(silent[1])
	require.NoError(t, err)
	require.Same(t, silent[2], victim, "the source makes room for its own connection")

	alone := &table{t: t}
	alone.MaxFiles = 3
	alone.serve(1, honest)
	_, err = alone.Serve(alone.wait(honest))
	require.ErrorIs(t, err, fairshare.ErrFull)
	alone.SetMaxFiles(6)
	_, err = alone.Serve(alone.wait(honest))
	require.NoError(t, err)
}

func TestMaxPerSource(t *testing.T) {
	tab := &table{t: t}
	tab.MaxPerSource = 2
	c := tab.wait("2001:db8:0:1::1")
	tab.wait("2001:db8:0:1:ffff::9")
	_, err := tab.Add(&conn{}, key("2001:db8:0:1::7"), false)
	require.ErrorIs(t, err, fairshare.ErrSourceFull)
	_, err = tab.Add(&conn{}, key("2001:db8:0:1::7"), true)
	require.NoError(t, err, "an exempt connection has no limit")
	other := tab.wait("2001:db8:0:2::1")
	require.ErrorIs(t, tab.Move(other, key("2001:db8:0:1::7"), false), fairshare.ErrSourceFull)
	tab.Remove(other)
	tab.Remove(c)
	tab.wait("2001:db8:0:1::7")
}

// Exempt connections make room only if no other connection can.
func TestExempt(t *testing.T) {
	tab := newTable(t, 20)
	var behind []*conn
	for range 12 {
		c := &conn{}
		_, err := tab.Add(c, key(office), true)
		require.NoError(t, err)
		behind = append(behind, c)
	}
	tab.serve(8, flooder)
	victim, err := tab.Add(&conn{}, key(office), true)
	require.NoError(t, err)
	require.Same(t, behind[0], victim, "the source with 8 connections has less than its share, 10")
	_, victim = tab.push(honest)
	require.Equal(t, flooder, victim.from, "the share of three sources is 6")

	// A PROXY header names the source.
	require.NoError(t, tab.Move(behind[1], key(flooder), false))
	_, victim = tab.push(honest)
	require.Same(t, behind[1], victim)
	require.NoError(t, tab.Move(behind[0], key(flooder), false), "an evicted connection does not move")
	tab.Remove(behind[0])
	tab.Remove(behind[0])
	require.False(t, tab.Evicted(behind[0]))
}

// After descriptors have run out, the source that has the most silent connections loses them first.
func TestShed(t *testing.T) {
	tab := &table{t: t}
	slow := tab.wait(honest)
	tab.waitAll(79, flooder)
	for range 5 {
		victims := tab.Shed()
		require.NotEmpty(t, victims)
		for _, c := range victims {
			require.Equal(t, flooder, c.from)
			tab.Remove(c)
		}
	}
	require.False(t, tab.Evicted(slow))

	idle := &table{t: t}
	idle.serve(10, flooder)
	idle.serve(1, honest)
	require.Equal(t, flooder, idle.Shed()[0].from)
	require.Empty(t, (&table{t: t}).Shed())
}

// Without a free descriptor, the Table makes room for a new connection as if it were full.
func TestMakeRoom(t *testing.T) {
	tab := &table{t: t}
	tab.MaxPerSource = 20
	slow := tab.wait(honest)
	silent := tab.waitAll(20, flooder)
	victim, err := tab.MakeRoom(key(honest), false)
	require.NoError(t, err)
	require.Same(t, silent[0], victim)
	require.True(t, tab.Evicted(victim))
	tab.Remove(victim)
	victim, err = tab.MakeRoom(key(flooder), false)
	require.NoError(t, err)
	require.Same(t, silent[1], victim)
	tab.Remove(victim)
	tab.waitAll(2, flooder)
	_, err = tab.MakeRoom(key(flooder), false)
	require.ErrorIs(t, err, fairshare.ErrSourceFull)
	require.False(t, tab.Evicted(slow))

	equal := &table{t: t}
	equal.serve(2, flooder)
	equal.serve(2, honest)
	victim, err = equal.MakeRoom(key(honest), false)
	require.ErrorIs(t, err, fairshare.ErrFull)
	require.Nil(t, victim)
}

func TestWaitAgain(t *testing.T) {
	tab := newTable(t, 2)
	c := tab.serve(2, honest)
	tab.Wait(c[1])
	_, waits := tab.Counts()
	require.Equal(t, 1, waits)
	_, victim := tab.push(honest)
	require.Same(t, c[1], victim)
	tab.Wait(c[1])
	all, waits := tab.Counts()
	require.Equal(t, 3, all, "an evicted connection counts until its end")
	require.Equal(t, 1, waits)
}

func TestKeyOf(t *testing.T) {
	require.Equal(t, key("192.0.2.1"), key("::ffff:192.0.2.1"))
	require.NotEqual(t, key("192.0.2.1"), key("192.0.2.2"))
	require.Equal(t, key("2001:db8::1"), key("2001:db8::ffff:0:0:1"))
	require.Equal(t, key("fe80::1%eth0"), key("fe80::2"))
	require.NotEqual(t, key("2001:db8::1"), key("2001:db8:0:1::1"))
	require.Zero(t, fairshare.KeyOf(netip.Addr{}))
}

// Random calls keep the Table within its limits. A source without connections always gets a
// connection while another source has more than its share.
func TestRandomCalls(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	tab := &table{t: t}
	tab.Max, tab.MaxFiles, tab.MaxWaiting, tab.MaxPerSource = 60, 90, 30, 40
	open, evicted := map[*conn]bool{}, map[*conn]bool{} // open: whether it serves
	evict := func(c *conn) {
		if c != nil {
			require.Contains(t, open, c)
			delete(open, c)
			evicted[c] = true
		}
	}
	pick := func(m map[*conn]bool) *conn {
		for c := range m {
			return c
		}
		return nil
	}
	for range 10_000 {
		from := netip.AddrFrom4([4]byte{192, 0, 2, byte(1 / (r.Float64() + 0.02))})
		c, n := pick(open), r.IntN(20)
		switch {
		case n < 8 || c == nil:
			held := map[fairshare.Key]int{}
			for c := range open {
				held[key(c.from)]++
			}
			most := 0
			for _, n := range held {
				most = max(most, n)
			}
			c := &conn{from: from.String(), idle: time.Duration(r.IntN(100))}
			victim, err := tab.Add(c, fairshare.KeyOf(from), false)
			if err == nil {
				evict(victim)
				open[c] = false
			} else if held[fairshare.KeyOf(from)] == 0 {
				require.LessOrEqual(t, most, max(len(open)/(len(held)+1), 1)+1)
			}
		case n < 13 && !open[c]:
			victim, err := tab.Serve(c)
			require.NotErrorIs(t, err, fairshare.ErrEvicted)
			evict(victim)
			open[c] = true
		case n == 13:
			tab.Wait(c)
			open[c] = false
		case n == 14:
			evict(tab.Grow(c, uint8(r.IntN(4))))
		case n == 15:
			if err := tab.Move(c, fairshare.KeyOf(from), false); err != nil {
				tab.Remove(c)
				delete(open, c)
			} else {
				c.from = from.String()
			}
		case n == 16 && r.IntN(10) == 0:
			for _, c := range tab.Shed() {
				evict(c)
			}
		case n == 17 && len(evicted) > 0:
			c := pick(evicted)
			require.True(t, tab.Evicted(c))
			tab.Remove(c)
			delete(evicted, c)
		default:
			tab.Remove(c)
			delete(open, c)
		}
		all, waits := tab.Counts()
		require.Equal(t, len(open)+len(evicted), all)
		require.Len(t, tab.All(), all)
		serving := 0
		for _, s := range open {
			if s {
				serving++
			}
		}
		require.Equal(t, len(open)-serving, waits)
		require.LessOrEqual(t, len(open), 60)
	}
	for c := range open {
		tab.Remove(c)
	}
	for c := range evicted {
		tab.Remove(c)
	}
	require.Empty(t, tab.All())
}

// BenchmarkConnection adds a connection, serves it and removes it, while other sources hold
// connections.
func BenchmarkConnection(b *testing.B) {
	for name, sources := range map[string]int{"sources=10": 10, "sources=10000": 10_000} {
		b.Run(name, func(b *testing.B) {
			var tab fairshare.Table[*conn]
			for i := range sources {
				_, _ = tab.Add(new(conn), fairshare.Key(i), false)
			}
			c := new(conn)
			b.ReportAllocs()
			for b.Loop() {
				_, _ = tab.Add(c, 1<<40, false)
				_, _ = tab.Serve(c)
				tab.Remove(c)
			}
		})
	}
}
