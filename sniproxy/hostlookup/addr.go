package hostlookup

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// maxName is the longest host name in its textual form without the final dot
// (RFC 1035 section 2.3.4: 255 octets with length octets and root).
const maxName = 253

// Validate reports what is wrong with e.Addr. Whoever takes endpoints from
// outside should call it; the sources of this package have done so.
func (e Endpoint) Validate() error {
	_, err := parseAddr(e.Addr)
	return err
}

// DialAddr returns the address in the form that net.Dial takes: the port is that
// of Addr, or else port, which is the one that the client connected to.
func (e Endpoint) DialAddr(port uint16) (string, error) {
	a, err := parseAddr(e.Addr)
	if err != nil {
		return "", err
	}
	if a.port == 0 {
		a.port = port
	}
	if a.port == 0 {
		return "", fmt.Errorf("hostlookup: endpoint %q: no port", e.Addr)
	}
	host := a.name
	if a.ip.IsValid() {
		host = a.ip.String()
	}
	return net.JoinHostPort(host, strconv.Itoa(int(a.port))), nil
}

// addr is a parsed endpoint: an IP address or a name.
type addr struct {
	ip   netip.Addr
	name string
	port uint16 // 0: none given
}

func parseAddr(s string) (addr, error) {
	a, err := splitAddr(s)
	if err != nil {
		return addr{}, fmt.Errorf("hostlookup: endpoint %q: %w", clip(s), err)
	}
	return a, nil
}

func splitAddr(s string) (addr, error) {
	if s == "" {
		return addr{}, errors.New("empty")
	}
	if len(s) > maxName+len(":65535") {
		return addr{}, errors.New("too long")
	}
	// An IPv6 address may stand bare only when no port follows.
	if ip, err := netip.ParseAddr(s); err == nil {
		return ipAddr(ip, 0)
	}
	host, rest := s, ""
	if inner, ok := strings.CutPrefix(s, "["); ok {
		var closed bool
		if host, rest, closed = strings.Cut(inner, "]"); !closed {
			return addr{}, errors.New("missing ]")
		}
		if rest != "" && rest[0] != ':' {
			return addr{}, errors.New("text after ]")
		}
	} else if i := strings.IndexByte(s, ':'); i >= 0 {
		host, rest = s[:i], s[i:]
	}
	var port uint16
	if rest != "" {
		n, err := parsePort(rest[1:])
		if err != nil {
			return addr{}, err
		}
		port = n
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		if s[0] == '[' && !ip.Is6() {
			return addr{}, errors.New("brackets around what is not IPv6")
		}
		return ipAddr(ip, port)
	}
	if s[0] == '[' {
		return addr{}, errors.New("brackets around what is not IPv6")
	}
	if err := checkName(host); err != nil {
		return addr{}, err
	}
	return addr{name: host, port: port}, nil
}

func ipAddr(ip netip.Addr, port uint16) (addr, error) {
	switch {
	case ip.Zone() != "":
		return addr{}, errors.New("address with a zone")
	case ip.IsUnspecified():
		return addr{}, errors.New("unspecified address") // connects to this machine
	case ip.IsMulticast():
		return addr{}, errors.New("multicast address")
	}
	return addr{ip: ip, port: port}, nil
}

// parsePort wants digits only: strconv takes signs, and net.Dial service names.
func parsePort(s string) (uint16, error) {
	if s == "" || len(s) > 5 || strings.Trim(s, "0123456789") != "" {
		return 0, errors.New("port is not a number from 1 to 65535")
	}
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, errors.New("port is not a number from 1 to 65535")
	}
	return uint16(n), nil
}

// checkName takes host names as resolvers do: letters, digits, hyphens and (for
// names inside clusters) underscores. A numeric last label would be read as an
// odd form of IPv4 address by some resolvers (WHATWG URL, "ends in a number").
func checkName(s string) error {
	if s == "" {
		return errors.New("no host")
	}
	if len(s) > maxName {
		return errors.New("name longer than 253 bytes")
	}
	last := ""
	for label := range strings.SplitSeq(s, ".") {
		switch {
		case label == "":
			return errors.New("empty label")
		case len(label) > 63:
			return errors.New("label longer than 63 bytes")
		case label[0] == '-' || label[len(label)-1] == '-':
			return errors.New("label begins or ends with a hyphen")
		}
		for i := range len(label) {
			c := label[i]
			if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
				return fmt.Errorf("character %q in name", c)
			}
		}
		last = label
	}
	if strings.Trim(last, "0123456789") == "" {
		return errors.New("neither an IP address nor a name")
	}
	return nil
}

// clip bounds what an error repeats of untrusted input.
func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}
