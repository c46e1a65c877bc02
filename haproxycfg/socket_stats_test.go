package haproxycfg

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/headgate/headgate/internal/haproxyproc/haproxytest"
	"github.com/stretchr/testify/require"
)

func TestParseStats(t *testing.T) {
	got, err := parseStats("# svname,pxname,unheard,weight,status,agent_desc,slim,stot,hrsp_5xx,\n")
	require.ErrorContains(t, err, "not a list of stats")
	require.Nil(t, got)

	// Columns in an order of their own, a quoted field, columns that nobody knows.
	got, err = parseStats("# pxname,weight,unheard,svname,slim,status,last_agt,stot,hrsp_5xx,\n" +
		"web,50,x,s1,,DRAIN (agent),\"say \"\"hi\"\", twice\",7,3,\n" +
		"web,,,BACKEND,200,UP,,,,\n\n")
	require.NoError(t, err)
	require.Equal(t, []Stat{
		{Proxy: "web", Server: "s1", Weight: 50, Status: "DRAIN (agent)", LastAgent: `say "hi", twice`, Total: 7, Responses: [6]uint64{5: 3}},
		{Proxy: "web", Server: "BACKEND", Limit: 200, Status: "UP"},
	}, got)

	for _, text := range []string{"", "Unknown command.\n\n", "# \n", "# pxname,stot\nweb,many\n"} {
		_, err := parseStats(text)
		require.Error(t, err, "%q", text)
	}
}

func FuzzParseStats(f *testing.F) {
	f.Fuzz(func(t *testing.T, answer string) {
		all, err := parseStats(answer)
		if err != nil && all != nil {
			t.Fatal("both rows and an error")
		}
		for _, s := range all {
			if !strings.Contains(answer, "pxname") {
				t.Fatalf("%+v", s)
			}
		}
	})
}

func TestStatsOfARealProcess(t *testing.T) {
	port, _ := startAgent(t, "up ready 75% #at work")
	web := origin(t, "web", port)
	s := startSite(t, func(s *site) *Config { return s.config(web) })
	s.eventually(t, web.Name(), func(x Stat) bool { return x.Weight == 75 })
	for range 3 {
		_, err := s.get()
		require.NoError(t, err)
	}
	x := s.server(t, web.Name())
	require.Equal(t, "web", x.Proxy)
	require.Equal(t, "no check", x.Status)
	require.Equal(t, 75, x.UserWeight)
	require.Equal(t, web.Addr.String(), x.Addr)
	require.Equal(t, "L7OK", x.AgentStatus)
	require.EqualValues(t, 3, x.Total)
	require.EqualValues(t, 3, x.Responses[2])
	require.Zero(t, x.Limit)
	total := s.server(t, "BACKEND")
	require.EqualValues(t, 3, total.Requests)
	require.Equal(t, "UP", total.Status)

	file := filepath.Join(haproxytest.Dir(t), "state")
	require.NoError(t, s.stats.SaveServersState(t.Context(), file))
	state := onDisk(t, "", file)
	require.True(t, strings.HasPrefix(state, "1\n# be_id be_name srv_id srv_name srv_addr "), state)
	require.True(t, strings.HasSuffix(state, "\n") && !strings.HasSuffix(state, "\n\n"), state)
	require.Contains(t, state, " web 1 "+web.Name()+" 127.0.0.1 ")
	require.Error(t, s.stats.SaveServersState(t.Context(), filepath.Join(s.dir, "no", "such", "dir")))
}
