package specialaddr

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// found has at least one address of each row of the table, with its kind.
var found = map[string]Kind{
	"0.0.0.0": Unspecified, "0.255.255.255": Unspecified,
	"10.0.0.1": Private, "100.64.0.1": Private, "100.127.255.255": Private, "172.31.255.255": Private, "192.168.7.7": Private,
	"127.0.0.1": Loopback, "127.255.255.255": Loopback,
	"169.254.0.1": LinkLocal, "169.254.255.255": LinkLocal,
	"192.0.0.8": Reserved, "192.0.0.170": Reserved, "192.88.99.1": Reserved, "240.0.0.1": Reserved, "255.255.255.254": Reserved,
	"192.0.2.1": Documentation, "198.51.100.1": Documentation, "203.0.113.255": Documentation,
	"198.18.0.1": Benchmark, "198.19.255.255": Benchmark,
	"224.0.0.1": Multicast, "239.255.255.255": Multicast, "255.255.255.255": Broadcast,

	"::": Unspecified, "::1": Loopback,
	"100::1": Reserved, "100:0:0:1::1": Reserved, "2001:1::4": Reserved, "2001:1ff::1": Reserved,
	"2001:10::1": Reserved, "2001:2f::1": Reserved, "2001:30::1": Reserved, "5f00::1": Reserved, "200::1": Reserved, "3ff::1": Reserved,
	"2001:2::1": Benchmark, "2001:db8::1": Documentation, "3fff:fff::1": Documentation,
	"fc00::1": Private, "fdff::1": Private,
	"fe80::1": LinkLocal, "febf::1": LinkLocal, "fec0::1": LinkLocal, "feff::1": LinkLocal,
	"ff02::1": Multicast,

	"168.63.129.16": Metadata, "169.254.169.254": Metadata, "169.254.170.2": Metadata, "169.254.170.23": Metadata,
	"169.254.0.23": Metadata, "169.254.10.10": Metadata, "169.254.42.42": Metadata,
	"100.100.100.200": Metadata, "192.0.0.192": Metadata,
	"fd00:42::42": Metadata, "fd00:100::100:200": Metadata, "fd00:a9fe:a9fe::1": Metadata, "fd00:c1::a9fe:a9fe": Metadata,
	"fd00:ec2::254": Metadata, "fd00:ec2::23": Metadata, "fd20:ce::254": Metadata, "fe80::a9fe:a9fe": Metadata,
}

func TestFind(t *testing.T) {
	hit := map[netip.Prefix]bool{}
	for text, kind := range found {
		r, ok := Find(netip.MustParseAddr(text))
		require.True(t, ok, text)
		require.Equal(t, kind, r.Kind, text)
		require.NotEmpty(t, r.Source, text)
		hit[r.Prefix] = true
	}
	for _, r := range ranges {
		require.True(t, hit[r.Prefix], "no address of %v is tested", r.Prefix)
		require.Equal(t, r.Prefix.Masked(), r.Prefix)
		require.NotEmpty(t, r.Kind.String())
	}
	for _, text := range []string{
		"1.0.0.0", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0",
		"168.63.129.15", "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0", "192.0.0.9", "192.0.0.10",
		"192.0.1.0", "192.0.3.0", "192.31.196.1", "192.52.193.1", "192.88.98.255", "192.167.255.255", "192.175.48.1",
		"198.17.255.255", "198.20.0.0", "203.0.114.0", "223.255.255.255",
		"100:0:0:2::1", "2001:1::1", "2001:1::2", "2001:1::3", "2001:3::1", "2001:4:112::1", "2001::1", "2001:200::1",
		"2001:db9::1", "2620:4f:8000::1", "3ffe::1", "4000::1", "5eff::1", "5f01::1", "fbff::1",
	} {
		r, ok := Find(netip.MustParseAddr(text))
		require.False(t, ok, "%s is %v", text, r)
	}
	require.Equal(t, "link-local (RFC 3927)", mustFind(t, "169.254.1.1").String())
	require.Empty(t, Kind(0).String())
	require.Empty(t, Kind(99).String())
	_, ok := Find(netip.Addr{})
	require.False(t, ok)
}

func mustFind(t *testing.T, text string) Range {
	t.Helper()
	r, ok := Find(netip.MustParseAddr(text))
	require.True(t, ok, text)
	return r
}

func TestAppendForms(t *testing.T) {
	site := []netip.Prefix{
		netip.MustParsePrefix("2001:db8:64::/96"), netip.MustParsePrefix("2a00::/32"), netip.MustParsePrefix("2a01:db8:100::/40"),
		netip.MustParsePrefix("2a02:db8:122::/48"), netip.MustParsePrefix("2a03:db8:122:300::/56"), netip.MustParsePrefix("2a04:db8:122:344::/64"),
	}
	for text, want := range map[string][]string{
		"127.0.0.1":                   {"127.0.0.1"},
		"::ffff:127.0.0.1":            {"127.0.0.1"},
		"2a05::1":                     {"2a05::1"},
		"fe80::1%eth0":                {"fe80::1"},
		"::":                          {"::"},
		"::1":                         {"::1"},
		"::2":                         {"::2", "0.0.0.2"},
		"::127.0.0.1":                 {"::7f00:1", "127.0.0.1"},
		"::ffff:0:169.254.169.254":    {"::ffff:0:a9fe:a9fe", "169.254.169.254"},
		"64:ff9b::7f00:1":             {"64:ff9b::7f00:1", "127.0.0.1"},
		"64:ff9b:1::7f00:1":           {"64:ff9b:1::7f00:1", "127.0.0.1"},
		"64:ff9b:1:7f00:0:100::":      {"64:ff9b:1:7f00:0:100::", "127.0.0.1"},
		"64:ff9b:1:7f:0:1::":          {"64:ff9b:1:7f:0:1::", "127.0.0.1"},
		"64:ff9b:1:0:7f:0:100:0":      {"64:ff9b:1:0:7f:0:100:0", "127.0.0.1", "1.0.0.0"},
		"64:ff9b:1::":                 {"64:ff9b:1::", "0.0.0.0"},
		"2002:a9fe:a9fe::1":           {"2002:a9fe:a9fe::1", "169.254.169.254"},
		"2001:0:7f00:1:0:0:f5ff:fffe": {"2001:0:7f00:1::f5ff:fffe", "127.0.0.1", "10.0.0.1"},
		"2001:0:c000:1:0:0:80ff:fffe": {"2001:0:c000:1::80ff:fffe", "192.0.0.1", "127.0.0.1"},
		"2a05::5efe:7f00:1":           {"2a05::5efe:7f00:1", "127.0.0.1"},
		"2a05::200:5efe:7f00:1":       {"2a05::200:5efe:7f00:1", "127.0.0.1"},
		// The examples of RFC 6052 section 2.4, with other prefixes.
		"2001:db8:64::c000:221":        {"2001:db8:64::c000:221", "192.0.2.33"},
		"2a00:0:c000:221::":            {"2a00:0:c000:221::", "192.0.2.33"},
		"2a01:db8:1c0:2:21::":          {"2a01:db8:1c0:2:21::", "192.0.2.33"},
		"2a02:db8:122:c000:2:2100::":   {"2a02:db8:122:c000:2:2100::", "192.0.2.33"},
		"2a03:db8:122:3c0:0:221::":     {"2a03:db8:122:3c0:0:221::", "192.0.2.33"},
		"2a04:db8:122:344:c0:2:2100:0": {"2a04:db8:122:344:c0:2:2100:0", "192.0.2.33"},
	} {
		var got []string
		forms := AppendForms(nil, netip.MustParseAddr(text), site...)
		for _, a := range forms {
			got = append(got, a.String())
		}
		require.Equal(t, want, got, text)
	}
}

// AppendForms and Find together find the IPv4 loopback address in every form.
func TestFormsOfLoopback(t *testing.T) {
	for _, text := range []string{
		"127.0.0.1", "::ffff:127.0.0.1", "::127.0.0.1", "::ffff:0:127.0.0.1", "64:ff9b::127.0.0.1", "64:ff9b:1::127.0.0.1",
		"64:ff9b:1:7f00:0:100::", "2002:7f00:1::", "2001:0:7f00:1::", "2001::80ff:fffe", "2a00:1::5efe:127.0.0.1",
	} {
		forms := AppendForms(nil, netip.MustParseAddr(text))
		require.LessOrEqual(t, len(forms), MaxForms)
		require.True(t, slices.ContainsFunc(forms, func(a netip.Addr) bool {
			r, ok := Find(a)
			return ok && r.Kind == Loopback
		}), text)
	}
}

func TestFormsWithoutAllocation(t *testing.T) {
	addr := netip.MustParseAddr("64:ff9b:1::7f00:1")
	require.Zero(t, testing.AllocsPerRun(100, func() {
		var buf [MaxForms]netip.Addr
		for _, a := range AppendForms(buf[:0], addr) {
			_, _ = Find(a)
		}
	}))
}
