package deploy

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	proc26 = "#<PID>          <type>          <reloads>       <uptime>        <version>      \n" +
		"11519           master          2 [failed: 0]   0d00h00m34s     2.6.12-1+deb12u4\n" +
		"# workers\n" +
		"12233           worker          0               0d00h00m00s     2.6.12-1+deb12u4\n" +
		"# old workers\n" +
		"11523           worker          2               0d00h00m33s     2.6.12-1+deb12u4\n" +
		"11530           worker          1               0d00h00m20s     2.6.12-1+deb12u4\n" +
		"# programs\n\n"
	proc24 = "#<PID>          <type>          <relative PID>  <reloads>       <uptime>        <version>      \n" +
		"10              master          0               1               0d00h00m02s     2.4.1\n" +
		"# workers\n" +
		"# old workers\n" +
		"11              worker          [was: 1]        1               0d00h00m02s     2.4.1\n" +
		"# programs\n\n"
)

func TestParseProcesses(t *testing.T) {
	got, err := parseProcesses(proc26)
	require.NoError(t, err)
	require.Equal(t, []process{
		{pid: 11519, kind: "master", reloads: 2},
		{pid: 12233, kind: "worker"},
		{pid: 11523, kind: "worker", reloads: 2, old: true},
		{pid: 11530, kind: "worker", reloads: 1, old: true},
	}, got)
	require.Equal(t, "@!12233", currentWorker(got))
	require.Equal(t, "@!11530", currentWorker(append(got[:1:1], got[2:]...)), "the youngest old worker")
	require.Empty(t, currentWorker(got[:1]))

	got, err = parseProcesses(proc24)
	require.NoError(t, err)
	require.Equal(t, []process{
		{pid: 10, kind: "master", reloads: 1},
		{pid: 11, kind: "worker", reloads: 1, old: true},
	}, got)

	for _, text := range []string{
		"", "Unknown command.\n", "#<PID> <type> <uptime>\n1 master 0\n",
		strings.ReplaceAll(proc26, "master", "worker"), strings.ReplaceAll(proc26, "11519", "x"),
		strings.ReplaceAll(proc26, "12233  ", "-5"), "#<PID> <type> <reloads>\n1 master\n",
	} {
		_, err := parseProcesses(text)
		require.Error(t, err, "%q", text)
	}
}

func TestCompareProcesses(t *testing.T) {
	master := func(pid, reloads int) process { return process{pid: pid, kind: "master", reloads: reloads} }
	worker := func(pid int) process { return process{pid: pid, kind: "worker"} }
	old := func(pid int) process { return process{pid: pid, kind: "worker", reloads: 1, old: true} }
	before := []process{master(1, 4), worker(10)}
	for name, tc := range map[string]struct {
		now  []process
		want reloadState
	}{
		"not yet":               {[]process{master(1, 4), worker(10)}, reloadPending},
		"new worker":            {[]process{master(1, 5), worker(11), old(10)}, reloadDone},
		"new worker, old gone":  {[]process{master(1, 5), worker(11)}, reloadDone},
		"refused, 2.6":          {[]process{master(1, 5), worker(10)}, reloadRefused},
		"refused, 2.4":          {[]process{master(1, 5), old(10)}, reloadRefused},
		"another master":        {[]process{master(2, 0), worker(10)}, reloadDone},
		"another, without work": {[]process{master(2, 0)}, reloadRefused},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, tc.want, compareProcesses(before, tc.now)) })
	}
}

func FuzzParseProcesses(f *testing.F) {
	f.Fuzz(func(t *testing.T, answer string) {
		all, err := parseProcesses(answer)
		if err != nil {
			return
		}
		for _, p := range all {
			if p.pid <= 0 || p.reloads < 0 || p.kind == "" {
				t.Fatalf("%+v", p)
			}
		}
		if worker := currentWorker(all); worker != "" && !regexp.MustCompile(`^@![1-9][0-9]*$`).MatchString(worker) {
			t.Fatalf("worker %q", worker)
		}
		compareProcesses(all, all)
	})
}

func TestParseReloadAnswer(t *testing.T) {
	for answer, want := range map[string]struct {
		outcome reloadState
		log     string
	}{
		"":                                    {},
		"Loading\n":                           {},
		"not Success=1\n":                     {},
		"Success=1\n--\n[NOTICE] (1) : x\n\n": {reloadDone, "[NOTICE] (1) : x"},
		"Success=0\n--\n[ALERT] (1) : x\n":    {reloadRefused, "[ALERT] (1) : x"},
		"Success=0\n":                         {reloadRefused, ""},
		"\nSuccess=1\r\n--\n":                 {reloadDone, ""},
	} {
		outcome, log := parseReloadAnswer(answer)
		require.Equal(t, want.outcome, outcome, "%q", answer)
		require.Equal(t, want.log, log, "%q", answer)
	}
}

func FuzzParseReloadAnswer(f *testing.F) {
	f.Fuzz(func(t *testing.T, answer string) {
		outcome, log := parseReloadAnswer(answer)
		if outcome == reloadPending && log != "" || !strings.Contains(answer, log) {
			t.Fatal(outcome, log)
		}
		if outcome == reloadDone && !strings.Contains(answer, "Success=1") {
			t.Fatal("made up")
		}
		_ = (&ReloadError{Log: log}).Error()
	})
}
