package runtimeapi_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg/runtimeapi"
)

const stateHeader = "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight srv_time_since_last_change" +
	" srv_check_status srv_check_result srv_check_health srv_check_state srv_agent_state bk_f_forced_id srv_f_forced_id srv_fqdn srv_port" +
	" srvrecord srv_use_ssl srv_check_port srv_check_addr srv_agent_addr srv_agent_port\n"

func TestParseServersState(t *testing.T) {
	// The rows come from HAProxy 3.0.11.
	got, err := runtimeapi.ParseServersState(stateHeader +
		"3 b 1 s0 127.0.0.3 0 1 100 100 146 8 2 4 14 0 0 0 - 1 - 0 0 - - 0\n" +
		"3 b 2 s1 ::1 2 12 7 100 4 1 0 4 6 2 0 0 - 80 - 0 0 - - 0\n" +
		"3 b 3 fqdn - 0 1 1 1 0 1 0 0 0 0 0 0 localhost 80 - 0 0 - - 0\n\n")
	require.NoError(t, err)
	require.Equal(t, []runtimeapi.ServerState{
		{
			BackendID: 3, Backend: "b", ID: 1, Name: "s0", Addr: netip.MustParseAddrPort("127.0.0.3:1"), Admin: runtimeapi.ForcedMaint,
			Weight: 100, InitialWeight: 100, Since: 146 * time.Second, CheckStatus: 8, CheckResult: 2, CheckHealth: 4,
			Check: runtimeapi.CheckConfigured | runtimeapi.CheckEnabled | runtimeapi.CheckPaused,
		},
		{
			BackendID: 3, Backend: "b", ID: 2, Name: "s1", Addr: netip.MustParseAddrPort("[::1]:80"), Op: runtimeapi.Running,
			Admin:  runtimeapi.ConfiguredMaint | runtimeapi.ForcedDrain,
			Weight: 7, InitialWeight: 100, Since: 4 * time.Second, CheckStatus: 1, CheckHealth: 4,
			Check: runtimeapi.CheckConfigured | runtimeapi.CheckEnabled, Agent: runtimeapi.CheckConfigured,
		},
		{
			BackendID: 3, Backend: "b", ID: 3, Name: "fqdn", Addr: netip.AddrPortFrom(netip.Addr{}, 80), FQDN: "localhost",
			Admin: runtimeapi.ForcedMaint, Weight: 1, InitialWeight: 1, CheckStatus: 1,
		},
	}, got)

	got, err = runtimeapi.ParseServersState(stateHeader)
	require.NoError(t, err)
	require.Empty(t, got)
	row := "3 b 1 s0 127.0.0.3 0 1 100 100 146 8 2 4 14 0 0 0 - 1 - 0 0 - - 0\n"
	got, err = runtimeapi.ParseServersState(stateHeader + strings.Replace(row, "146", "-1", 1))
	require.NoError(t, err)
	require.Zero(t, got[0].Since)
	for _, text := range []string{
		"", "1\n", "Permission denied\n\n", "2" + stateHeader[1:], strings.Replace(stateHeader, "srv_iweight", "x", 1),
		stateHeader + "3 b 1 s0\n", stateHeader + strings.Replace(row, " 8 2 ", " -8 2 ", 1), stateHeader + strings.Replace(row, " 1 - 0", " 65536 - 0", 1),
	} {
		_, err := runtimeapi.ParseServersState(text)
		require.ErrorContains(t, err, "runtimeapi: ", "%q", text)
	}
}

// TestParseServersStateOfEachVersion reads the answers that each version of HAProxy has given to
// the same commands; see testdata/servers-state.
func TestParseServersStateOfEachVersion(t *testing.T) {
	files, err := filepath.Glob("testdata/servers-state/*")
	require.NoError(t, err)
	require.Len(t, files, 4)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		rows, err := runtimeapi.ParseServersState(string(text))
		require.NoError(t, err)
		require.GreaterOrEqual(t, len(rows), 3, file)
		require.Equal(t, "b", rows[0].Backend)
	}
}

func FuzzParseServersState(f *testing.F) {
	files, _ := filepath.Glob("testdata/servers-state/*")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Fuzz(func(t *testing.T, text string) {
		rows, err := runtimeapi.ParseServersState(text)
		if err != nil && rows != nil {
			t.Fatal("both rows and an error")
		}
		for _, s := range rows {
			if s.Name == "" || s.Backend == "" || s.Weight < 0 || s.Op < 0 || !strings.Contains(text, s.Name) {
				t.Fatalf("%+v", s)
			}
		}
	})
}

// manyServers returns the state of n servers in 200 backends, and the same servers as wanted.
func manyServers(n int) (text string, wanted []runtimeapi.Backend) {
	var b strings.Builder
	b.WriteString(stateHeader)
	per := n / 200
	for i := range 200 {
		backend := runtimeapi.Backend{Name: fmt.Sprintf("service-%d", i)}
		for j := range per {
			addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i), byte(j)}), 8080)
			s := runtimeapi.Server{Name: addr.String(), Addr: addr, Weight: 100, Check: true}
			s.Add = fmt.Sprintf("add server %s/%s %s check weight 100 inter 10s maxconn 4", backend.Name, s.Name, addr)
			backend.Servers = append(backend.Servers, s)
			fmt.Fprintf(&b, "%d %s %d %s %s 2 0 100 100 146 8 2 4 6 0 0 0 - %d - 0 0 - - 0\n", i+3, backend.Name, j+1, s.Name, addr.Addr(), addr.Port())
		}
		wanted = append(wanted, backend)
	}
	return b.String(), wanted
}

func BenchmarkParseServersState(b *testing.B) {
	for _, n := range []int{1000, 15000} {
		b.Run(fmt.Sprintf("servers=%d", n), func(b *testing.B) {
			text, _ := manyServers(n)
			b.ReportAllocs()
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				if rows, err := runtimeapi.ParseServersState(text); err != nil || len(rows) != n {
					b.Fatal(len(rows), err)
				}
			}
		})
	}
}

// BenchmarkPlan makes plans in two cases: no server is missing, and one of a hundred servers is
// missing.
func BenchmarkPlan(b *testing.B) {
	for _, n := range []int{1000, 15000} {
		for _, missing := range []int{0, n / 100} {
			b.Run(fmt.Sprintf("servers=%d/missing=%d", n, missing), func(b *testing.B) {
				text, wanted := manyServers(n)
				rows, err := runtimeapi.ParseServersState(text)
				if err != nil {
					b.Fatal(err)
				}
				actual := runtimeapi.Actual{Version: runtimeapi.Version{Major: 3, Minor: 0}, Servers: rows[missing:]}
				for _, backend := range wanted {
					actual.Backends = append(actual.Backends, backend.Name)
				}
				b.ReportAllocs()
				for b.Loop() {
					if p := actual.Plan(wanted, wanted); len(p.Commands) != 3*missing {
						b.Fatal(len(p.Commands))
					}
				}
			})
		}
	}
}
