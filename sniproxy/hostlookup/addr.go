package hostlookup

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/headgate/headgate/internal/hostname"
)

// Validate returns an error if e.Addr is not a valid address of a server, that is, an IP address or
// a host name, with or without a port. The sources of this package and of httpapi return only valid
// endpoints. If another source returns an invalid endpoint, the Cache treats it as an error.
func (e Endpoint) Validate() error {
	_, err := parseAddr(e.Addr)
	return err
}

// DialAddr returns e.Addr in the form that net.Dial expects. If Addr has no port, DialAddr adds the
// argument "port", which is usually the port that the client connected to. If Addr is a name,
// DialAddr returns it in normal form, except that it keeps a final dot.
func (e Endpoint) DialAddr(port uint16) (string, error) {
	a, err := parseAddr(e.Addr)
	if err != nil {
		return "", err
	}
	if a.port != 0 {
		port = a.port
	}
	if port == 0 {
		return "", fmt.Errorf("hostlookup: endpoint %q: no port", e.Addr)
	}
	host := a.name
	if a.ip.IsValid() {
		host = a.ip.String()
	}
	return net.JoinHostPort(host, strconv.Itoa(int(port))), nil
}

// addr is a parsed endpoint: an IP address or a name.
type addr struct {
	ip   netip.Addr
	name string
	port uint16 // 0 means that there is none
}

func parseAddr(s string) (addr, error) {
	a, err := splitAddr(s)
	if err != nil {
		return addr{}, fmt.Errorf("hostlookup: endpoint %s: %w", quote(s), err)
	}
	return a, nil
}

// maxAddr is the length, in bytes, of the longest Addr of an Endpoint: a name with a final dot and
// a port. A character outside ASCII has up to 4 bytes, so a name has up to 4 times MaxName bytes.
const maxAddr = 4*hostname.MaxName + len(".:65535")

func splitAddr(s string) (addr, error) {
	if s == "" {
		return addr{}, errors.New("empty")
	}
	if len(s) > maxAddr {
		return addr{}, errors.New("too long")
	}
	// An IPv6 address needs no brackets if no port follows.
	if ip, err := netip.ParseAddr(s); err == nil {
		return ipAddr(ip, 0)
	}
	host, portText, bracketed := s, "", s[0] == '['
	if bracketed {
		var closed bool
		if host, portText, closed = strings.Cut(s[1:], "]"); !closed {
			return addr{}, errors.New("missing ]")
		}
		if portText != "" && portText[0] != ':' {
			return addr{}, errors.New("text after ]")
		}
	} else if i := strings.IndexByte(s, ':'); i >= 0 {
		host, portText = s[:i], s[i:]
	}
	var port uint16
	if portText != "" {
		var err error
		if port, err = parsePort(portText[1:]); err != nil {
			return addr{}, err
		}
	}
	ip, err := netip.ParseAddr(host)
	switch {
	case bracketed && (err != nil || !ip.Is6()):
		return addr{}, errors.New("brackets without an IPv6 address")
	case err == nil:
		return ipAddr(ip, port)
	}
	name, err := hostname.Normalize(host)
	if err != nil {
		return addr{}, err
	}
	// Keep the final dot: without it, a resolver would also try the search domains of resolv.conf.
	if strings.HasSuffix(host, ".") {
		name += "."
	}
	return addr{name: name, port: port}, nil
}

func ipAddr(ip netip.Addr, port uint16) (addr, error) {
	switch {
	case ip.Zone() != "":
		return addr{}, errors.New("address with a zone")
	case ip.IsUnspecified():
		return addr{}, errors.New("unspecified address") // a connection to it ends at this machine
	case ip.IsMulticast():
		return addr{}, errors.New("multicast address")
	}
	return addr{ip: ip, port: port}, nil
}

// parsePort accepts 1 to 5 digits. Without this check, strconv would accept a sign, and net.Dial
// would accept the name of a service such as "https".
func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 || len(s) > 5 || strings.Trim(s, "0123456789") != "" {
		return 0, errors.New("port is not a number from 1 to 65535")
	}
	return uint16(n), nil
}

// quote returns s in quotes for an error message. It shortens a long s.
func quote(s string) string {
	if len(s) > 80 {
		return strconv.Quote(s[:80]) + "…"
	}
	return strconv.Quote(s)
}
