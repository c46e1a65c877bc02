package peek_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/sniproxy/peek"
)

func TestNormalizeHost(t *testing.T) {
	label63 := strings.Repeat("a", 63)
	long253 := strings.Repeat(label63+".", 3) + strings.Repeat("b", 61)
	require.Len(t, long253, 253)
	for _, c := range []struct {
		host, want string
		err        error
	}{
		{"a.example", "a.example", nil},
		{"A.EXAMPLE", "a.example", nil},
		{"a.example.", "a.example", nil},
		{"a.example:443", "a.example", nil},
		{"a.example.:443", "a.example", nil},
		{"a.example:", "a.example", nil},
		{"localhost", "localhost", nil},
		{"1.example", "1.example", nil},
		{"0x7f.example", "0x7f.example", nil},
		{"1a", "1a", nil},
		{"a_b._c.example", "a_b._c.example", nil},
		{"r3---sn-x.example", "r3---sn-x.example", nil},
		{"xn--bcher-kva.example", "xn--bcher-kva.example", nil},
		{"xn--a", "xn--a", nil},
		{"bücher.example", "xn--bcher-kva.example", nil},
		{"BÜCHER.Example.:80", "xn--bcher-kva.example", nil},
		{"bu\u0308cher.example", "xn--bcher-kva.example", nil},
		{"faß.example", "xn--fa-hia.example", nil},
		{"例え。example", "xn--r8jz45g.example", nil},
		{"ｅｘａｍｐｌｅ．ｃｏｍ", "example.com", nil},
		{"bücher.example。", "xn--bcher-kva.example", nil},
		{long253, long253, nil},
		{long253 + ".", long253, nil},
		{long253 + ".:65535", long253, nil},
		{"", "", peek.ErrInvalidName},
		{".", "", peek.ErrInvalidName},
		{":80", "", peek.ErrInvalidName},
		{"..", "", peek.ErrInvalidName},
		{".a.example", "", peek.ErrInvalidName},
		{"a..example", "", peek.ErrInvalidName},
		{"a.example..", "", peek.ErrInvalidName},
		{"-a.example", "", peek.ErrInvalidName},
		{"a-.example", "", peek.ErrInvalidName},
		{"a.-", "", peek.ErrInvalidName},
		{"a b.example", "", peek.ErrInvalidName},
		{"a.example ", "", peek.ErrInvalidName},
		{"a.example, b.example", "", peek.ErrInvalidName},
		{"a.example/", "", peek.ErrInvalidName},
		{"a.example\\b", "", peek.ErrInvalidName},
		{"x@a.example", "", peek.ErrInvalidName},
		{"*.example", "", peek.ErrInvalidName},
		{"a%2eexample", "", peek.ErrInvalidName},
		{"a.example:http", "", peek.ErrInvalidName},
		{"a.example:0", "", peek.ErrInvalidName},
		{"a.example:65536", "", peek.ErrInvalidName},
		{"a.example:99999999999999999999", "", peek.ErrInvalidName},
		{"a.example:+80", "", peek.ErrInvalidName},
		{"a.example:80:80", "", peek.ErrInvalidName},
		{"a\xff.example", "", peek.ErrInvalidName},
		{"\u200d.example", "", peek.ErrInvalidName},
		{"xn--a\u0300.example\uffff", "", peek.ErrInvalidName},
		{"[a.example]", "", peek.ErrInvalidName},
		{"[", "", peek.ErrInvalidName},
		{"a.example\x00.evil", "", peek.ErrControlCharacter},
		{"a.example\r\n", "", peek.ErrControlCharacter},
		{"a\t.example", "", peek.ErrControlCharacter},
		{"a\x7f.example", "", peek.ErrControlCharacter},
		{"192.0.2.1", "", peek.ErrIPLiteral},
		{"192.0.2.1:80", "", peek.ErrIPLiteral},
		{"192.0.2.1.", "", peek.ErrIPLiteral},
		{"１９２.0.2.1", "", peek.ErrIPLiteral},
		{"127.1", "", peek.ErrIPLiteral},
		{"2130706433", "", peek.ErrIPLiteral},
		{"0x7f000001", "", peek.ErrIPLiteral},
		{"a.0x", "", peek.ErrIPLiteral},
		{"a.0X7F", "", peek.ErrIPLiteral},
		{"example.1", "", peek.ErrIPLiteral},
		{"[::1]", "", peek.ErrIPLiteral},
		{"[::1]:443", "", peek.ErrIPLiteral},
		{"[fe80::1%eth0]", "", peek.ErrIPLiteral},
		{"::1", "", peek.ErrIPLiteral},
		{"2001:db8::1", "", peek.ErrIPLiteral},
		{"::ffff:192.0.2.1", "", peek.ErrIPLiteral},
		{label63 + "a.example", "", peek.ErrNameTooLong},
		{long253 + "b", "", peek.ErrNameTooLong},
		{strings.Repeat("a.", 127) + "a", "", peek.ErrNameTooLong},
		{strings.Repeat("ü", 64) + ".example", "", peek.ErrNameTooLong},
		{strings.Repeat("ü.", 2000), "", peek.ErrNameTooLong},
		{strings.Repeat("ü.", 60) + "a", "", peek.ErrNameTooLong},
	} {
		t.Run(strings.ReplaceAll(c.host, "/", "⁄"), func(t *testing.T) {
			got, err := peek.NormalizeHost(c.host)
			require.Equal(t, c.want, got)
			if c.err == nil {
				require.NoError(t, err)
				again, err := peek.NormalizeHost(got)
				require.NoError(t, err)
				require.Equal(t, got, again)
				return
			}
			require.ErrorIs(t, err, peek.ErrInvalidName)
			require.Equal(t, c.err.Error(), kind(t, err))
		})
	}
}

func TestNormalizeServerName(t *testing.T) {
	for _, c := range []struct {
		name, want string
		err        error
	}{
		{"A.Example.", "a.example", nil},
		{"xn--bcher-kva.example", "xn--bcher-kva.example", nil},
		{"a_b.example", "a_b.example", nil},
		{"bücher.example", "", peek.ErrInvalidName},
		{"a.example:443", "", peek.ErrInvalidName},
		{"[::1]", "", peek.ErrIPLiteral},
		{"", "", peek.ErrInvalidName},
		{"::1", "", peek.ErrIPLiteral},
		{"192.0.2.1", "", peek.ErrIPLiteral},
		{"fe80::1%eth0", "", peek.ErrIPLiteral},
		{"a.example\x00", "", peek.ErrControlCharacter},
		{strings.Repeat("a", 64), "", peek.ErrNameTooLong},
	} {
		got, err := peek.NormalizeServerName(c.name)
		require.Equal(t, c.want, got, c.name)
		if c.err == nil {
			require.NoError(t, err)
		} else {
			require.Equal(t, c.err.Error(), kind(t, err), c.name)
		}
	}
}

// The error has the reason and the place, and contains no bytes of the client.
func TestNameErrors(t *testing.T) {
	for host, want := range map[string]string{
		"a.exam\nple":     "peek: invalid host name: control character at byte 6",
		"a..example":      "peek: invalid host name: empty label at byte 2",
		"a.example:8o":    "peek: invalid host name: port that is not a number at byte 11",
		"a.10":            "peek: invalid host name: IP address: last label that is a number, as in an IP address, at byte 2",
		"ab.exa-.example": "peek: invalid host name: hyphen at the end of a label at byte 6",
	} {
		_, err := peek.NormalizeHost(host)
		require.EqualError(t, err, want)
	}
}

func TestNormalizeDoesNotAllocate(t *testing.T) {
	for _, name := range []string{"a.example", "a.example.", "a.example:443"} {
		require.Zero(t, testing.AllocsPerRun(100, func() { peek.NormalizeHost(name) })) //nolint:errcheck // above
	}
	require.Zero(t, testing.AllocsPerRun(100, func() { peek.NormalizeServerName("a.example.") })) //nolint:errcheck // above
}
