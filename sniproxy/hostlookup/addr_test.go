package hostlookup

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/internal/hostname"
)

func TestDialAddr(t *testing.T) {
	label := strings.Repeat("a", 63)
	for addr, want := range map[string]string{
		"10.0.0.24":                            "10.0.0.24:8443",
		"10.0.0.24:443":                        "10.0.0.24:443",
		"[2001:db8::1]:443":                    "[2001:db8::1]:443",
		"[2001:db8::1]":                        "[2001:db8::1]:8443",
		"2001:db8::1":                          "[2001:db8::1]:8443",
		"2001:DB8::1":                          "[2001:db8::1]:8443",
		"::1":                                  "[::1]:8443",
		"::ffff:10.0.0.1":                      "[::ffff:10.0.0.1]:8443",
		"backend":                              "backend:8443",
		"backend.internal:1":                   "backend.internal:1",
		"my_service.default.svc:65535":         "my_service.default.svc:65535",
		"3com.com":                             "3com.com:8443",
		"svc.cluster.local.":                   "svc.cluster.local.:8443",
		"svc.cluster.local.:80":                "svc.cluster.local.:80",
		"SVC.Cluster.Local:80":                 "svc.cluster.local:80",
		"bücher.example:80":                    "xn--bcher-kva.example:80",
		label + "." + label + ".example:00080": label + "." + label + ".example:80",
	} {
		got, err := Endpoint{Addr: addr}.DialAddr(8443)
		require.NoError(t, err, addr)
		require.Equal(t, want, got)
	}
	_, err := Endpoint{Addr: "10.0.0.24"}.DialAddr(0)
	require.ErrorContains(t, err, "no port")
}

func TestValidate(t *testing.T) {
	for addr, want := range map[string]string{
		"":                        "empty",
		":443":                    "empty name",
		"10.0.0.24:":              "port",
		"10.0.0.24:0":             "port",
		"10.0.0.24:65536":         "port",
		"10.0.0.24:+80":           "port",
		"10.0.0.24:https":         "port",
		"10.0.0.24:000080":        "port",
		"10.0.0.24:80:80":         "port",
		"10.0.0.256":              "a number",
		"10.0.0":                  "a number",
		"2130706433":              "a number", // some resolvers read 127.0.0.1
		"010.0.0.1":               "a number",
		"0.0.0.0":                 "unspecified",
		"[::]:443":                "unspecified",
		"224.0.0.1":               "multicast",
		"fe80::1%eth0":            "zone",
		"[fe80::1%eth0]:443":      "zone",
		"[10.0.0.1]:443":          "brackets",
		"[backend]:443":           "brackets",
		"[::1":                    "missing ]",
		"[::1]443":                "text after ]",
		"::1]:443":                "",
		"http://10.0.0.1":         "",
		"user@backend":            "at sign",
		"a b":                     "character other than",
		"backend\n":               "control character",
		"a.0x7f":                  "a number",
		"a\u200db.example":        "IDNA",
		"a..b":                    "empty label",
		".a":                      "empty label",
		"a..":                     "empty label",
		"-a.b":                    "hyphen",
		"a-.b":                    "hyphen",
		strings.Repeat("a", 64):   "63",
		strings.Repeat("a.", 128): "253",
		strings.Repeat("a", 300):  "253",
		strings.Repeat("a", 1100): "too long",
	} {
		err := Endpoint{Addr: addr}.Validate()
		require.ErrorContains(t, err, want, addr)
		require.ErrorContains(t, err, "hostlookup: endpoint ")
		require.LessOrEqual(t, len(err.Error()), 300)
	}
}

func isASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r >= utf8.RuneSelf }) < 0
}

func FuzzEndpoint(f *testing.F) {
	f.Fuzz(func(t *testing.T, s string, port uint16) {
		ep := Endpoint{Addr: s}
		if ep.Validate() != nil {
			if _, err := ep.DialAddr(port); err == nil {
				t.Fatalf("%q is not valid and yet dialled", s)
			}
			return
		}
		got, err := ep.DialAddr(port)
		if err != nil {
			if port == 0 {
				return
			}
			t.Fatalf("%q is valid, but: %v", s, err)
		}
		host, p, err := net.SplitHostPort(got)
		if err != nil || host == "" || p == "" || p == "0" {
			t.Fatalf("%q gives %q", s, got)
		}
		if again, err := (Endpoint{Addr: got}).DialAddr(1); err != nil || again != got {
			t.Fatalf("%q gives %q gives %q, %v", s, got, again, err)
		}
		if ip, err := netip.ParseAddr(host); err == nil {
			if ip.IsUnspecified() || ip.IsMulticast() || ip.Zone() != "" {
				t.Fatalf("%q gives %v", s, ip)
			}
		} else if name, err := hostname.Normalize(host); err != nil || name != strings.TrimSuffix(host, ".") {
			t.Fatalf("%q gives the name %q, which is not in normal form: %v", s, host, err)
		} else if isASCII(s) && !strings.Contains(strings.ToLower(s), host) {
			t.Fatalf("%q gives the name %q", s, host)
		}
	})
}
