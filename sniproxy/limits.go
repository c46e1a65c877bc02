package sniproxy

import (
	"errors"
	"net/netip"
	"time"

	"github.com/headgate/headgate/internal/fairshare"
)

// ShareEntry implements fairshare.Member. It returns the field in which the table Server.conns
// keeps its links for this session. The table limits the connections of each client.
func (s *session) ShareEntry() *fairshare.Entry[*session] { return &s.share }

// Idle implements fairshare.Member.
func (s *session) Idle() time.Duration { return s.conn.Idle() }

// helloUnit is the size in bytes up to which a hello counts as one connection for MaxPeeking. A
// larger hello counts as several connections. Nearly all hellos are smaller.
const helloUnit = 4 << 10

// isTrusted reports whether a client belongs to TrustedSources. A client without an IP address is
// trusted too, because it is on this machine.
func (s *Server) isTrusted(client netip.Addr) bool {
	for _, p := range s.TrustedSources {
		if p.Contains(client) {
			return true
		}
	}
	return !client.IsValid()
}

// isExempt reports whether a new connection counts for no source at first. This is so in two cases:
// the peer is trusted, or the connection may begin with a PROXY header. In the second case, the
// source is known only after the header.
func (s *Server) isExempt(peer netip.Addr, use proxyUse) bool {
	return use != proxyNone || s.isTrusted(peer)
}

// countForSource adds the connection to its source: the client that the PROXY header names, or else
// the peer. It runs when the whole header has arrived, or the first bytes show that there is none.
// The error is nil or ErrTooManyFromSource.
func (s *session) countForSource() error {
	client := s.clientAddr().Addr()
	return limitError(s.srv.conns.Move(s, fairshare.KeyOf(client), s.srv.isTrusted(client)))
}

// countHello runs when a client has sent a part of its hello: the ClientHello, or the request that
// names the host. length is the number of bytes so far. For MaxPeeking, the connection counts once
// for every helloUnit bytes, rounded up.
//
// If the silent connections then exceed MaxPeeking, one of them must end. If this is the connection
// of s itself, the error is ErrEvicted. Otherwise, countHello closes the connection, and the error
// is nil.
func (s *session) countHello(length int) error {
	units := (length + helloUnit - 1) / helloUnit
	if units <= 1 {
		return nil
	}
	victim := s.srv.conns.Grow(s, uint8(min(units, 255)))
	if victim == s {
		return ErrEvicted
	}
	victim.close()
	return nil
}

// close ends the connection of a session that was evicted. s may be nil.
func (s *session) close() {
	if s != nil {
		s.conn.Close()
	}
}

// makeRoom closes some connections after the process has run out of descriptors or memory. The
// method Shed of package fairshare chooses them: an eighth of the connections whose clients have
// not named a host yet, or at most one connection if all clients have named a host.
func (s *Server) makeRoom() {
	for _, victim := range s.conns.Shed() {
		victim.close()
	}
}

// makeRoomFor closes another connection to make room for a new connection, which has got the last
// descriptor of the process. In these cases, it returns false, and the Server must close the new
// connection instead:
//
//   - The peer must not connect without a PROXY header.
//   - The source of the new connection has the most connections, or already has MaxConnsPerSource.
//   - No other connection may be closed.
func (s *Server) makeRoomFor(client netip.AddrPort) bool {
	peer := client.Addr().Unmap()
	use, err := s.proxyUse(peer)
	if err != nil {
		return false
	}
	victim, err := s.conns.MakeRoom(fairshare.KeyOf(peer), s.isExempt(peer, use))
	victim.close()
	return err == nil
}

// limitError converts an error of package fairshare into the corresponding error of this package.
func limitError(err error) error {
	switch {
	case errors.Is(err, fairshare.ErrFull):
		return ErrTooManyConns
	case errors.Is(err, fairshare.ErrSourceFull):
		return ErrTooManyFromSource
	case errors.Is(err, fairshare.ErrEvicted):
		return ErrEvicted
	}
	return err
}

// The connections of a Server may not use all descriptors of the process. A Server keeps an eighth of
// them free, but at least minSpareFiles and at most maxSpareFiles. The rest of the process uses these
// descriptors for listeners, files, connections to a host API, and the pipes of the relay. Without a
// free descriptor, the relay works without a pipe.
const (
	minSpareFiles = 24
	maxSpareFiles = 512
)

// maxFiles returns how many descriptors the connections may use. The argument "limit" is how many
// descriptors the process may have. A limit of 0 and a result of 0 mean no bound.
func maxFiles(limit uint64) int {
	const unlimited = 1 << 30
	if limit == 0 || limit >= unlimited {
		return 0
	}
	n := int(limit)
	return max(n-min(max(n/8, minSpareFiles), maxSpareFiles), 2)
}
