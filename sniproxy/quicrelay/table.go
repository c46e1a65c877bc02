package quicrelay

import (
	"net/netip"
	"slices"

	"github.com/headgate/headgate/sniproxy/peek/quic"
)

// minIDLen is the least length of the IDs that the table stores for a backend. A packet with a
// short header does not state the length of its ID. A shorter ID would often be equal to the first
// bytes of the ID of another connection, and packets of that connection would go to the wrong
// backend.
const minIDLen = 4

// maxIDs is the greatest number of IDs that a path remembers. A backend shows at most two: one in a
// Retry packet, and one in its other packets.
const maxIDs = 2

// peer is a client address, together with the socket and the address that the client sends to.
type peer struct {
	front *front
	addr  netip.AddrPort
	local netip.Addr // see bundle.to
}

// send sends datagrams to the client. See socket.send.
func (c peer) send(b []byte, size int) error {
	return c.front.socket.send(b, size, c.local, c.addr)
}

// initialKey identifies a connection before the client has seen an ID of the backend.
type initialKey struct {
	client peer
	id     string
}

// backendID is a connection ID that a backend has chosen.
type backendID struct {
	backend netip.AddrPort
	tag     any // of the first path that remembers the ID
	paths   int // how many paths remember the ID
}

// table finds the path of a datagram. The package comment states the rules.
type table struct {
	byClient  map[peer][]*path // the newest path is the last one
	byInitial map[initialKey]*path
	byID      map[string]*backendID
	lengths   [quic.MaxIDLen + 1]int // how many IDs in byID have each length
}

func newTable() table {
	return table{byClient: map[peer][]*path{}, byInitial: map[initialKey]*path{}, byID: map[string]*backendID{}}
}

// add adds a path. initial is the destination ID of its first packet, or "" for a path of a client
// that has moved.
func (t *table) add(p *path, initial string) {
	t.byClient[p.client] = append(t.byClient[p.client], p)
	if p.initial = initial; initial != "" {
		t.byInitial[initialKey{p.client, initial}] = p
	}
}

// learn stores a connection ID that the backend of the path has chosen. If another backend has
// chosen the same ID before, the ID stays with that other backend.
func (t *table) learn(p *path, id []byte) {
	if len(id) < minIDLen || len(id) > quic.MaxIDLen || len(p.ids) == maxIDs || slices.Contains(p.ids, string(id)) {
		return
	}
	known := t.byID[string(id)]
	if known == nil {
		known = &backendID{backend: p.backendAddr, tag: p.stats.Tag}
		t.byID[string(id)] = known
		t.lengths[len(id)]++
	}
	if known.backend == p.backendAddr {
		known.paths++
		p.ids = append(p.ids, string(id))
	}
}

func (t *table) remove(p *path) {
	rest := slices.DeleteFunc(t.byClient[p.client], func(q *path) bool { return p == q })
	if len(rest) == 0 {
		delete(t.byClient, p.client)
	} else {
		t.byClient[p.client] = rest
	}
	if key := (initialKey{p.client, p.initial}); t.byInitial[key] == p {
		delete(t.byInitial, key)
	}
	for _, id := range p.ids {
		known := t.byID[id]
		if known.paths--; known.paths == 0 {
			delete(t.byID, id)
			t.lengths[len(id)]--
		}
	}
	p.ids = nil
}

// found is the result of find.
type found struct {
	path *path // nil if the table has none
	// id is the destination ID of the datagram if a backend has chosen this ID, and otherwise nil.
	// If id is set and path is nil, the client has moved.
	id      []byte
	backend netip.AddrPort // the backend that has chosen id
	tag     any            // see backendID
}

// find finds the path of a datagram that begins with the header h.
func (t *table) find(client peer, h quic.Header, datagram []byte) found {
	paths := t.byClient[client]
	if h.Type != quic.Short {
		if p := t.byInitial[initialKey{client, string(h.DestID)}]; p != nil {
			return found{path: p}
		}
		if f := t.findID(paths, h.DestID); f.id != nil {
			return f
		}
	} else {
		for n := quic.MaxIDLen; n >= minIDLen; n-- {
			if t.lengths[n] > 0 && len(datagram) > n {
				if f := t.findID(paths, datagram[1:1+n]); f.id != nil {
					return f
				}
			}
		}
	}
	isLater := h.Type == quic.Handshake || h.Type == quic.Short ||
		h.Type == quic.Initial && len(h.DestID) < quic.MinClientIDLen // a backend has chosen the ID
	if len(paths) > 0 && isLater {
		return found{path: paths[len(paths)-1]}
	}
	return found{}
}

// findID finds the backend that has chosen an ID, and the path to this backend among the paths of the
// client.
func (t *table) findID(paths []*path, id []byte) found {
	known := t.byID[string(id)]
	if known == nil {
		return found{}
	}
	f := found{id: id, backend: known.backend, tag: known.tag}
	for _, p := range slices.Backward(paths) {
		switch {
		case p.backendAddr != known.backend:
		case slices.Contains(p.ids, string(id)):
			f.path = p
			return f
		case f.path == nil:
			f.path = p
		}
	}
	return f
}
