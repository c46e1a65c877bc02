package haproxycfg_test

import (
	"bytes"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/internal/configtest"
)

const mark = "M4RK"

// stringFields contains a setter for each string field of a Config.
var stringFields = []struct {
	name string
	set  func(c *haproxycfg.Config, s string)
}{
	{"Global.User", func(c *haproxycfg.Config, s string) { c.Global.User = s }},
	{"Global.Group", func(c *haproxycfg.Config, s string) { c.Global.Group = s }},
	{"Global.StatsSocket", func(c *haproxycfg.Config, s string) { c.Global.StatsSocket = "/" + s }},
	{"Global.StateFile", func(c *haproxycfg.Config, s string) { c.Global.StateFile = s }},
	{"Log.Address", func(c *haproxycfg.Config, s string) { c.Global.Logs = []haproxycfg.Log{{Address: s}} }},
	{"Log.Format", func(c *haproxycfg.Config, s string) { c.Global.Logs[0].Format = s }},
	{"Log.Facility", func(c *haproxycfg.Config, s string) { c.Global.Logs[0].Facility = s }},
	{"Log.Level", func(c *haproxycfg.Config, s string) { c.Global.Logs[0].Level = s }},
	{"RetryOn", func(c *haproxycfg.Config, s string) {
		c.Defaults.RetryOn = []haproxycfg.RetryEvent{haproxycfg.RetryEvent(s)}
	}},
	{"Frontend.Name", func(c *haproxycfg.Config, s string) { c.Frontends[0].Name = s }},
	{"Frontend.Monitor", func(c *haproxycfg.Config, s string) { c.Frontends[0].Monitor = "/" + s }},
	{"Frontend.Exporter", func(c *haproxycfg.Config, s string) { c.Frontends[0].Exporter = "/" + s }},
	{"Bind.Address", func(c *haproxycfg.Config, s string) { c.Frontends[0].Binds[0].Address = s }},
	{"Bind.Address socket", func(c *haproxycfg.Config, s string) { c.Frontends[0].Binds[0].Address = "unix@/" + s }},
	{"TLS.Certificates", func(c *haproxycfg.Config, s string) { c.Frontends[0].Binds[0].TLS.Certificates = s }},
	{"TLS.MinVersion", func(c *haproxycfg.Config, s string) { c.Frontends[0].Binds[0].TLS.MinVersion = s }},
	{"TLS.ALPN", func(c *haproxycfg.Config, s string) { c.Frontends[0].Binds[0].TLS.ALPN = []string{"h2", s} }},
	{"Backend.Name", func(c *haproxycfg.Config, s string) { c.Backends[0].Name, c.Frontends[0].DefaultBackend = s, s }},
	{"Backend.Balance", func(c *haproxycfg.Config, s string) { c.Backends[0].Balance = haproxycfg.Balance(s) }},
	{"Health.Path", func(c *haproxycfg.Config, s string) { c.Backends[0].Health.Path = "/" + s }},
	{"Health.Host", func(c *haproxycfg.Config, s string) { c.Backends[0].Health.Host = s }},
	{"Server.Track", func(c *haproxycfg.Config, s string) { c.Backends[0].Servers[1].Track = s }},
	{"Server.AgentSend", func(c *haproxycfg.Config, s string) { c.Backends[0].Servers[0].AgentSend = s }},
	{"Response.ContentType", func(c *haproxycfg.Config, s string) { c.Backends[1].Response.ContentType = s }},
	{"Response.Body", func(c *haproxycfg.Config, s string) { c.Backends[1].Response.Body = s }},
	{"Router.Hosts", func(c *haproxycfg.Config, s string) { c.Frontends[0].Router.Hosts = s; c.Maps[0].Name = s }},
	{"Map.Key", func(c *haproxycfg.Config, s string) { c.Maps[1].Entries[0].Key = s }},
	{"Map.Value", func(c *haproxycfg.Config, s string) { c.Maps[2].Entries[0].Value = s }},
	{"Variable.Name", func(c *haproxycfg.Config, s string) {
		c.Global.Variables[0].Name = s
		c.Backends[0].QueueLimit = s
		c.Frontends[1].Zones.Expected, c.Frontends[1].Zones.PanicBelow, c.Frontends[1].RetryBudget.Switch = s, s, s
	}},
	{"Backend.QueueLimit", func(c *haproxycfg.Config, s string) { c.Backends[0].QueueLimit = s }},
	{"Backend.Reuse", func(c *haproxycfg.Config, s string) { c.Backends[0].Reuse = haproxycfg.Reuse(s) }},
	{"Frontend.MonitorBackends", func(c *haproxycfg.Config, s string) {
		c.Frontends[0].Monitor, c.Frontends[0].MonitorBackends = "/m", []string{s}
	}},
	{"Zones.Other", func(c *haproxycfg.Config, s string) { c.Frontends[1].Zones.Other = s }},
	{"Zones.Panic", func(c *haproxycfg.Config, s string) { c.Frontends[1].Zones.Panic = s }},
	{"Zones.Expected", func(c *haproxycfg.Config, s string) { c.Frontends[1].Zones.Expected = s }},
	{"RetryBudget.Switch", func(c *haproxycfg.Config, s string) { c.Frontends[1].RetryBudget.Switch = s }},
	{"Server.Slot", func(c *haproxycfg.Config, s string) { c.Backends[2].Servers[0].Slot = s }},
	{"Log.Address socket", func(c *haproxycfg.Config, s string) { c.Global.Logs = []haproxycfg.Log{{Address: "/" + s}} }},
}

func fieldsConfig() *haproxycfg.Config {
	return &haproxycfg.Config{
		Global: haproxycfg.Global{Logs: []haproxycfg.Log{{Address: "stdout"}}, Variables: []haproxycfg.Variable{{Name: "n", Value: 1}}},
		Frontends: []haproxycfg.Frontend{
			{
				Name: "f", Binds: []haproxycfg.Bind{{Address: ":80", TLS: &haproxycfg.TLS{Certificates: "/certs"}}},
				Router: &haproxycfg.Router{Hosts: "h", Exact: "e", Prefix: "p"}, DefaultBackend: "b",
			},
			{
				Name: "z", Binds: []haproxycfg.Bind{{Address: ":81"}}, DefaultBackend: "answer",
				RetryBudget: &haproxycfg.RetryBudget{Percent: 20, PerSecond: 3, Switch: "n"},
				Zones:       &haproxycfg.Zones{Other: "slots", Expected: "n", Panic: "slots", PanicBelow: "n"},
			},
		},
		Backends: []haproxycfg.Backend{
			{Name: "b", Health: haproxycfg.Health{Path: "/h"}, Servers: []haproxycfg.Server{
				{Addr: netip.MustParseAddrPort("10.0.0.1:80"), Check: true, AgentPort: 9801, AgentSend: "x"},
				{Addr: netip.MustParseAddrPort("10.0.0.2:80")},
			}},
			{Name: "answer", Response: &haproxycfg.FixedResponse{Status: 200, Body: "x"}},
			{Name: "slots", Servers: []haproxycfg.Server{{Slot: "s1", Addr: netip.MustParseAddrPort("10.0.0.1:80"), Disabled: true}}},
		},
		Maps: []haproxycfg.Map{
			{Name: "h", Entries: []haproxycfg.MapEntry{{Key: "a", Value: "a"}}},
			{Name: "e", Entries: []haproxycfg.MapEntry{{Key: "a/x", Value: "answer"}}},
			{Name: "p", Entries: []haproxycfg.MapEntry{{Key: "a/", Value: "answer"}}},
		},
	}
}

// FuzzConfig sets one field of a Config to an arbitrary string. Either Validate rejects the Config,
// or the rendered text has the same words as the text for a harmless string, except that the
// arbitrary string stands in the place of the harmless one.
func FuzzConfig(f *testing.F) {
	for i := range stringFields {
		for _, s := range []string{"plain", "a b", "it's", `\`, `"$HOME"`, "x # y", "a#b", "x\nbackend y", "50%", "é\xff", "-f", "", "{", "roundrobin", "b/10.0.0.1:80-9801", "answer"} {
			f.Add(i, s)
		}
	}
	f.Fuzz(func(t *testing.T, field int, s string) {
		if field < 0 || field >= len(stringFields) {
			return
		}
		set := stringFields[field]
		harmless, c := fieldsConfig(), fieldsConfig()
		set.set(c, s)
		got, err := c.Render("/dir")
		if err != nil {
			require.ErrorIs(t, err, haproxycfg.ErrInvalid)
			return
		}
		set.set(harmless, mark)
		want, err := harmless.Render("/dir")
		if err != nil {
			// The field allows only certain values, such as paths, so the harmless string is
			// invalid. s must add no section, and must be one word if it contains spaces.
			require.ErrorIs(t, err, haproxycfg.ErrInvalid)
			sections, err := configtest.Parse(string(got[len(got)-1].Data))
			require.NoError(t, err)
			plain, err := fieldsConfig().Render("/dir")
			require.NoError(t, err)
			usual, err := configtest.Parse(string(plain[len(plain)-1].Data))
			require.NoError(t, err)
			require.Len(t, sections, len(usual))
			require.True(t, !strings.Contains(s, " ") || slices.ContainsFunc(sections, func(x configtest.Section) bool {
				return slices.ContainsFunc(x.Lines, func(words []string) bool { return slices.Contains(words, s) })
			}), "%s: %q is not one word", set.name, s)
			return
		}
		require.Len(t, got, len(want))
		for i := range want[:len(want)-1] {
			require.Equal(t, strings.ReplaceAll(string(want[i].Data), mark, s), string(got[i].Data), want[i].Name)
			require.Len(t, bytes.FieldsFunc(got[i].Data, configtest.IsBlank), 2)
		}
		wantSections, err := configtest.Parse(string(want[len(want)-1].Data))
		require.NoError(t, err)
		gotSections, err := configtest.Parse(string(got[len(got)-1].Data))
		require.NoError(t, err, "%s", set.name)
		if s == "" {
			return // the setting is left out
		}
		require.NoError(t, sameWords(wantSections, gotSections, set.name, s), "%s", set.name)
	})
}

// sameWords compares two texts. Where the second text contains s, the first text contains the
// constant "mark".
func sameWords(want, got []configtest.Section, field, s string) error {
	switch field {
	case "Health.Host":
		s = strings.ReplaceAll(s, "%", "%%")
	}
	if len(want) != len(got) {
		return errors.New("other sections")
	}
	for i := range want {
		w, g := append([][]string{want[i].Head}, want[i].Lines...), append([][]string{got[i].Head}, got[i].Lines...)
		if len(w) != len(g) {
			return errors.New("another number of lines")
		}
		for j := range w {
			words := slices.Clone(w[j])
			for k := range words {
				words[k] = strings.ReplaceAll(words[k], mark, s)
			}
			// The name of a map contains a hash of its content.
			if strings.Contains(strings.Join(g[j], " "), ".map") && len(words) == len(g[j]) {
				continue
			}
			if !slices.Equal(words, g[j]) {
				return errors.New("another line: " + strings.Join(g[j], " "))
			}
		}
	}
	return nil
}
