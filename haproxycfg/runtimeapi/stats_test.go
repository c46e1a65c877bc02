package runtimeapi

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseStats(t *testing.T) {
	got, err := parseStats("# svname,pxname,unheard,weight,status,agent_desc,slim,stot,hrsp_5xx,\n")
	require.ErrorContains(t, err, "not a list of stats")
	require.Nil(t, got)

	// Columns in another order, a quoted field, and unknown columns.
	got, err = parseStats("# pxname,weight,unheard,svname,slim,status,last_agt,stot,hrsp_5xx,\n" +
		"web,50,x,s1,,DRAIN (agent),\"say \"\"hi\"\", twice\",7,3,\n" +
		"web,,,BACKEND,200,UP,,,,\n\n")
	require.NoError(t, err)
	require.Equal(t, []Stat{
		{Proxy: "web", Server: "s1", Weight: 50, Status: "DRAIN (agent)", LastAgent: `say "hi", twice`, Total: 7, Responses: [6]uint64{5: 3}},
		{Proxy: "web", Server: "BACKEND", Limit: 200, Status: "UP"},
	}, got)

	// HAProxy marks the last result while the next check runs.
	got, err = parseStats("# pxname,svname,check_status,agent_status,\nweb,s1,* L4OK,* L7OK,\n")
	require.NoError(t, err)
	require.Equal(t, []Stat{{Proxy: "web", Server: "s1", CheckStatus: "L4OK", AgentStatus: "L7OK"}}, got)

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

func TestCleanServersState(t *testing.T) {
	const good = "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state\n3 web 1 s1 10.0.0.1 2\n"
	for answer, want := range map[string]string{
		good:               good,
		good + "\n":        good,
		"\n\n" + good:      good,
		good[:len(good)-1]: good,
		"1\n# be_id be_name srv_id srv_name x\n\n": "1\n# be_id be_name srv_id srv_name x\n",
	} {
		got, err := cleanServersState(answer)
		require.NoError(t, err, "%q", answer)
		require.Equal(t, want, got)
	}
	for _, answer := range []string{"", "1\n", "2" + good[1:], "Permission denied\n", "1\nUnknown command\n", good + "\x00\n"} {
		_, err := cleanServersState(answer)
		require.Error(t, err, "%q", answer)
	}
}

func FuzzCleanServersState(f *testing.F) {
	f.Fuzz(func(t *testing.T, answer string) {
		got, err := cleanServersState(answer)
		if err != nil {
			return
		}
		if !strings.HasPrefix(got, "1") || !strings.HasSuffix(got, "\n") || !strings.Contains(answer, strings.TrimSuffix(got, "\n")) {
			t.Fatalf("%q", got)
		}
		if again, err := cleanServersState(got); err != nil || again != got {
			t.Fatalf("%q, %v", again, err)
		}
	})
}
