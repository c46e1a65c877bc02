package routes_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg/routes"
)

func TestParseName(t *testing.T) {
	for name, want := range map[string]routes.Route{
		"api.example.com":         {Host: "api.example.com", Path: "/"},
		"API.example.com./tracks": {Host: "api.example.com", Path: "/tracks"},
		"*.example.com/a/":        {Host: "*.example.com", Path: "/a"},
		"=api.example.com/a/":     {Host: "api.example.com", Path: "/a/", Exact: true},
	} {
		host, path, exact, err := routes.ParseName(name)
		require.NoError(t, err, name)
		got := routes.Route{Host: host, Path: path, Exact: exact}
		require.Equal(t, want, got, name)
		canonical, err := routes.CanonicalName(name)
		require.NoError(t, err)
		require.Equal(t, want.Name(), canonical)
		host, path, exact, err = routes.ParseName(got.Name())
		require.NoError(t, err)
		require.Equal(t, want, routes.Route{Host: host, Path: path, Exact: exact})
	}
	for _, name := range []string{"", "=", "/a", "10.0.0.1/", "a.example.com/a?b", "a.example.com//", "a b/"} {
		_, _, _, err := routes.ParseName(name)
		require.Error(t, err, name)
		_, err = routes.CanonicalName(name)
		require.Error(t, err, name)
	}
}

func FuzzParseName(f *testing.F) {
	f.Fuzz(func(t *testing.T, name string) {
		host, path, exact, err := routes.ParseName(name)
		if err != nil {
			return
		}
		r := routes.Route{Host: host, Path: path, Exact: exact}
		h, p, e, err := routes.ParseName(r.Name())
		if err != nil || h != host || p != path || e != exact {
			t.Fatalf("%q: %q: %q %q %v, %v", name, r.Name(), h, p, e, err)
		}
	})
}

func TestShiftNeedsTwoClusters(t *testing.T) {
	text := "routes:\n- host: a.example.com\n  shift: true\n  backends:\n  - {cluster: c1, namespace: n, service: s, port: 80}\n  - {cluster: c1, namespace: n, service: t, port: 80}\n"
	table, problems := routes.Parse("f.yaml", []byte(text))
	require.Empty(t, table.Routes())
	require.Len(t, problems, 1)
	require.Equal(t, "f.yaml:3: routes[0].shift: needs backends in at least two clusters", problems[0].Error())

	table, problems = routes.Parse("f.yaml", []byte(text[:len(text)-len("c1, namespace: n, service: t, port: 80}\n")]+"c2, namespace: n, service: t, port: 80}\n"))
	require.Empty(t, problems)
	require.True(t, table.Routes()[0].Shift)
	again, problems := routes.Parse("f.yaml", routes.AppendYAML(nil, table))
	require.Empty(t, problems)
	require.True(t, again.Routes()[0].Shift)
}
