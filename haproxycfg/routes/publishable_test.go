package routes

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPublishable(t *testing.T) {
	addrs := []netip.Addr{netip.MustParseAddr("192.0.2.1")}
	table := tableOf(t, "example.com/", "example.com/a", "edge.example.com/", "www.example.com/")
	for name, test := range map[string]struct {
		options ZoneOptions
		gone    []string
	}{
		"addresses":             {ZoneOptions{Origin: "example.com", Addrs: addrs}, nil},
		"target":                {ZoneOptions{Origin: "Example.com.", Target: "EDGE.example.com"}, []string{"example.com", "edge.example.com"}},
		"target and addresses":  {ZoneOptions{Origin: "example.com", Target: "edge.example.com", Addrs: addrs}, []string{"edge.example.com"}},
		"target is the origin":  {ZoneOptions{Origin: "example.com", Target: "example.com", Addrs: addrs}, nil},
		"target elsewhere":      {ZoneOptions{Origin: "example.com", Target: "edge.example.net", Addrs: addrs}, nil},
		"the origin as a whole": {ZoneOptions{Origin: "example.com", Target: "example.com"}, []string{"example.com"}},
	} {
		t.Run(name, func(t *testing.T) {
			before := len(table.routes)
			rest, problems := test.options.Publishable(table)
			require.Len(t, table.routes, before)
			require.Len(t, problems, len(test.gone))
			for i, host := range test.gone {
				require.NotContains(t, rest.Hosts(), host)
				require.Equal(t, "host", problems[i].Field)
				require.Contains(t, problems[i].Message, host+": it is the ")
			}
			require.Len(t, rest.Hosts(), len(table.Hosts())-len(test.gone))
			_, err := AppendZone(nil, rest, test.options)
			require.NoError(t, err)
			if _, err := AppendZone(nil, table, test.options); len(test.gone) > 0 {
				require.Error(t, err)
			}
		})
	}

	t.Run("underscores", func(t *testing.T) {
		table := tableOf(t, "a.example.com/", "a_b.example.com/", "*.a_b.example.com/", "x.a_b.example.com/", "a_b.example.net/")
		o := ZoneOptions{Origin: "example.com", Addrs: addrs}
		_, err := AppendZone(nil, table, o)
		require.ErrorContains(t, err, "*.a_b.example.com")
		rest, problems := o.Publishable(table)
		require.Equal(t, []string{"a.example.com", "a_b.example.net"}, rest.Hosts())
		require.Len(t, problems, 3)
		require.Contains(t, problems[0].Error(), "underscore")
		_, err = AppendZone(nil, rest, o)
		require.NoError(t, err)

		o = ZoneOptions{Origin: "example.com", Target: "edge.example.com"} // An alias may have an underscore.
		rest, problems = o.Publishable(table)
		require.Empty(t, problems)
		require.Equal(t, table, rest)
		zone, err := AppendZone(nil, table, o)
		require.NoError(t, err)
		require.Contains(t, string(zone), "\nx.a_b.example.com.\t300\tIN\tCNAME\tedge.example.com.\n")
	})

	t.Run("CDN", func(t *testing.T) {
		o := CDNOptions{Origin: "Edge.example.com"}
		rest, problems := o.Publishable(table)
		require.Len(t, problems, 1)
		require.Equal(t, []string{"example.com", "www.example.com"}, rest.Hosts())
		_, err := AppendCDN(nil, table, o)
		require.Error(t, err)
		_, err = AppendCDN(nil, rest, o)
		require.NoError(t, err)
	})

	t.Run("unusable options", func(t *testing.T) {
		for _, publishable := range []func(Table) (Table, []Problem){ZoneOptions{}.Publishable, CDNOptions{Origin: "*.x"}.Publishable} {
			rest, problems := publishable(table)
			require.Empty(t, problems)
			require.Equal(t, table, rest)
		}
	})
}
