package sniproxy

import (
	"errors"
	"net/netip"
	"time"

	"github.com/headgate/headgate/internal/fairshare"
)

// ShareEntry returns the links of the session in Server.conns. It implements fairshare.Member.
func (s *session) ShareEntry() *fairshare.Entry[*session] { return &s.share }

// Idle implements fairshare.Member.
func (s *session) Idle() time.Duration { return s.conn.Idle() }

// helloUnit is the size of a hello, in bytes, that counts as one connection for MaxPeeking. Nearly
// all hellos are smaller.
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

// countForSource makes the connection count for the client that the PROXY header names. Before the
// header, the connection counts for no source. The error is nil or ErrTooManyFromSource.
func (s *session) countForSource() error {
	client := s.clientAddr().Addr()
	return limitError(s.srv.conns.Move(s, fairshare.KeyOf(client), s.srv.isTrusted(client)))
}

// countHello makes a hello that is not complete count for MaxPeeking according to its length. The
// error is nil, or ErrEvicted if the session itself makes room.
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

// makeRoom closes connections after the process has run out of descriptors or memory.
func (s *Server) makeRoom() {
	for _, victim := range s.conns.Shed() {
		victim.close()
	}
}

// limitError returns the error of this package for an error of fairshare.
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

// Descriptors that the connections of a Server leave to the rest of the process: an eighth of the
// limit, within these bounds. The rest of the process has listeners, files, and connections to a
// host API. Pipes of the relay come out of these too, but a relay works without a pipe.
const (
	minSpareFiles = 24
	maxSpareFiles = 512
)

// maxFiles returns how many descriptors connections may use if the process may have limit
// descriptors. 0 means no bound.
func maxFiles(limit uint64) int {
	const unlimited = 1 << 30
	if limit == 0 || limit >= unlimited {
		return 0
	}
	n := int(limit)
	return max(n-min(max(n/8, minSpareFiles), maxSpareFiles), 2)
}
